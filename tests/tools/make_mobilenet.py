"""Writes one seeded MobileNetV2-shaped network as different exporters would.

    python make_mobilenet.py OUTDIR [--size 224] [--width 1.0] [--divisor 8] [--classes 1000]

opset11    Clip with bounds from initialisers, batch norms apart, initialisers repeated in the graph's inputs
opset17    a batch N, Constant nodes, ReduceMean, and a Reshape whose shape is computed
nhwc       image and activations [N,H,W,C], a Transpose around every convolution, batch norms as Mul and Add, Pad before
           a convolution with stride 2 and auto_pad elsewhere, as tf2onnx writes them
nchw_image the same with an image [N,C,H,W], as tf2onnx --inputs-as-nchw writes it
functions  convolution blocks and Relu6 as local functions, weights in functions.data

NAME.npz beside each holds an image and its logits. All compute one function; fails where onnxruntime, or the
forward pass in NumPy, differ by more than 1e-4 of the largest logit.
"""
import argparse
from pathlib import Path

import numpy as np
import onnx
from conv_net import EPSILON, Builder, draw_conv, run_onnxruntime, save_reference, settle
from onnx import TensorProto, helper, numpy_helper

# expansion, channels, blocks, stride of the first block: table 2 of https://arxiv.org/abs/1801.04381
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


class Network:
    """`blocks` holds (layers, residual); `dense` and `bias` map the mean over the image to the logits."""

    def __init__(self, arguments):
        random = np.random.default_rng(20260131)
        self.size, self.classes = arguments.size, arguments.classes

        def channels(base):
            scaled = base * arguments.width
            rounded = max(arguments.divisor, int(scaled + arguments.divisor / 2) // arguments.divisor * arguments.divisor)
            return rounded + arguments.divisor if rounded < 0.9 * scaled else rounded

        inputs = channels(32)
        self.blocks = [([draw_conv(random, "stem", 3, inputs, 3, 2, activation="relu6")], False)]
        for expansion, base, count, first_stride in STAGES:
            for place in range(count):
                name, stride = f"block{len(self.blocks)}", first_stride if place == 0 else 1
                outputs, wide = channels(base), inputs * expansion
                layers = [draw_conv(random, f"{name}.expand", inputs, wide, activation="relu6")] if expansion > 1 else []
                layers.append(draw_conv(random, f"{name}.depthwise", wide, wide, 3, stride, wide, "relu6"))
                layers.append(draw_conv(random, f"{name}.project", wide, outputs))
                self.blocks.append((layers, stride == 1 and inputs == outputs))
                inputs = outputs
        self.features = channels(1280)
        self.blocks.append(([draw_conv(random, "head", inputs, self.features, activation="relu6")], False))
        deviation = np.sqrt(1 / self.features)
        self.dense = random.normal(0, deviation, (self.classes, self.features)).astype(np.float32)
        self.bias = random.normal(0, 0.1, self.classes).astype(np.float32)
        # Enough images for the statistics of the last maps, which hold (size / 32)^2 places each.
        count = max(4, 2**17 // self.size**2)
        images = random.normal(0, 1, (count, 3, self.size, self.size)).astype(np.float32)
        self.image, self.logits = images[:1], self.settle(images)[:1]

    def settle(self, x):
        for layers, residual in self.blocks:
            entry = x
            for layer in layers:
                x = settle(x, layer)
            x = x + entry if residual else x
        return x.mean((2, 3)) @ self.dense.T + self.bias

    def body(self, builder, x, block_layer):
        """`block_layer(builder, value, layer)` writes one layer and returns its value."""
        for place, (layers, residual) in enumerate(self.blocks):
            entry = x
            for layer in layers:
                x = block_layer(builder, x, layer)
            x = builder.node("Add", [x, entry], f"block{place}.add") if residual else x
        return x

    def gemm(self, builder, features):
        operands = [features, builder.tensor("dense.weight", self.dense), builder.tensor("dense.bias", self.bias)]
        return builder.node("Gemm", operands, "dense", transB=1)


def finish(builder, logits, image_shape, network, opset, ir_version, functions=(), repeat=False):
    builder.nodes[-1].output[0] = "logits"
    assert logits == f"{builder.nodes[-1].name}.out"
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, image_shape)]
    if repeat:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in builder.tensors]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [image_shape[0], network.classes])]
    graph = helper.make_graph(builder.nodes, "mobilenet", inputs, outputs, builder.tensors)
    domains = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("local", 1)] if functions else [])
    return helper.make_model(graph, opset_imports=domains, ir_version=ir_version, functions=functions)


