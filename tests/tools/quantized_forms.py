"""Writes small models in the forms that quantization comes in, with what onnxruntime makes of them.

    quantized_forms.py FOLDER

NAME.onnx and NAME.npz (in_0, out_0, ..) for each: QOperator models with the operators of com.microsoft, dynamic
quantization, 16 bits, 4 bits in blocks, and the forms that onnxruntime's optimiser makes.
"""

import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

random = numpy.random.Generator(numpy.random.PCG64(5))
others = numpy.random.Generator(numpy.random.PCG64(6))


def numbers(*shape):
    return random.standard_normal(shape).astype(numpy.float32)


def constant(name, array):
    return numpy_helper.from_array(numpy.asarray(array), name)


def model(nodes, inputs, outputs, constants, opset=13, types=None):
    value = lambda name, shape: helper.make_tensor_value_info(name, (types or {}).get(name, TensorProto.FLOAT), shape)
    graph = helper.make_graph(
        nodes, "forms", [value(*each) for each in inputs], [value(*each) for each in outputs], constants
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def images():
    """Convolutions, a residual sum, gates, pools, a concat and a softmax."""
    node = helper.make_node
    constants = [
        constant("w0", numbers(16, 3, 3, 3) * 0.3), constant("b0", numbers(16)),
        constant("w1", numbers(16, 16, 3, 3) * 0.1), constant("b1", numbers(16)),
        constant("w2", numbers(16, 1, 3, 3) * 0.3), constant("b2", numbers(16)),
        constant("w3", numbers(32, 10) * 0.3), constant("b3", numbers(10)),
    ]
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], "conv0", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["c0"], ["l0"], "leaky0", alpha=0.1),
        node("Conv", ["l0", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        node("Sigmoid", ["c1"], ["s1"], "sigmoid1"),
        node("Mul", ["c1", "s1"], ["m1"], "mul1"),
        node("Add", ["m1", "l0"], ["a1"], "add1"),
        node("Conv", ["a1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1], group=16),
        node("Concat", ["c2", "l0"], ["k2"], "concat2", axis=1),
        node("AveragePool", ["k2"], ["p2"], "pool2", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p2"], ["g2"], "pool3"),
        node("Flatten", ["g2"], ["f2"], "flatten", axis=1),
        node("Gemm", ["f2", "w3", "b3"], ["d3"], "dense3"),
        node("Softmax", ["d3"], ["y"], "softmax", axis=1),
    ]
    return model(nodes, [("x", [1, 3, 32, 32])], [("y", [1, 10])], constants)


def words():
    """Matrix products with a norm and a gate between them."""
    node = helper.make_node
    constants = [
        constant("w0", numbers(24, 48) * 0.3), constant("b0", numbers(48)),
        constant("w1", numbers(48, 24) * 0.3), constant("b1", numbers(24)),
    ]
    nodes = [
        node("MatMul", ["x", "w0"], ["d0"], "dense0"),
        node("Add", ["d0", "b0"], ["a0"], "add0"),
        node("Relu", ["a0"], ["r0"], "relu0"),
        node("MatMul", ["r0", "w1"], ["d1"], "dense1"),
        node("Add", ["d1", "b1"], ["y"], "add1"),
    ]
    return model(nodes, [("x", [2, 7, 24])], [("y", [2, 7, 24])], constants)


def in_blocks(kind, opset=21):
    """Weights of 4 bits with a scale and a zero point for each block of 8 of the depth."""
    low, high = (-8, 7) if kind == TensorProto.INT4 else (0, 15)
    packed = lambda name, array: helper.make_tensor(name, kind, array.shape, pack(array), raw=True)
    weights, zeros = random.integers(low, high + 1, (16, 9)), random.integers(low, high + 1, (2, 9))
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], "weights", axis=0, block_size=8),
        helper.make_node("MatMul", ["x", "w"], ["y"], "dense"),
    ]
    constants = [packed("q", weights), packed("z", zeros), constant("s", numpy.abs(numbers(2, 9)) * 0.1 + 0.01)]
    return model(nodes, [("x", [3, 16])], [("y", [3, 9])], constants, opset)


def blocks_of_bits(bits, rows=3, depth=256, channels=64, block=32, zeros=False):
    """MatMulNBits of com.microsoft, with a bias."""
    blocks = -(-depth // block)
    integers = lambda *shape: others.integers(0, 1 << bits, shape)
    numbers = lambda *shape: others.standard_normal(shape).astype(numpy.float32)
    rows_of = lambda array: [pack(row) if bits == 4 else row.astype(numpy.uint8).tobytes() for row in array]
    packed = lambda array: numpy.frombuffer(b"".join(rows_of(array)), numpy.uint8)
    constants = [
        constant("q", packed(integers(channels, blocks * block)).reshape(channels, blocks, block * bits // 8)),
        constant("s", numpy.abs(numbers(channels * blocks)) * 0.1 + 0.01),
        constant("b", numbers(channels)),
    ]
    if zeros:
        constants.append(constant("z", packed(integers(channels, blocks))))
    node = helper.make_node(
        "MatMulNBits", ["x", "q", "s", "z" if zeros else "", "", "b"], ["y"], "dense", domain="com.microsoft",
        K=depth, N=channels, bits=bits, block_size=block,
    )
    return model([node], [("x", [rows, depth])], [("y", [rows, channels])], constants)


def wide_blocks():
    """A vector times weights of int8 with a scale for each 64 of the depth, by a QDQ pair's second half."""
    weights = others.integers(-128, 128, (512, 96)).astype(numpy.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], "weights", axis=0, block_size=64),
        helper.make_node("MatMul", ["x", "w"], ["d"], "dense"),
        helper.make_node("Relu", ["d"], ["y"], "relu"),
    ]
    constants = [constant("q", weights), constant("s", others.uniform(0.01, 0.1, (8, 96)).astype(numpy.float32))]
    return model(nodes, [("x", [1, 512])], [("y", [1, 96])], constants, 21)


def pack(array):
    halves = array.flatten().astype(numpy.int64) & 15
    if halves.size % 2:
        halves = numpy.append(halves, 0)
    return (halves[0::2] | halves[1::2] << 4).astype(numpy.uint8).tobytes()


def single(operator, inputs, constants, shape, output_shape, types=None, **attributes):
    """One operator of com.microsoft behind numbers that are quantised, and dequantised behind it."""
    node = helper.make_node(operator, inputs, ["q"], "only", domain="com.microsoft", **attributes)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["qx"], "quantize"),
        node,
        helper.make_node("DequantizeLinear", ["q", "sy", "zy"], ["y"], "dequantize"),
    ]
    scales = [constant("sx", numpy.float32(0.03)), constant("zx", numpy.uint8(120))]
    scales += [constant("sy", numpy.float32(0.02)), constant("zy", numpy.uint8(100))]
    return model(nodes, [("x", shape)], [("y", output_shape)], scales + constants, types=types)


