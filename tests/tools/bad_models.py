"""Writes models that a compiler must refuse (or survive), and manifest.json, which says what is expected of each.

    python bad_models.py OUTDIR [--sample sample/digits.onnx]

manifest.json: {NAME: {"expect": "error" | "ok" | "either", "culprits": [..]}} for OUTDIR/NAME.onnx.
    error   is refused; the message contains every culprit: the name of a node, a tensor, an operator or the file
    ok      compiles
    either  compiles or is refused, but ends in order
Faulty nodes are named `bad`, faulty tensors `faulty`. Fails where onnxruntime refuses what is expected to compile.
"""
import argparse
import json
import os
import struct
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from conv_net import run_onnxruntime
from onnx import TensorProto, helper, numpy_helper

FAR = 2**31
DIGITS = Path(__file__).parents[2] / "sample/digits.onnx"


def model(body, x="float[1,4,8,8]", opset=17, functions="", **tensors):
    """A model `x -> y` from ONNX's text form, with initialisers: arrays or TensorProtos."""
    text = f'<ir_version: 8, opset_import: ["": {opset}, "local": 1, "com.example": 1]> '
    proto = onnx.parser.parse_model(f"{text} g ({x} x) => (float y) {{ {body} }} {functions}")
    proto.graph.output[0].type.Clear()
    for name, tensor in tensors.items():
        known = tensor if isinstance(tensor, TensorProto) else numpy_helper.from_array(np.asarray(tensor), name)
        proto.graph.initializer.append(known)
    return proto


def floats(*shape):
    return np.full(shape, 0.5, np.float32)


def conv(attributes="", weight=(2, 4, 3, 3)):
    return model(f"[bad] y = Conv <{attributes}> (x, w)" if attributes else "[bad] y = Conv (x, w)", w=floats(*weight))


def attributes():
    yield "stride_zero", conv("strides = [0, 0]")
    yield "stride_negative", conv("strides = [-1, 1]")
    yield "dilation_zero", conv("dilations = [0, 0]")
    yield "group_zero", conv("group = 0")
    yield "group_negative", conv("group = -4")
    yield "group_not_dividing", conv("group = 3")
    yield "pads_huge", conv(f"pads = [{FAR}, {FAR}, {FAR}, {FAR}]")
    yield "pads_overflowing", conv(f"pads = [{2**63 - 1}, 0, {2**63 - 1}, 0]")
    yield "pads_negative_beyond", conv("pads = [-8, -8, -8, -8]")
    yield "pads_too_few", conv("pads = [1, 1]")
    yield "stride_of_other_type", conv("strides = 1.5")
    yield "kernel_beyond_input", conv("pads = [0, 0, 0, 0]", (2, 4, 9, 9))
    yield "kernel_unlike_weight", conv("kernel_shape = [5, 5]")
    yield "pool_kernel_zero", model("[bad] y = MaxPool <kernel_shape = [0, 0]> (x)")
    yield "pool_without_kernel", model("[bad] y = MaxPool (x)")
    yield "softmax_axis", model("[bad] y = Softmax <axis = 9> (x)")
    yield "cast_to_unknown", model("[bad] y = Cast <to = 999> (x)")
    yield "transpose_repeats", model("[bad] y = Transpose <perm = [0, 1, 1, 3]> (x)")
    yield "transpose_beyond", model("[bad] y = Transpose <perm = [0, 1, 2, 7]> (x)")
    yield "constant_without_value", model("[bad] c = Constant () y = Add (x, c)")
    yield "einsum_garbage", model('[bad] y = Einsum <equation = "ab->->c"> (x)')
    yield "stride_huge", conv(f"strides = [{2**62}, 1], pads = [1, 1, 1, 1]")
    yield "pool_kernel_huge", model(f'[bad] y = MaxPool <kernel_shape = [{2**62}, 2], auto_pad = "SAME_UPPER"> (x)')
    yield "pool_kernel_huge_folded", model(
        f'[bad] c = MaxPool <kernel_shape = [{2**62}, 2], auto_pad = "SAME_UPPER"> (w) y = Add (x, c)', w=floats(1, 1, 8, 8))
    yield "cast_to_wrapped", model(f"[bad] y = Cast <to = {2**32 + 1}> (x)")
    yield "block_huge", model(f"[bad] y = DepthToSpace <blocksize = {2**32}> (x)")
    yield "parts_huge", model(f"[bad] y, z = Split <axis = 1, num_outputs = {2**62}> (x)", opset=18)
    yield "blocks_of_other_rank", model(
        "[bad] y = DequantizeLinear <axis = 1, block_size = 2> (q, w)", q=np.zeros((4, 8), np.int8), w=floats(4), opset=21)
    for name, scale in (("zero", 0), ("negative", -0.5), ("endless", np.inf), ("nan", np.nan)):
        scale = np.array([0.25, scale, 0.5, 0.5], np.float32)
        yield f"scale_{name}", model("[bad] q = QuantizeLinear (x, s) y = DequantizeLinear (q, s)", s=scale)
    yield "zero_point_missing", model(
        "q = QuantizeLinear (x, s) [bad] v = QLinearConv (q, s, , w, s, z, s, z) y = DequantizeLinear (v, s)",
        s=np.float32(0.5), z=np.uint8(0), w=np.ones((2, 4, 1, 1), np.uint8))
    yield "scale_of_weights_zero", model(
        "[bad] w = DequantizeLinear (q, s) y = Add (x, w)", q=np.ones((1, 4, 8, 8), np.int8), s=np.float32(0))
    empty = model("[bad] y = ConstantOfShape (s)", s=np.array([4]))
    empty.graph.node[0].attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(0, np.float32))))
    yield "fill_value_empty", empty
    yield "exponential_of_integers", model("[bad] y = Exp (x)", "int32[4]")


