"""Trains the sample: a small convolutional network on scikit-learn's handwritten digits, in NumPy, and writes it as ONNX.

    python train_digits.py        (needs numpy, scikit-learn, onnx, onnxruntime, pillow; about a minute)

Writes digits.onnx (batch norms not folded), digits-test.npz (the test split), digits-labels.txt and a picture of each
of five digits. Images are [N,1,8,8] with samples 0..1. Fails below 97 % of test accuracy, or where onnxruntime disagrees.
"""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

random = np.random.default_rng(1797)
EPSILON = 1e-5


class Conv:
    """3x3 or 1x1 convolution, padded to the same size; `groups` is 1 or the number of channels."""

    def __init__(self, inputs, outputs, kernel, groups=1):
        self.kernel, self.groups = kernel, groups
        scale = np.sqrt(2 / (inputs // groups * kernel * kernel))
        self.w = random.normal(0, scale, (outputs, inputs // groups, kernel, kernel)).astype(np.float32)

    def patches(self, x):
        pad = self.kernel // 2
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        return np.lib.stride_tricks.sliding_window_view(padded, (self.kernel, self.kernel), (2, 3))

    def forward(self, x, training):
        self.p = self.patches(x)
        equation = "nchwij,ocij->nohw" if self.groups == 1 else "nchwij,cij->nchw"
        return np.einsum(equation, self.p, self.w if self.groups == 1 else self.w[:, 0], optimize=True)

    def backward(self, d):
        flipped = self.w[:, :, ::-1, ::-1]
        if self.groups == 1:
            self.dw = np.einsum("nohw,nchwij->ocij", d, self.p, optimize=True)
            return np.einsum("nohwij,ocij->nchw", self.patches(d), flipped, optimize=True).astype(np.float32)
        self.dw = np.einsum("nchw,nchwij->cij", d, self.p, optimize=True)[:, None]
        return np.einsum("nchwij,cij->nchw", self.patches(d), flipped[:, 0], optimize=True)

    def parameters(self):
        return [("w", "dw")]


class BatchNorm:
    def __init__(self, channels):
        self.g, self.b = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        self.mean, self.var = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def forward(self, x, training):
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
            self.mean += 0.1 * (mean - self.mean)
            self.var += 0.1 * (var - self.var)
        else:
            mean, var = self.mean, self.var
        self.inverse = 1 / np.sqrt(var + EPSILON)
        self.n = (x - mean[:, None, None]) * self.inverse[:, None, None]
        return self.n * self.g[:, None, None] + self.b[:, None, None]

    def backward(self, d):
        self.dg, self.db = (d * self.n).sum((0, 2, 3)), d.sum((0, 2, 3))
        count = d.size / d.shape[1]
        inner = d - self.db[:, None, None] / count - self.n * self.dg[:, None, None] / count
        return inner * (self.g * self.inverse)[:, None, None]

    def parameters(self):
        return [("g", "dg"), ("b", "db")]


class Relu:
    def forward(self, x, training):
        self.positive = x > 0
        return x * self.positive

    def backward(self, d):
        return d * self.positive

    def parameters(self):
        return []


class MaxPool:
    def forward(self, x, training):
        n, c, h, w = x.shape
        self.blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
        self.y = self.blocks.max((3, 5))
        return self.y

    def backward(self, d):
        hit = self.blocks == self.y[:, :, :, None, :, None]
        n, c, h, _, w, _ = self.blocks.shape
        return (hit * d[:, :, :, None, :, None]).reshape(n, c, 2 * h, 2 * w)

    def parameters(self):
        return []


class Head:
    """Mean over the image, then a dense layer."""

    def __init__(self, inputs, outputs):
        self.w = random.normal(0, np.sqrt(1 / inputs), (inputs, outputs)).astype(np.float32)
        self.b = np.zeros(outputs, np.float32)

    def forward(self, x, training):
        self.shape, self.m = x.shape, x.mean((2, 3))
        return self.m @ self.w + self.b

    def backward(self, d):
        self.dw, self.db = self.m.T @ d, d.sum(0)
        n, c, h, w = self.shape
        return np.broadcast_to((d @ self.w.T)[:, :, None, None] / (h * w), self.shape)

    def parameters(self):
        return [("w", "dw"), ("b", "db")]


def block(inputs, outputs, kernel, groups=1):
    return [Conv(inputs, outputs, kernel, groups), BatchNorm(outputs), Relu()]


def network():
    return [*block(1, 16, 3), *block(16, 16, 3, 16), *block(16, 32, 1), MaxPool(),
            *block(32, 32, 3, 32), *block(32, 64, 1), Head(64, 10)]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def forward(layers, x, training=False):
    for layer in layers:
        x = layer.forward(x, training)
    return x


def train(layers, images, labels, epochs=40, batch=64):
    """Adam with a falling rate, images shifted by up to one sample."""
    state = {}
    step = 0
    for epoch in range(epochs):
        rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        for part in np.array_split(random.permutation(len(images)), len(images) // batch):
            shifted = np.roll(images[part], random.integers(-1, 2), 3)
            d = softmax(forward(layers, shifted, True))
            d[np.arange(len(part)), labels[part]] -= 1
            d /= len(part)
            for layer in reversed(layers):
                d = layer.backward(d)
            step += 1
            for place, layer in enumerate(layers):
                for name, gradient in layer.parameters():
                    g = getattr(layer, gradient)
                    m, v = state.setdefault((place, name), [0.0, 0.0])
                    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                    state[place, name] = [m, v]
                    move = rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
                    setattr(layer, name, (getattr(layer, name) - move).astype(np.float32))


def export(layers, path):
    nodes, tensors, value = [], [], "image"

    def tensor(name, array):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    for place, layer in enumerate(layers):
        name, result = f"{type(layer).__name__.lower()}{place}", f"value{place}"
        if isinstance(layer, Conv):
            pad = layer.kernel // 2
            nodes.append(helper.make_node("Conv", [value, tensor(f"{name}.w", layer.w)], [result], name,
                                          kernel_shape=[layer.kernel] * 2, pads=[pad] * 4, group=layer.groups))
        elif isinstance(layer, BatchNorm):
            inputs = [tensor(f"{name}.{n}", getattr(layer, n)) for n in ("g", "b", "mean", "var")]
            nodes.append(helper.make_node("BatchNormalization", [value, *inputs], [result], name, epsilon=EPSILON))
        elif isinstance(layer, Relu):
            nodes.append(helper.make_node("Relu", [value], [result], name))
        elif isinstance(layer, MaxPool):
            nodes.append(helper.make_node("MaxPool", [value], [result], name, kernel_shape=[2, 2], strides=[2, 2]))
        else:
            nodes += [helper.make_node("GlobalAveragePool", [value], ["mean"], "mean"),
                      helper.make_node("Flatten", ["mean"], ["features"], "flatten"),
                      helper.make_node("Gemm", ["features", tensor("head.w", layer.w), tensor("head.b", layer.b)],
                                       ["logits"], "head"),
                      helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1)]
        value = result
    graph = helper.make_graph(nodes, "digits", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
                              [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main():
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    parts = train_test_split(images, digits.target, digits.images, test_size=0.25, random_state=1797, stratify=digits.target)
    images, test_images, labels, test_labels, _, test_raw = parts
    layers = network()
    train(layers, images, labels)
    probabilities = softmax(forward(layers, test_images))
    accuracy = (probabilities.argmax(1) == test_labels).mean()
    print(f"test accuracy {accuracy:.4f} on {len(test_labels)} digits")
    assert accuracy >= 0.97
    export(layers, "digits.onnx")
    session = onnxruntime.InferenceSession("digits.onnx", providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"image": test_images})[0]
    print(f"largest difference to onnxruntime {abs(theirs - probabilities).max():.1e}")
    assert np.allclose(theirs, probabilities, atol=1e-4)
    np.savez("digits-test.npz", image=test_images, labels=test_labels.astype(np.int64), probabilities=theirs)
    names = "zero one two three four five six seven eight nine".split()
    with open("digits-labels.txt", "w") as file:
        file.write("\n".join(names) + "\n")
    for digit in (0, 3, 4, 7, 9):
        place = int(np.argmax((test_labels == digit) & (probabilities.argmax(1) == digit)))
        picture = Image.fromarray((test_raw[place] / 16 * 255).round().astype(np.uint8), "L")
        picture.resize((64, 64), Image.Resampling.NEAREST).save(f"{names[digit]}.png")


if __name__ == "__main__":
    main()