def singles():
    part = [constant("sb", numpy.float32(0.05)), constant("zb", numpy.uint8(7))]
    part.append(constant("qb", random.integers(0, 256, (4, 6)).astype(numpy.uint8)))
    yield "select", single(
        "QLinearWhere", ["c", "qx", "sx", "zx", "qb", "sb", "zb", "sy", "zy"],
        part + [constant("c", random.integers(0, 2, (4, 6)).astype(bool))], [4, 6], [4, 6],
    )
    yield "padded_average", single(
        "QLinearAveragePool", ["qx", "sx", "zx", "sy", "zy"], [], [1, 3, 9, 9], [1, 3, 5, 5],
        kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=0,
    )
    yield "sums_in_scale", single(
        "QLinearConcat", ["sy", "zy", "qx", "sx", "zx", "qb", "sb", "zb"], part, [4, 6], [8, 6], axis=0,
    )
    weights = [constant("w", random.integers(-128, 128, (6, 8)).astype(numpy.int8))]
    weights += [constant("sw", numpy.abs(numbers(8)) * 0.01 + 0.002), constant("bias", numbers(8))]
    weights.append(constant("zw", numpy.zeros(8, numpy.int8)))
    dynamic = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "sw", "zw", "bias"], ["y"], "only", domain="com.microsoft")
    yield "dynamic_product", model([dynamic], [("x", [4, 6])], [("y", [4, 8])], weights)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["qx", "sx", "zx"], "quantize"),
        helper.make_node("MatMulIntegerToFloat", ["qx", "w", "sx", "sw", "zx", "zw", "bias"], ["y"], "only", domain="com.microsoft"),
    ]
    yield "product_to_float", model(nodes, [("x", [4, 6])], [("y", [4, 8])], weights)
    rows = [constant("wg", random.integers(-128, 128, (8, 6)).astype(numpy.int8)), constant("swg", numpy.float32(0.01))]
    rows += [constant("zwg", numpy.int8(0)), constant("bg", random.integers(-4000, 4000, 8).astype(numpy.int32))]
    yield "gemm", single(
        "QGemm", ["qx", "sx", "zx", "wg", "swg", "zwg", "bg", "sy", "zy"], rows, [4, 6], [4, 8], transB=1, alpha=0.5,
    )