def shapes():
    yield "conv_channels", conv("", (2, 5, 3, 3))
    yield "conv_rank", conv("", (2, 4, 3))
    yield "conv_without_weight", model("[bad] y = Conv (x)")
    yield "gemm_inner", model("[bad] y = Gemm (x, w)", "float[2,4]", w=floats(5, 3))
    yield "matmul_inner", model("[bad] y = MatMul (x, w)", w=floats(7, 3))
    yield "add_broadcast", model("[bad] y = Add (x, w)", w=floats(5))
    yield "concat_rank", model("[bad] y = Concat <axis = 1> (x, w)", w=floats(4, 8))
    yield "concat_extents", model("[bad] y = Concat <axis = 1> (x, w)", w=floats(1, 4, 8, 9))
    yield "reshape_impossible", model("[bad] y = Reshape (x, s)", s=np.array([3, -1]))
    yield "reshape_two_unknown", model("[bad] y = Reshape (x, s)", s=np.array([-1, -1]))
    yield "reshape_overflowing", model("[bad] y = Reshape (x, s)", s=np.array([2**40, 2**40]))
    yield "squeeze_wide_axis", model("[bad] y = Squeeze (x, s)", s=np.array([1]))
    yield "split_sum", model("[bad] y, z = Split <axis = 1> (x, s)", s=np.array([1, 2]))
    yield "slice_step_zero", model(
        "[bad] y = Slice (x, s, e, a, t)", s=np.array([0]), e=np.array([4]), a=np.array([2]), t=np.array([0]))
    yield "gather_beyond", model("[bad] y = Gather <axis = 1> (x, i)", i=np.array([99]))
    yield "gather_beyond_folded", model("[bad] c = Gather (w, i) y = Add (x, c)", w=floats(4), i=np.array([-5]))
    yield "expand_impossible", model("[bad] y = Expand (x, s)", s=np.array([1, 3, 8, 8]))
    yield "expand_overflowing", model("[bad] y = Expand (x, s)", "float[1,1,1]", s=np.array([FAR, FAR, FAR]))
    yield "tile_overflowing", model("[bad] y = Tile (x, s)", s=np.array([FAR, FAR, FAR, FAR]))
    yield "pad_overflowing", model("[bad] y = Pad (x, s)", s=np.array([0, 0, 0, 0, 2**62, 2**62, 2**62, 2**62]))
    yield "resize_by_zero", model("[bad] y = Resize (x, , s)", s=np.array([1, 1, 0, 0], np.float32))
    yield "range_endless", model(
        "[bad] c = Range (a, b, d) y = Add (x, c)", a=np.float32(0), b=np.float32(1), d=np.float32(0))
    yield "constant_of_shape_huge", model("[bad] y = ConstantOfShape (s)", s=np.array([2**40]))
    yield "constant_of_shape_overflowing", model("[bad] y = ConstantOfShape (s)", s=np.array([2**32, 2**32]))
    yield "range_of_nothing", model("[bad] c = Range (a, a, a) y = Add (x, c)", a=floats(0))
    yield "axes_too_many", model("[bad] y = Reshape (x, s)", "float[1]", s=np.ones(5000, np.int64))
    yield "zero_extent_hides_overflow", model("[bad] y = Reshape (x, s)", "float[0]", s=np.array([0, 2**40, 2**40]))
    yield "constant_of_shape_negative", model("[bad] y = ConstantOfShape (s)", s=np.array([-4]))