def opset11(network):
    builder = Builder()

    def layer(builder, x, layer):
        x = builder.batch_norm(builder.conv(x, layer), layer)
        if layer.activation is None:
            return x
        bounds = [builder.tensor("zero", np.float32(0)), builder.tensor("six", np.float32(6))]
        return builder.node("Clip", [x, *bounds], f"{layer.name}.relu6")

    x = network.body(builder, "image", layer)
    x = builder.node("GlobalAveragePool", [x], "mean")
    x = builder.node("Flatten", [x], "flatten", axis=1)
    x = network.gemm(builder, x)
    return finish(builder, x, [1, 3, network.size, network.size], network, 11, 6, repeat=True)


def opset17(network):
    builder = Builder()

    def constant(builder, name, array):
        return builder.node("Constant", [], name, value=numpy_helper.from_array(array))

    def layer(builder, x, layer):
        x = builder.batch_norm(builder.conv(x, layer), layer)
        if layer.activation is None:
            return x
        bounds = [constant(builder, f"{layer.name}.{name}", np.float32(bound)) for name, bound in (("min", 0), ("max", 6))]
        return builder.node("Clip", [x, *bounds], f"{layer.name}.relu6")

    x = network.body(builder, "image", layer)
    x = builder.node("ReduceMean", [x], "mean", axes=[2, 3], keepdims=1)
    shape = builder.node("Shape", [x], "shape")
    batch = builder.node("Gather", [shape, constant(builder, "first", np.int64(0))], "batch", axis=0)
    batch = builder.node("Unsqueeze", [batch, constant(builder, "axes", np.array([0]))], "batch.vector")
    shape = builder.node("Concat", [batch, constant(builder, "rest", np.array([-1]))], "shape.flat", axis=0)
    x = builder.node("Reshape", [x, shape], "flatten")
    x = network.gemm(builder, x)
    return finish(builder, x, ["N", 3, network.size, network.size], network, 17, 8)


def nhwc_body(builder, image, network):
    def layer(builder, x, layer):
        padding = {"pads": [0, 0, 0, 0]}
        if layer.stride == 2:
            pads = builder.tensor("pads", np.array([0, 1, 1, 0, 0, 1, 1, 0]))
            x = builder.node("Pad", [x, pads], f"{layer.name}.pad")
        elif layer.pad:
            # Along an axis with stride 1 and 3 places SAME_UPPER pads 1 on both sides.
            padding = {"auto_pad": "SAME_UPPER"}
        x = builder.node("Transpose", [x], f"{layer.name}.nchw", perm=[0, 3, 1, 2])
        x = builder.conv(x, layer, **padding)
        x = builder.node("Transpose", [x], f"{layer.name}.nhwc", perm=[0, 2, 3, 1])
        scale = layer.gamma / np.sqrt(layer.variance + np.float32(EPSILON))
        x = builder.node("Mul", [x, builder.tensor(f"{layer.name}.scale", scale)], f"{layer.name}.mul")
        shift = layer.beta - layer.mean * scale
        x = builder.node("Add", [x, builder.tensor(f"{layer.name}.shift", shift)], f"{layer.name}.add")
        if layer.activation is None:
            return x
        bounds = [builder.tensor("zero", np.float32(0)), builder.tensor("six", np.float32(6))]
        return builder.node("Clip", [x, *bounds], f"{layer.name}.relu6")

    x = network.body(builder, image, layer)
    x = builder.node("ReduceMean", [x], "mean", axes=[1, 2], keepdims=0)
    x = builder.node("MatMul", [x, builder.tensor("dense.weight", network.dense.T)], "dense.matmul")
    return builder.node("Add", [x, builder.tensor("dense.bias", network.bias)], "dense.add")


