"""Writes a seeded network of the shape of Inception v3 (95 MB), batch norms apart, and OUT.npz with an image and its logits.

    python make_inception.py OUT.onnx

Fails where onnxruntime and the forward pass in NumPy differ by more than 1e-4 of the largest logit.
"""
import argparse
from pathlib import Path

import numpy as np
import onnx
from conv_net import Builder, ConvBn, run_onnxruntime, save_reference, settle
from onnx import TensorProto, helper

# A layer is (channels, rows and columns of the kernel, stride, whether it is padded to the same size). A block is a list of
# branches: a chain of layers and pools, whose last element may be a list of chains that continue side by side.
# https://arxiv.org/abs/1512.00567, as torchvision has it.


def conv(channels, kernel, stride=1, same=True):
    return channels, (kernel, kernel) if isinstance(kernel, int) else kernel, stride, same


def wide(pool):
    return [[conv(64, 1)], [conv(48, 1), conv(64, 5)], [conv(64, 1), conv(96, 3), conv(96, 3)], ["mean", conv(pool, 1)]]


def factored(inside):
    rows, columns = (7, 1), (1, 7)
    twice = [conv(inside, kernel) for kernel in (1, rows, columns, rows)]
    return [[conv(192, 1)], [conv(inside, 1), conv(inside, columns), conv(192, rows)], [*twice, conv(192, columns)],
            ["mean", conv(192, 1)]]


SPLIT = [[conv(384, (1, 3))], [conv(384, (3, 1))]]
LAST = [[conv(320, 1)], [conv(384, 1), SPLIT], [conv(448, 1), conv(384, 3), SPLIT], ["mean", conv(192, 1)]]
STEM = [conv(32, 3, 2, False), conv(32, 3, 1, False), conv(64, 3), "maximum", conv(80, 1), conv(192, 3, 1, False), "maximum"]
BLOCKS = [
    [STEM], wide(32), wide(64), wide(64),
    [[conv(384, 3, 2, False)], [conv(64, 1), conv(96, 3), conv(96, 3, 2, False)], ["maximum"]],
    factored(128), factored(160), factored(160), factored(192),
    [[conv(192, 1), conv(320, 3, 2, False)],
     [conv(192, 1), conv(192, (1, 7)), conv(192, (7, 1)), conv(192, 3, 2, False)], ["maximum"]],
    LAST, LAST,
]


class Network:
    """Draws weights, takes statistics and writes nodes in one walk."""

    def __init__(self):
        self.random, self.builder, self.count = np.random.default_rng(20260131), Builder(), 0
        images = self.random.normal(0, 1, (2, 3, 299, 299)).astype(np.float32)
        self.image = images[:1]
        x, value = images, "image"
        for block in BLOCKS:
            x, value = self.branches(block, x, value)
        dense = self.random.normal(0, np.sqrt(1 / x.shape[1]), (1000, x.shape[1])).astype(np.float32)
        bias = self.random.normal(0, 0.1, 1000).astype(np.float32)
        self.logits = (x.mean((2, 3)) @ dense.T + bias)[:1]
        value = self.builder.node("GlobalAveragePool", [value], "mean")
        value = self.builder.node("Flatten", [value], "flatten", axis=1)
        tensors = [self.builder.tensor("dense.weight", dense), self.builder.tensor("dense.bias", bias)]
        self.builder.node("Gemm", [value, *tensors], "dense", transB=1)
        self.builder.nodes[-1].output[0] = "logits"

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def branches(self, branches, x, value):
        results = [self.chain(branch, x, value) for branch in branches]
        if len(results) == 1:
            return results[0]
        arrays, values = zip(*results, strict=True)
        return np.concatenate(arrays, 1), self.builder.node("Concat", values, self.name("concat"), axis=1)

    def chain(self, layers, x, value):
        for layer in layers:
            if isinstance(layer, list):
                x, value = self.branches(layer, x, value)
            elif isinstance(layer, str):
                x, value = self.pool(layer, x, value)
            else:
                x, value = self.layer(layer, x, value)
        return x, value

    def layer(self, layer, x, value):
        channels, kernel, stride, same = layer
        shape = (channels, x.shape[1], *kernel)
        weight = self.random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        gamma = self.random.uniform(0.5, 1.5, channels).astype(np.float32)
        beta = self.random.uniform(-0.3, 0.3, channels).astype(np.float32)
        layer = ConvBn(self.name("conv"), weight, stride, 1, "relu", gamma, beta, padding=None if same else (0, 0))
        x = settle(x, layer)
        value = self.builder.batch_norm(self.builder.conv(value, layer), layer)
        return x, self.builder.node("Relu", [value], f"{layer.name}.relu")

    def pool(self, kind, x, value):
        """3x3: the maximum of every second window, or the mean of every window with zeros around the image."""
        if kind == "mean":
            x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        if kind == "mean":
            attributes = {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}
            return windows.mean((4, 5)), self.builder.node("AveragePool", [value], self.name("pool"), **attributes)
        attributes = {"kernel_shape": [3, 3], "strides": [2, 2]}
        return windows[:, :, ::2, ::2].max((4, 5)), self.builder.node("MaxPool", [value], self.name("pool"), **attributes)

    def model(self):
        inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 299, 299])]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])]
        graph = helper.make_graph(self.builder.nodes, "inception", inputs, outputs, self.builder.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    network = Network()
    model = network.model()
    onnx.save(model, path)
    logits = run_onnxruntime(path, [network.image])[0]
    save_reference(path.with_suffix(".npz"), model, [network.image], [logits])
    difference = abs(logits - network.logits).max() / abs(network.logits).max()
    print(f"{len(model.graph.node)} nodes, {path.stat().st_size} bytes, difference {difference:.1e}")
    assert difference < 1e-4


if __name__ == "__main__":
    main()
