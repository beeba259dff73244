"""Gives the `light` networks of ONNX, whose weights are all alike, seeded random weights and a reference run.

    python light_random.py OUTDIR --light DIR [NAME ..]

Every light_NAME.onnx of DIR, or those named, becomes OUTDIR/light_NAME.onnx and .npz, 1.4 GB in all (vgg19: 0.6 GB).
Fails where the outputs of onnxruntime are constant or one class takes nearly all.
"""
import argparse
import math
import zlib
from pathlib import Path

import numpy as np
import onnx
from conv_net import run_onnxruntime, save_reference
from onnx import TensorProto, helper, numpy_helper

# Operator and operand place -> what the operand is.
ROLES = {("Conv", 1): "weight", ("Conv", 2): "shift", ("Gemm", 1): "weight", ("Gemm", 2): "shift",
         ("BatchNormalization", 1): "factor", ("BatchNormalization", 2): "shift",
         ("BatchNormalization", 3): "shift", ("BatchNormalization", 4): "factor",
         ("Mul", 1): "factor", ("Add", 1): "shift"}


def role(graph, name):
    """What a constant is to the node that reads it, looking through nodes that only change its shape."""
    for node in graph.node:
        for place, operand in enumerate(node.input):
            if operand == name and node.op_type in ("Unsqueeze", "Reshape") and place == 0:
                return role(graph, node.output[0])
            if operand == name:
                return node.op_type, ROLES.get((node.op_type, place))
    return None, None


def draw(random, operator, kind, shape):
    if kind == "factor":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if kind == "shift":
        return random.uniform(-0.1, 0.1, shape).astype(np.float32)
    fan_in = math.prod(shape[1:]) if operator == "Conv" else shape[-1]
    return random.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))


def constant_shapes(graph):
    """Name -> shape of every float constant that is drawn: made by ConstantOfShape, or an initialiser."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {name: tuple(tensor.dims) for name, tensor in known.items() if tensor.data_type == TensorProto.FLOAT}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shapes[node.output[0]] = tuple(int(extent) for extent in numpy_helper.to_array(known[node.input[0]]))
    return shapes


def draw_all(graph, random):
    drawn = {}
    for name, shape in sorted(constant_shapes(graph).items()):
        operator, kind = role(graph, name)
        if kind:
            drawn[name] = draw(random, operator, kind, shape)
    return drawn


def rebuilt(model, drawn):
    """The model with drawn constants as initialisers."""
    graph = model.graph
    nodes = [node for node in graph.node if node.output[0] not in drawn]
    read = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read and tensor.name not in drawn]
    constants = {tensor.name for tensor in graph.initializer} | set(drawn)
    inputs = [port for port in graph.input if port.name not in constants]
    for name, array in drawn.items():
        tensors.append(numpy_helper.from_array(array, name))
    # Version 3 of the format wants initialisers among the inputs.
    repeated = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    light = helper.make_graph(nodes, graph.name, [*inputs, *repeated], list(graph.output), tensors)
    return helper.make_model(light, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def inputs_of(model, random):
    constants = {tensor.name for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in constants]
    shapes = [[extent.dim_value for extent in port.type.tensor_type.shape.dim] for port in ports]
    return [random.standard_normal(shape, dtype=np.float32) for shape in shapes]


def spread(model, drawn, path, inputs):
    """Scales the last layer so that the logits have deviation 1. What follows it (Relu, mean, Reshape) scales along."""
    last = next(node for node in reversed(model.graph.node) if node.op_type in ("Conv", "Gemm"))
    softmax = next((node for node in model.graph.node if node.op_type == "Softmax"), None)
    probe = rebuilt(model, drawn)
    if softmax:
        probe.graph.output[0].name = softmax.input[0]
        probe.graph.node.remove(next(node for node in probe.graph.node if node.op_type == "Softmax"))
    onnx.save(probe, path)
    scale = 1 / run_onnxruntime(path, inputs)[0].std()
    for name in last.input[1:]:
        reshaped = next((node.input[0] for node in model.graph.node if name in node.output and node.op_type == "Reshape"), name)
        drawn[reshaped] *= scale


def write(source, folder):
    random = np.random.default_rng(zlib.crc32(source.stem.encode()))
    light = onnx.load(source)
    path = folder / source.name
    drawn = draw_all(light.graph, random)
    inputs = inputs_of(rebuilt(light, drawn), random)
    spread(light, drawn, path, inputs)
    model = rebuilt(light, drawn)
    onnx.save(model, path)
    outputs = run_onnxruntime(path, inputs)
    save_reference(path.with_suffix(".npz"), model, inputs, outputs)
    result = outputs[0]
    print(f"{source.stem}: {path.stat().st_size / 1e6:.0f} MB, output {result.min():.2e} .. {result.max():.2e}, "
          f"deviation {result.std():.2e}", flush=True)
    assert np.isfinite(result).all() and result.std() > 0
    if model.graph.node[-1].op_type == "Softmax":
        assert result.max() < 0.9 and result.std() > 1e-5, "the classes are not spread"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="such as light_squeezenet; all without")
    parser.add_argument("--light", type=Path, required=True, help="folder of light_NAME.onnx")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(arguments.light.glob("light_*.onnx")):
        if not arguments.names or source.stem in arguments.names:
            write(source, arguments.folder)


if __name__ == "__main__":
    main()
