"""Convolutional layers with batch norms: drawn at random, settled on real statistics, evaluated in NumPy.

Images are [N,C,H,W], weights [O,I/groups,kh,kw].
"""
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

EPSILON = 1e-5


@dataclass
class ConvBn:
    """A convolution, a batch norm, and an activation: None, "relu" or "relu6". `padding` holds rows and columns of zeros on
    both sides; None pads by kernel // 2."""

    name: str
    weight: np.ndarray
    stride: int = 1
    groups: int = 1
    activation: str | None = None
    gamma: np.ndarray = None
    beta: np.ndarray = None
    mean: np.ndarray = None
    variance: np.ndarray = None
    padding: tuple | None = None

    @property
    def kernel(self):
        return self.weight.shape[2]

    @property
    def pads(self):
        return self.padding or tuple(extent // 2 for extent in self.weight.shape[2:])

    @property
    def pad(self):
        return self.kernel // 2


def draw_conv(random, name, inputs, outputs, kernel=1, stride=1, groups=1, activation=None):
    fan_in = inputs // groups * kernel * kernel
    shape = (outputs, inputs // groups, kernel, kernel)
    weight = random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    gamma = random.uniform(0.5, 1.5, outputs).astype(np.float32)
    beta = random.uniform(-0.3, 0.3, outputs).astype(np.float32)
    return ConvBn(name, weight, stride, groups, activation, gamma, beta)


def convolve(x, layer):
    """One product for each place of the kernel; `groups` is 1 or the number of channels."""
    assert layer.groups in (1, x.shape[1])
    (rows, columns), pads, stride = layer.weight.shape[2:], layer.pads, layer.stride
    height, width = (
        (extent + 2 * pad - kernel) // stride + 1
        for extent, pad, kernel in zip(x.shape[2:], pads, (rows, columns), strict=True)
    )
    padded = np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in pads)))
    total = np.zeros((len(x), len(layer.weight), height, width), np.float32)
    for i in range(rows):
        for j in range(columns):
            part = padded[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            w = layer.weight[:, :, i, j]
            if layer.groups == 1:
                total += (w @ part.reshape(*part.shape[:2], -1)).reshape(total.shape)
            else:
                total += part * w[:, :, None]
    return total


def activate(x, activation):
    if activation is None:
        return x
    return np.clip(x, 0, {"relu": np.inf, "relu6": 6}[activation])


def settle(x, layer):
    """Takes the statistics of the batch norm from `x`, so that folding is a real test and values keep their range."""
    x = convolve(x, layer)
    layer.mean, layer.variance = x.mean((0, 2, 3)), x.var((0, 2, 3)) + np.float32(1e-3)
    scale = layer.gamma / np.sqrt(layer.variance + EPSILON)
    x = (x - layer.mean[:, None, None]) * scale[:, None, None] + layer.beta[:, None, None]
    return activate(x, layer.activation).astype(np.float32)


def run_onnxruntime(path, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def save_reference(path, model, inputs, outputs):
    """Inputs and outputs of one run in graph order: in_0.., out_0.., input_names, output_names."""
    constants = {tensor.name for tensor in model.graph.initializer}
    arrays = {f"in_{place}": array for place, array in enumerate(inputs)}
    arrays |= {f"out_{place}": array for place, array in enumerate(outputs)}
    arrays["input_names"] = np.array([port.name for port in model.graph.input if port.name not in constants])
    arrays["output_names"] = np.array([port.name for port in model.graph.output])
    np.savez_compressed(path, **arrays)


class Builder:
    """Collects nodes and initialisers of a graph; every value is named after the node that makes it."""

    def __init__(self):
        self.nodes, self.tensors = [], []

    def tensor(self, name, array):
        if all(known.name != name for known in self.tensors):
            self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator, inputs, name, **attributes):
        self.nodes.append(onnx.helper.make_node(operator, inputs, [f"{name}.out"], name, **attributes))
        return f"{name}.out"

    def conv(self, x, layer, **padding):
        padding = padding or {"pads": [*layer.pads] * 2}
        return self.node(
            "Conv", [x, self.tensor(f"{layer.name}.weight", layer.weight)], f"{layer.name}.conv",
            kernel_shape=[*layer.weight.shape[2:]], strides=[layer.stride] * 2, group=layer.groups, **padding)

    def batch_norm_tensors(self, layer):
        parts = {"gamma": layer.gamma, "beta": layer.beta, "mean": layer.mean, "variance": layer.variance}
        return [self.tensor(f"{layer.name}.{part}", array) for part, array in parts.items()]

    def batch_norm(self, x, layer):
        return self.node(
            "BatchNormalization", [x, *self.batch_norm_tensors(layer)], f"{layer.name}.bn", epsilon=EPSILON)