def tensor(name, shape, raw, element=TensorProto.FLOAT):
    return TensorProto(name=name, data_type=element, dims=shape, raw_data=raw)


def tensors():
    sum_with_faulty = "y = Add (x, faulty)"
    yield "raw_data_short", model(sum_with_faulty, faulty=tensor("faulty", [8], bytes(31)))
    yield "raw_data_long", model(sum_with_faulty, faulty=tensor("faulty", [8], bytes(33)))
    yield "dims_negative", model(sum_with_faulty, faulty=tensor("faulty", [-8], bytes(32)))
    yield "dims_overflowing", model(sum_with_faulty, faulty=tensor("faulty", [2**33, 2**31], b""))
    yield "element_type_unknown", model(sum_with_faulty, faulty=tensor("faulty", [8], bytes(32), 99))
    short = TensorProto(name="faulty", data_type=TensorProto.FLOAT, dims=[8], float_data=[1, 2, 3])
    yield "float_data_short", model(sum_with_faulty, faulty=short)
    strings = TensorProto(name="faulty", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    yield "strings", model("c = Identity (faulty) y = Add (x, c)", faulty=strings)
    sparse = model(sum_with_faulty)
    values = numpy_helper.from_array(floats(1), "faulty")
    indices = numpy_helper.from_array(np.array([3]), "faulty_indices")
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8]))
    yield "sparse_initialiser", sparse


def graph_inputs():
    def renamed(proto):
        proto.graph.input[0].name = proto.graph.node[0].input[0] = "faulty"
        return proto

    yield "input_extent_negative", renamed(model("y = Relu (x)", "float[1,-5]"))
    yield "input_overflowing", renamed(model("y = Relu (x)", f"float[{2**40},{2**40}]"))
    yield "input_too_large", renamed(model("y = Relu (x)", f"float[{2**45}]"))
    yield "input_dynamic", renamed(model("y = Relu (x)", "float[1,frames]"))
    yield "input_of_strings", renamed(model("y = Identity (x)", "string[2]"))


def structure():
    yield "undefined_operand", model("y = Add (x, faulty)"), "faulty"
    yield "cycle", model("[bad] a = Add (x, b) b = Relu (a) y = Relu (b)"), "bad"
    yield "own_operand", model("[bad] y = Add (x, y)"), "bad"
    yield "value_made_twice", model("faulty = Relu (x) faulty = Sigmoid (x) y = Add (faulty, faulty)"), "faulty"
    undefined = model("y = Relu (x)")
    undefined.graph.output[0].name = "faulty"
    yield "undefined_output", undefined, "faulty"
    unknown = "[first] a = Frobnicate (x) [second] b = Frobnicate (a) [third] y = Quux (b)"
    yield "operators_unknown", model(unknown), "Frobnicate", "Quux", "2"
    yield "domain_unknown", model("[bad] y = com.example.Relu (x)"), "com.example"
    yield "function_in_itself", model(
        "y = local.faulty (x)",
        functions='<opset_import: ["": 17, "local": 1], domain: "local"> faulty (a) => (b) { b = local.faulty (a) }'), "faulty"
    yield "opset_6", model("y = Relu (x)", opset=6), "6"
    yield "opset_99", model("y = Relu (x)", opset=99), "99"
    without = model("y = Relu (x)")
    del without.opset_import[:]
    yield "opset_missing", without, "opset"
    yield "graph_missing", onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]), "graph_missing"


