"""Writes a seeded network of the shape of ResNet-50 (100 MB) or ResNet-18, batch norms apart, and OUT.npz with an image and
its logits.

    python make_resnet.py OUT.onnx [--depth 18|50]

Fails where onnxruntime and the forward pass in NumPy differ by more than 1e-4 of the largest logit.
"""
import argparse
from pathlib import Path

import numpy as np
import onnx
from conv_net import Builder, activate, draw_conv, run_onnxruntime, save_reference, settle
from onnx import TensorProto, helper

# Channels inside, blocks, stride of the first block, and the growth of channels in a block: table 1 of
# https://arxiv.org/abs/1512.03385
STAGES = {
    18: [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)],
    50: [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)],
}
EXPANSION = {18: 1, 50: 4}


def max_pool(x):
    """3x3, stride 2, padded by 1; values are at least 0, so that padding with 0 changes nothing."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return windows[:, :, ::2, ::2].max((4, 5))


def draw_block(random, name, inputs, inside, stride, expansion):
    outputs = inside * expansion
    if expansion == 1:
        branch = [draw_conv(random, f"{name}.first", inputs, inside, 3, stride, activation="relu"),
                  draw_conv(random, f"{name}.second", inside, inside, 3)]
    else:
        branch = [draw_conv(random, f"{name}.reduce", inputs, inside, activation="relu"),
                  draw_conv(random, f"{name}.spatial", inside, inside, 3, stride, activation="relu"),
                  draw_conv(random, f"{name}.expand", inside, outputs)]
    shortcut = draw_conv(random, f"{name}.shortcut", inputs, outputs, 1, stride) if inputs != outputs else None
    return name, branch, shortcut


class Network:
    """`blocks` holds (name, branch, shortcut); `dense` and `bias` map the mean over the image to the logits."""

    def __init__(self, depth):
        random = np.random.default_rng(20260131)
        self.stem, self.blocks, inputs = draw_conv(random, "stem", 3, 64, 7, 2, activation="relu"), [], 64
        for inside, count, first_stride in STAGES[depth]:
            for place in range(count):
                name, stride = f"block{len(self.blocks)}", first_stride if place == 0 else 1
                self.blocks.append(draw_block(random, name, inputs, inside, stride, EXPANSION[depth]))
                inputs = inside * EXPANSION[depth]
        self.dense = random.normal(0, np.sqrt(1 / inputs), (1000, inputs)).astype(np.float32)
        self.bias = random.normal(0, 0.1, 1000).astype(np.float32)
        images = random.normal(0, 1, (2, 3, 224, 224)).astype(np.float32)
        self.image, self.logits = images[:1], self.settle(images)[:1]

    def settle(self, x):
        x = max_pool(settle(x, self.stem))
        for _, branch, shortcut in self.blocks:
            entry = settle(x, shortcut) if shortcut else x
            for layer in branch:
                x = settle(x, layer)
            x = activate(x + entry, "relu")
        return x.mean((2, 3)) @ self.dense.T + self.bias


def export(network):
    builder = Builder()

    def layer(x, layer):
        x = builder.batch_norm(builder.conv(x, layer), layer)
        return builder.node("Relu", [x], f"{layer.name}.relu") if layer.activation else x

    x = layer("image", network.stem)
    x = builder.node("MaxPool", [x], "stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for name, branch, shortcut in network.blocks:
        entry = layer(x, shortcut) if shortcut else x
        for part in branch:
            x = layer(x, part)
        x = builder.node("Relu", [builder.node("Add", [x, entry], f"{name}.add")], f"{name}.relu")
    x = builder.node("GlobalAveragePool", [x], "mean")
    x = builder.node("Flatten", [x], "flatten", axis=1)
    operands = [x, builder.tensor("dense.weight", network.dense), builder.tensor("dense.bias", network.bias)]
    builder.node("Gemm", operands, "dense", transB=1)
    builder.nodes[-1].output[0] = "logits"
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])]
    graph = helper.make_graph(builder.nodes, "resnet", inputs, outputs, builder.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--depth", type=int, choices=STAGES, default=50)
    arguments = parser.parse_args()
    path, network = arguments.path, Network(arguments.depth)
    model = export(network)
    onnx.save(model, path)
    logits = run_onnxruntime(path, [network.image])[0]
    save_reference(path.with_suffix(".npz"), model, [network.image], [logits])
    difference = abs(logits - network.logits).max() / abs(network.logits).max()
    print(f"{len(model.graph.node)} nodes, {path.stat().st_size} bytes, difference {difference:.1e}")
    assert difference < 1e-4


if __name__ == "__main__":
    main()