def convolution(kernel, pads, groups, zero):
    """A convolution of integers whose zero point is known at run time; weights of u8 leave i8 where theirs is not 128."""
    inputs, outputs = 8, 8
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["qx", "sx", "zx"], "quantize"),
        helper.make_node("ConvInteger", ["qx", "w", "zx", "zw"], ["s"], "conv", pads=[pads] * 4, group=groups),
        helper.make_node("Cast", ["s"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    weights = random.integers(0, 256, (outputs, inputs // groups, kernel, kernel)).astype(numpy.uint8)
    extent = 9 + 2 * pads - kernel + 1
    constants = [constant("w", weights), constant("zw", numpy.uint8(zero))]
    return model(nodes, [("x", [1, inputs, 9, 9])], [("y", [1, outputs, extent, extent])], constants)


def convolutions():
    yield "pointwise", convolution(1, 0, 1, 128)
    yield "windows", convolution(3, 0, 1, 128)
    yield "windows_beyond", convolution(3, 0, 1, 120)
    yield "padded", convolution(3, 1, 1, 128)
    yield "padded_beyond", convolution(3, 1, 1, 120)
    yield "within_channels", convolution(3, 0, 8, 128)
    yield "within_channels_padded", convolution(3, 1, 8, 128)
    yield "within_channels_beyond", convolution(3, 1, 8, 120)


class Samples(CalibrationDataReader):
    def __init__(self, shape):
        self.rest = [{"x": numbers(*shape)} for _ in range(8)]

    def get_next(self):
        return self.rest.pop() if self.rest else None


def shape_of(path):
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    return [dim.dim_value for dim in dims]


def answer(folder, name):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = folder / f"{name}.onnx"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = numbers(*shape_of(path))
    outputs = session.run(None, {"x": x})
    numpy.savez(folder / f"{name}.npz", in_0=x, **{f"out_{place}": array for place, array in enumerate(outputs)})


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    path = lambda name: str(folder / f"{name}.onnx")
    sources = {"images": images(), "words": words()}
    for name, source in sources.items():
        onnx.save(source, path(f"float_{name}"))
    samples = lambda: Samples([1, 3, 32, 32])
    quantize_static(
        path("float_images"), path("operators"), samples(), quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
    )
    quantize_static(
        path("float_images"), path("operators_unsigned"), samples(), quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8,
    )
    quantize_static(
        path("float_images"), path("sixteen_bits"), samples(), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt16, weight_type=QuantType.QInt8, extra_options={"UseQDQContribOps": True},
    )
    quantize_dynamic(path("float_images"), path("dynamic_images"), op_types_to_quantize=["Conv"], weight_type=QuantType.QUInt8)
    quantize_dynamic(path("float_words"), path("dynamic_words"), weight_type=QuantType.QInt8)
    quantize_dynamic(path("float_words"), path("dynamic_words_per_channel"), weight_type=QuantType.QInt8, per_channel=True)
    onnx.save(in_blocks(TensorProto.INT4), path("int4"))
    onnx.save(in_blocks(TensorProto.UINT4), path("uint4"))
    names = ["operators", "operators_unsigned", "sixteen_bits", "dynamic_images", "dynamic_words"]
    names += ["dynamic_words_per_channel", "int4", "uint4"]
    for name, written in [*singles(), *convolutions()]:
        onnx.save(written, path(name))
        names.append(name)
    blocks = {
        "blocks_of_4_bits": blocks_of_bits(4),
        "blocks_of_4_bits_zeros": blocks_of_bits(4, rows=1, depth=208, block=16, zeros=True),
        "blocks_of_4_bits_rows": blocks_of_bits(4, rows=40, block=128),
        "blocks_of_4_bits_rest": blocks_of_bits(4, depth=200, channels=66),
        "blocks_of_8_bits": blocks_of_bits(8, rows=7, block=64),
        "blocks_of_8_bits_zeros": blocks_of_bits(8, zeros=True),
        "blocks_of_int8": wide_blocks(),
    }
    for name, written in blocks.items():
        onnx.save(written, path(name))
        names.append(name)
    for name in names:
        answer(folder, name)


if __name__ == "__main__":
    main()