def branch(body, result):
    return f"g () => (float {result}) {{ {body} }}"


def flow():
    branches = f"then_branch = {branch('t = Relu (x)', 't')}, else_branch = {branch('e = Sigmoid (x)', 'e')}"
    unknown = f"s = ReduceSum <keepdims = 0> (x) z = Constant <value_float = 0.0> () c = Greater (s, z) [bad] y = If (c) <{branches}>"
    yield "if_on_data", model(unknown), "bad"
    body = "g (int64 i, bool c, float a) => (bool d, float b) { d = Identity (c) b = Relu (a) }"
    yield "loop", model(f"[bad] y = Loop (m, c, x) <body = {body}>", m=np.int64(3), c=np.bool_(True)), "Loop"


def delimited(field, content):
    """A field of the wire format that holds bytes."""
    length, varint = len(content), b""
    while True:
        length, low = length >> 7, length & 127
        varint += bytes([low | (128 if length else 0)])
        if not length:
            return bytes([field << 3 | 2]) + varint + content


def nested_branches(depth):
    """If within If, each on a constant; bytes, since the library's own reader refuses this depth."""
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "leaf", [], [onnx.ValueInfoProto(name="r")])
    content = graph.SerializeToString()
    for level in range(depth):
        result = "y" if level == depth - 1 else f"y{level}"
        node = helper.make_node("If", ["c"], [result], else_branch=graph).SerializeToString()
        # then_branch: name, graph, and type GRAPH in field 20.
        node += delimited(5, delimited(1, b"then_branch") + delimited(6, content) + bytes([160, 1, 5]))
        shell = onnx.GraphProto(name=f"g{level}", output=[onnx.ValueInfoProto(name=result)])
        content = shell.SerializeToString() + delimited(1, node)
    shell = model("y = Identity (x)", c=np.bool_(True))
    content += b"".join(delimited(5, tensor.SerializeToString()) for tensor in shell.graph.initializer)
    content += b"".join(delimited(11, port.SerializeToString()) for port in shell.graph.input)
    shell.ClearField("graph")
    return shell.SerializeToString() + delimited(7, content)


def bombs():
    start_group = bytes([1 << 3 | 3])
    yield "node_bomb", delimited(7, bytes([1 << 3 | 2, 0]) * 5_000_000)
    yield "group_nesting", start_group * 2**20
    yield "group_nesting_in_graph", delimited(7, start_group * 2**20)
    yield "nested_branches", nested_branches(100)


