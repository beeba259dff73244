"""Times single layers on one adapter in edgecc, ncnn (Vulkan) and LiteRT (ML Drift over WebGPU), in turns, and prints the least
times and their ratios: python gpu_against_peers.py EDGECC [--turns N] [--folder DIR]. Upload and read-back count everywhere. Engines
that the interpreter has no module of are left out, which is said. VK_ICD_FILENAMES names the driver of all of them; LiteRT's
library refuses Mesa's before version 25.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

# Name: kind, channels in and out, taps along an axis, pixels along an axis (rows of a product).
LAYERS = {
    "1x1 96-96": ("conv", 96, 96, 1, 28),
    "3x3 64-64": ("conv", 64, 64, 3, 28),
    "depthwise 96": ("depthwise", 96, 96, 3, 28),
    "product 256": ("product", 256, 256, 1, 256),
}
RUNS = 8


def weights(layer):
    """Weights [out, in, k, k] (in is 1 for depthwise) and a bias."""
    kind, inputs, outputs, taps, _ = layer
    numbers = np.random.default_rng(0)
    shape = (outputs, 1 if kind == "depthwise" else inputs, taps, taps)
    return (numbers.standard_normal(shape) * 0.1).astype(np.float32), numbers.standard_normal(outputs).astype(np.float32)


def write_onnx(layer, path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind, inputs, outputs, taps, size = layer
    kernel, bias = weights(layer)
    if kind == "product":
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["sum"], transB=1)]
        kernel, shapes = kernel[:, :, 0, 0], ([size, inputs], [size, outputs])
    else:
        group = inputs if kind == "depthwise" else 1
        pads = [taps // 2] * 4
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["sum"], group=group, pads=pads)]
        shapes = ([1, inputs, size, size], [1, outputs, size, size])
    nodes.append(helper.make_node("Relu", ["sum"], ["y"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("xy", shapes)]
    constants = [numpy_helper.from_array(kernel, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "layer", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_ncnn(layer, path):
    kind, inputs, outputs, taps, _ = layer
    kernel, bias = weights(layer)
    name, group = ("ConvolutionDepthWise", f" 7={inputs}") if kind == "depthwise" else ("Convolution", "")
    figures = f"0={outputs} 1={taps} 4={taps // 2} 5=1 6={kernel.size} 9=1{group}"
    path.with_suffix(".param").write_text(f"7767517\n2 2\nInput x 0 1 x\n{name} c 1 1 x y {figures}\n")
    path.with_suffix(".ncnn").write_bytes(np.zeros(1, np.uint32).tobytes() + kernel.tobytes() + bias.tobytes())


def write_tflite(layer, path):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    kind, inputs, outputs, taps, size = layer
    kernel, bias = weights(layer)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors, graph.name = 3, [schema.BufferT()], [], "main"

    def tensor(name, shape, values=None):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), schema.TensorType.FLOAT32, 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    operators, kinds = schema.BuiltinOperator, schema.BuiltinOptions
    if kind == "product":
        shapes, kernel = ((size, inputs), (size, outputs)), kernel[:, :, 0, 0]
        options, number, union = schema.FullyConnectedOptionsT(), operators.FULLY_CONNECTED, kinds.FullyConnectedOptions
    else:
        shapes = ((1, size, size, inputs), (1, size, size, outputs))
        kernel = kernel.transpose(1, 2, 3, 0) if kind == "depthwise" else kernel.transpose(0, 2, 3, 1)
        if kind == "depthwise":
            options, number, union = schema.DepthwiseConv2DOptionsT(), operators.DEPTHWISE_CONV_2D, kinds.DepthwiseConv2DOptions
            options.depthMultiplier = 1
        else:
            options, number, union = schema.Conv2DOptionsT(), operators.CONV_2D, kinds.Conv2DOptions
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        options.padding = schema.Padding.SAME
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    code.version, code.builtinCode, code.deprecatedBuiltinCode = 1, number, number
    operator.opcodeIndex, operator.builtinOptions, operator.builtinOptionsType = 0, options, union
    x = tensor("x", shapes[0])
    operator.inputs = [x, tensor("w", kernel.shape, kernel), tensor("b", bias.shape, bias)]
    operator.outputs = [tensor("y", shapes[1])]
    graph.inputs, graph.outputs, graph.operators = [x], operator.outputs, [operator]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())


def least(run):
    """The least seconds of some runs behind one that counts for nothing."""
    run()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def turn_ncnn(layer, path):
    import ncnn

    _, inputs, _, _, size = layer
    net = ncnn.Net()
    net.opt.use_vulkan_compute = True
    for option in ["use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"]:
        setattr(net.opt, option, False)
    net.set_vulkan_device(0)
    net.load_param(str(path.with_suffix(".param")))
    net.load_model(str(path.with_suffix(".ncnn")))
    x = np.ones((inputs, size, size), np.float32)

    def run():
        extractor = net.create_extractor()
        extractor.input("x", ncnn.Mat(x))
        np.array(extractor.extract("y")[1])

    return least(run)


def turn_litert(layer, path):
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    kind, inputs, outputs, _, size = layer
    pixels = size if kind == "product" else size * size
    model = CompiledModel.from_file(str(path.with_suffix(".tflite")), hardware_accel=HardwareAccelerator.GPU)
    sources, results = model.create_input_buffers(0), model.create_output_buffers(0)
    x = np.ones(pixels * inputs, np.float32)

    def run():
        sources[0].write(x)
        model.run_by_index(0, sources, results)
        results[0].read(pixels * outputs, np.float32)

    return least(run)


def turn_edgecc(edgecc, path):
    artifact = path.with_suffix(".bin")
    command = [edgecc, "bench", artifact, "--device", "gpu", "--runs", str(RUNS), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["min_ns"] / 1e9


def turn(engine, name, path):
    """A turn in a process of its own, since a driver's state is the process's; `None` where it fails."""
    command = [sys.executable, __file__, "-", "--engine", engine, "--layer", name, "--folder", str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    # Libraries write to the same streams.
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("seconds ")]
    return float(lines[0][1]) if lines else None


def has(module):
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edgecc")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--folder", default="target/generated/gpu-peers")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--layer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.folder)
    file = lambda name: folder / name.replace(" ", "-")
    if arguments.engine:
        turns = {"ncnn": turn_ncnn, "litert": turn_litert}
        print("seconds", turns[arguments.engine](LAYERS[arguments.layer], file(arguments.layer)), flush=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    modules = {"ncnn": "ncnn", "litert": "ai_edge_litert"}
    peers = [engine for engine, module in modules.items() if has(module)]
    for engine in modules.keys() - peers:
        print(f"{engine} is left out: no module {modules[engine]}")
    for name, layer in LAYERS.items():
        path = file(name)
        write_onnx(layer, path.with_suffix(".onnx"))
        compile_command = [arguments.edgecc, path.with_suffix(".onnx"), "--target", "wgsl", "-o", path.with_suffix(".bin")]
        subprocess.run(compile_command, check=True, capture_output=True)
        writers = {"ncnn": lambda: write_ncnn(layer, path), "litert": lambda: write_tflite(layer, path.with_suffix(".tflite"))}
        there = [engine for engine in peers if not (engine == "ncnn" and layer[0] == "product")]
        for engine in there:
            writers[engine]()
        times = {engine: [] for engine in ["edgecc", *there]}
        for _ in range(arguments.turns):
            times["edgecc"].append(turn_edgecc(arguments.edgecc, path))
            for engine in there:
                times[engine].append(turn(engine, name, path))
        best = {engine: min((time for time in all if time is not None), default=None) for engine, all in times.items()}
        ours = best["edgecc"]
        cells = [f"edgecc {ours * 1e3:.2f} ms"]
        for engine in there:
            theirs = best[engine]
            cells.append(f"{engine} failed" if theirs is None else f"{engine} {theirs * 1e3:.2f} ms, ratio {ours / theirs:.2f}")
        print(f"{name:<14} {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