def nhwc(network):
    builder = Builder()
    logits = nhwc_body(builder, "image", network)
    return finish(builder, logits, [1, network.size, network.size, 3], network, 13, 7)


def nchw_image(network):
    builder = Builder()
    image = builder.node("Transpose", ["image"], "image.nhwc", perm=[0, 2, 3, 1])
    logits = nhwc_body(builder, image, network)
    return finish(builder, logits, [1, 3, network.size, network.size], network, 13, 7)


def function(name, inputs, nodes, attributes=()):
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, ["y"], nodes, domains, list(attributes))


def referring(node, *names):
    """Lets a node of a function take attributes from the call."""
    types = {"group": onnx.AttributeProto.INT}
    for name in names:
        attribute = onnx.AttributeProto(name=name, ref_attr_name=name, type=types.get(name, onnx.AttributeProto.INTS))
        node.attribute.append(attribute)
    return node


def local_functions():
    relu6 = function("Relu6", ["x"], [
        helper.make_node("Constant", [], ["low"], value_float=0.0),
        helper.make_node("Constant", [], ["high"], value_float=6.0),
        helper.make_node("Clip", ["x", "low", "high"], ["y"])])
    attributes = ["kernel_shape", "strides", "pads", "group"]
    operands = ["x", "weight", "gamma", "beta", "mean", "variance"]

    def conv_bn(result):
        return [referring(helper.make_node("Conv", ["x", "weight"], ["sum"]), *attributes),
                helper.make_node("BatchNormalization", ["sum", *operands[2:]], [result], epsilon=EPSILON)]

    activated = [*conv_bn("normal"), helper.make_node("Relu6", ["normal"], ["y"], domain="local")]
    return [relu6, function("ConvBn", operands, conv_bn("y"), attributes),
            function("ConvBnRelu6", operands, activated, attributes)]


def functions(network):
    builder = Builder()

    def layer(builder, x, layer):
        operands = [x, builder.tensor(f"{layer.name}.weight", layer.weight), *builder.batch_norm_tensors(layer)]
        return builder.node(
            "ConvBnRelu6" if layer.activation else "ConvBn", operands, layer.name, domain="local",
            kernel_shape=[layer.kernel] * 2, strides=[layer.stride] * 2, pads=[layer.pad] * 4, group=layer.groups)

    x = network.body(builder, "image", layer)
    x = builder.node("GlobalAveragePool", [x], "mean")
    x = builder.node("Flatten", [x], "flatten", axis=1)
    x = network.gemm(builder, x)
    return finish(builder, x, [1, 3, network.size, network.size], network, 17, 8, functions=local_functions())


def write(folder, name, model, network):
    path = folder / f"{name}.onnx"
    external = {}
    if name == "functions":
        (folder / f"{name}.data").unlink(missing_ok=True)
        external = {"save_as_external_data": True, "location": f"{name}.data", "size_threshold": 256}
    onnx.save(model, path, **external)
    onnx.checker.check_model(path)
    image = network.image.transpose(0, 2, 3, 1) if name == "nhwc" else network.image
    logits = run_onnxruntime(path, [image])[0]
    save_reference(folder / f"{name}.npz", model, [image], [logits])
    difference = abs(logits - network.logits).max() / abs(network.logits).max()
    print(f"{name}: {len(model.graph.node)} nodes, {path.stat().st_size} bytes, difference {difference:.1e}")
    assert difference < 1e-4, name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224, help="rows and columns of the image")
    parser.add_argument("--width", type=float, default=1.0, help="factor of all channels")
    parser.add_argument("--divisor", type=int, default=8, help="what channels are a multiple of")
    parser.add_argument("--classes", type=int, default=1000)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    network = Network(arguments)
    print(f"logits of deviation {network.logits.std():.2f}")
    for export in (opset11, opset17, nhwc, nchw_image, functions):
        write(arguments.folder, export.__name__, export(network), network)


if __name__ == "__main__":
    main()