def damage(sample):
    yield "empty_file", b""
    yield "text_file", b"This is no model, but a line of text.\n" * 100
    yield "zero_bytes", bytes(4096)
    for share in (0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        yield f"truncated_{share:.3f}".replace(".", "_"), sample[: int(share * len(sample))]
    yield "truncated_by_one", sample[:-1]


def flips(sample):
    """One bit each; early bytes hold names, shapes and attributes, later ones weights."""
    random = np.random.default_rng(20260131)
    places = np.concatenate([random.integers(0, 2048, 24), random.integers(0, len(sample), 24)])
    for place in places:
        bit = int(random.integers(0, 8))
        flipped = bytearray(sample)
        flipped[place] ^= 1 << bit
        yield f"flipped_{place}_{bit}", bytes(flipped)


def external(location, elements=8, **entries):
    faulty = TensorProto(name="faulty", data_type=TensorProto.FLOAT, dims=[elements])
    faulty.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        faulty.external_data.add(key=key, value=str(value))
    return model("y = Add (x, faulty)", faulty=faulty)


def external_data(folder):
    """All data exists and has the right size, except where that is the fault."""
    (folder / "external").mkdir(exist_ok=True)
    weights = struct.pack("<8f", *range(8))
    for place in (folder / "outside.data", folder / "external/weights.data"):
        place.write_bytes(weights)
    for name, make in (("symbolic.data", os.symlink), ("hard.data", os.link)):
        (folder / "external" / name).unlink(missing_ok=True)
        make("../outside.data" if make is os.symlink else folder / "outside.data", folder / "external" / name)
    yield "parent_folder", external("../outside.data")
    yield "parent_folder_inside", external("./../external/../outside.data")
    yield "absolute_path", external((folder / "outside.data").resolve())
    yield "symbolic_link", external("symbolic.data")
    yield "hard_link", external("hard.data")
    yield "folder", external(".")
    yield "location_empty", external("")
    yield "missing_file", external("nowhere.data")
    yield "offset_beyond", external("weights.data", offset=64, length=32)
    yield "offset_negative", external("weights.data", offset=-32)
    yield "offset_overflowing", external("weights.data", offset=2**64 - 16, length=32)
    yield "length_beyond", external("weights.data", offset=16, length=32)
    yield "length_of_other_shape", external("weights.data", offset=0, length=16)
    yield "file_too_short", external("weights.data", 16)


def good():
    """What the faulty models are varied from, and what only looks absurd."""
    yield "good_conv", conv()
    yield "good_sum", model("y = Add (x, w)", w=floats(8))
    yield "good_without_zero_points", model(
        "q = QuantizeLinear (x, s) v = DequantizeLinear (q, s) w = DequantizeLinear (c, s) y = Mul (v, w)",
        s=np.float32(0.02), c=np.arange(8, dtype=np.int8))
    branches = f"then_branch = {branch('t = Relu (x)', 't')}, else_branch = {branch('e = Sigmoid (x)', 'e')}"
    yield "good_if", model(f"y = If (c) <{branches}>", c=np.bool_(True))
    yield "good_function", model(
        "y = local.half (x)",
        functions='<opset_import: ["": 17], domain: "local"> half (a) => (b) { c = Constant <value_float = 0.5> () b = Mul (a, c) }')
    links = [helper.make_node("Relu", [f"v{n}" if n else "x"], [f"v{n + 1}"]) for n in range(20_000)]
    links[-1].output[0] = "y"
    chain = model("y = Relu (x)")
    del chain.graph.node[:]
    chain.graph.node.extend(links)
    yield "good_chain_of_20000", chain


def cases(folder, sample):
    """(name, expectation, culprits, bytes)."""
    for group, culprit in ((attributes(), "bad"), (shapes(), "bad"), (tensors(), "faulty"), (graph_inputs(), "faulty")):
        for name, proto in group:
            yield name, "error", [culprit], proto.SerializeToString()
    for group in (structure(), flow()):
        for name, proto, *culprits in group:
            yield name, "error", culprits, proto.SerializeToString()
    for group in (bombs(), damage(sample)):
        for name, content in group:
            yield name, "error", [name], content
    for name, content in flips(sample):
        yield name, "either", [], content
    for operator in ("Div", "Mod"):
        parts = model(f"c = {operator} (a, b) y = Add (x, c)", "int32[4]", a=np.full(4, -(2**31), np.int32), b=np.array([0, -1, 1, 0], np.int32))
        yield f"folded_{operator.lower()}_by_zero", "either", [], parts.SerializeToString()
    yield "zero_extent", "either", [], model("y = Relu (x)", "float[1,0,4]").SerializeToString()
    for name, proto in external_data(folder):
        yield f"external/{name}", "error", ["faulty"], proto.SerializeToString()
    yield "external/good", "ok", [], external("weights.data", offset=0, length=32).SerializeToString()
    for name, proto in good():
        yield name, "ok", [], proto.SerializeToString()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sample", type=Path, default=DIGITS, help="what is truncated and flipped")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    manifest = {}
    for name, expect, culprits, content in cases(arguments.folder, arguments.sample.read_bytes()):
        assert name not in manifest, name
        manifest[name] = {"expect": expect, "culprits": culprits}
        path = arguments.folder / f"{name}.onnx"
        path.write_bytes(content)
        if expect == "ok":
            shape = [extent.dim_value for extent in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
            run_onnxruntime(path, [floats(*shape)])
    (arguments.folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    counts = {expect: sum(entry["expect"] == expect for entry in manifest.values()) for expect in ("error", "either", "ok")}
    print(f"{len(manifest)} models: {counts}")


if __name__ == "__main__":
    main()
