"""Times layers and networks on one adapter in edgecc, ncnn (Vulkan), LiteRT (ML Drift over WebGPU), wonnx and, in Chromium,
onnxruntime-web and edgecc's own loader, in turns, and prints the least times and what share of each other engine's edgecc
takes: python gpu_against_peers.py EDGECC [MODEL.onnx..] [--turns N] [--gpu KIND] [--converted DIR] [--folder DIR] [--web DIR].
KIND is what edgecc compiles for, `software` where nothing else is said. Single layers where no model is given; of models ncnn and
LiteRT run what lies in DIR: NAME.ncnn.param and NAME.ncnn.bin (by pnnx), NAME.tflite. Upload and read-back count everywhere.
Engines that the interpreter has no module of are left out, and so is the browser without a folder that npm installed
onnxruntime-web in (--web), which is said. VK_ICD_FILENAMES names the driver of all of them; Chromium's is SwiftShader, and
LiteRT's library refuses Mesa's before version 25.
"""

import argparse
import http.server
import json
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
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
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["sum"])]
        kernel, shapes = np.ascontiguousarray(kernel[:, :, 0, 0].T), ([size, inputs], [size, outputs])
    else:
        group = inputs if kind == "depthwise" else 1
        pads = [taps // 2] * 4
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["sum"], group=group, pads=pads, kernel_shape=[taps, taps])]
        shapes = ([1, inputs, size, size], [1, outputs, size, size])
    nodes.append(helper.make_node("Relu", ["sum"], ["y"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("xy", shapes)]
    constants = [numpy_helper.from_array(kernel, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "layer", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


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


def ports(path):
    """Name and extents of a model's first input, extents of its first output."""
    import onnx

    graph = onnx.load(path.with_suffix(".onnx"), load_external_data=False).graph
    extents = lambda port: [dim.dim_value for dim in port.type.tensor_type.shape.dim]
    return graph.input[0].name, extents(graph.input[0]), extents(graph.output[0])


def turn_ncnn(path):
    import ncnn

    _, shape, _ = ports(path)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = True
    for option in ["use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"]:
        setattr(net.opt, option, False)
    net.set_vulkan_device(0)
    net.load_param(str(path.with_suffix(".param")))
    net.load_model(str(path.with_suffix(".ncnn")))
    x, source, result = np.ones(shape[1:], np.float32), net.input_names()[0], net.output_names()[0]

    def run():
        extractor = net.create_extractor()
        extractor.input(source, ncnn.Mat(x))
        np.array(extractor.extract(result)[1])

    return least(run)


def turn_litert(path):
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    _, inputs, outputs = ports(path)
    model = CompiledModel.from_file(str(path.with_suffix(".tflite")), hardware_accel=HardwareAccelerator.GPU)
    sources, results = model.create_input_buffers(0), model.create_output_buffers(0)
    x = np.ones(np.prod(inputs), np.float32)

    def run():
        sources[0].write(x)
        model.run_by_index(0, sources, results)
        results[0].read(int(np.prod(outputs)), np.float32)

    return least(run)


def turn_wonnx(path):
    import wonnx

    name, shape, _ = ports(path)
    session = wonnx.Session.from_path(str(path.with_suffix(".onnx")))
    x = np.ones(np.prod(shape), np.float32)
    return least(lambda: session.run({name: x}))


# Times what it is told to, in the order in which it is told.
PAGE = """<!doctype html><script type=module>
import * as ort from "/web/node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs";
import { Gpu, Model } from "/edgecc/src/index.js";
ort.env.wasm.wasmPaths = "/web/node_modules/onnxruntime-web/dist/";
const ready = new Map();
let gpu;
const prepare = {
  async "onnxruntime-web"(name, shape, input) {
    const session = await ort.InferenceSession.create(`/models/${name}.onnx`, { executionProviders: ["webgpu"] });
    const size = shape.reduce((a, b) => a * b, 1);
    const feeds = { [input]: new ort.Tensor("float32", new Float32Array(size).fill(1), shape) };
    return async () => {
      for (const output of Object.values(await session.run(feeds))) await output.getData();
    };
  },
  async "edgecc-web"(name) {
    gpu ??= await Gpu.open();
    const session = await (await Model.fetch(`/models/${name}.bin`)).session(gpu);
    new Float32Array(session.input(0).buffer).fill(1);
    return () => session.run();
  },
};
for (;;) {
  const { engine, name, shape, input, runs } = await (await fetch("/next")).json();
  let answer;
  try {
    const key = `${engine} ${name}`;
    if (!ready.has(key)) ready.set(key, await prepare[engine](name, shape, input));
    const run = ready.get(key);
    await run();
    let least = Infinity;
    for (let n = 0; n < runs; n++) {
      const start = performance.now();
      await run();
      least = Math.min(least, performance.now() - start);
    }
    answer = { seconds: least / 1000 };
  } catch (error) {
    answer = { error: `${error}` };
  }
  await fetch("/answer", { method: "POST", body: JSON.stringify(answer) });
}
</script>"""

IN_BROWSER = ["onnxruntime-web", "edgecc-web"]
FLAGS = """--headless=new --no-sandbox --no-first-run --disable-background-networking --disable-component-update --disable-default-apps
--disable-extensions --disable-sync --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader""".split()
LONGEST = 300


class Browser:
    """Chromium with a page that times what it is asked to; files of `folder`, of edgecc's loader and of npm's folder are served."""

    def __init__(self, folder, web):
        self.tasks, self.answers = queue.Queue(), queue.Queue()
        loader = pathlib.Path(__file__).parents[2] / "runtime/web"
        roots = {"models": folder, "web": pathlib.Path(web), "edgecc": loader}
        types = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
        browser = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def reply(self, body, kind):
                self.send_response(200)
                # Clocks are coarser without these.
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                root, _, rest = self.path[1:].partition("/")
                if self.path == "/":
                    return self.reply(PAGE.encode(), "text/html")
                if self.path == "/next":
                    return self.reply(json.dumps(browser.tasks.get()).encode(), "application/json")
                file = roots.get(root, folder) / rest
                if ".." in rest or not file.is_file():
                    return self.send_error(404)
                self.reply(file.read_bytes(), types.get(file.suffix, "application/octet-stream"))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(b"", "text/plain")
                browser.answers.put(json.loads(body))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.profile = tempfile.mkdtemp()
        address = f"http://127.0.0.1:{self.server.server_port}/"
        command = [shutil.which("chromium") or "chromium-browser", *FLAGS, f"--user-data-dir={self.profile}", address]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def turn(self, engine, path):
        import onnx

        port = onnx.load(path.with_suffix(".onnx")).graph.input[0]
        shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        self.tasks.put({"engine": engine, "name": path.name, "shape": shape, "input": port.name, "runs": RUNS})
        try:
            answer = self.answers.get(timeout=LONGEST)
        except queue.Empty:
            answer = {"error": "no answer"}
        if "error" in answer:
            print(f"{engine}, {path.name}: {answer['error']}", file=sys.stderr)
        return answer.get("seconds")

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


def turn_edgecc(edgecc, path):
    artifact = path.with_suffix(".bin")
    command = [edgecc, "bench", artifact, "--device", "gpu", "--unchecked", "--runs", str(RUNS), "--json"]
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


def write_model(model, path):
    """The same model as wonnx reads it: the shapes of all values are told, and no weights are transposed."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(model)
    constants = {constant.name: constant for constant in model.graph.initializer}
    for node in model.graph.node:
        transposed = [one for one in node.attribute if one.name == "transB" and one.i]
        if node.op_type == "Gemm" and transposed and node.input[1] in constants:
            constant = constants[node.input[1]]
            kernel = np.ascontiguousarray(numpy_helper.to_array(constant).T)
            constant.CopyFrom(numpy_helper.from_array(kernel, constant.name))
            node.attribute.remove(transposed[0])
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


TURNS = {"ncnn": turn_ncnn, "litert": turn_litert, "wonnx": turn_wonnx}
MODULES = {"ncnn": "ncnn", "litert": "ai_edge_litert", "wonnx": "wonnx"}


def prepare(name, path, peers):
    """Writes a layer's files; the engines that have it."""
    layer = LAYERS[name]
    write_onnx(layer, path.with_suffix(".onnx"))
    writers = {
        "ncnn": lambda: write_ncnn(layer, path),
        "litert": lambda: write_tflite(layer, path.with_suffix(".tflite")),
    }
    there = [engine for engine in peers if not (engine == "ncnn" and layer[0] == "product")]
    for engine in there:
        writers.get(engine, lambda: None)()
    return there


def converted(name, path, folder, peers):
    """Copies what there is of a model for engines that do not read ONNX; the engines that have it."""
    files = {"ncnn": {".ncnn.param": ".param", ".ncnn.bin": ".ncnn"}, "litert": {".tflite": ".tflite"}, "wonnx": {}}
    there = []
    for engine in peers:
        sources = {folder / f"{name}{ending}": path.with_suffix(own) for ending, own in files[engine].items()}
        if all(source.exists() for source in sources):
            there.append(engine)
            for source, own in sources.items():
                shutil.copy(source, own)
    return there


def compare(name, path, edgecc, there, browser, turns, gpu):
    """Times engines in turns and prints their least times."""
    command = [edgecc, path.with_suffix(".onnx"), "--target", "wgsl", "--gpu", gpu, "-o", path.with_suffix(".bin")]
    subprocess.run(command, check=True, capture_output=True)
    engines = {"edgecc": lambda: turn_edgecc(edgecc, path)}
    engines |= {engine: lambda engine=engine: turn(engine, name, path) for engine in there}
    if browser:
        engines |= {engine: lambda engine=engine: browser.turn(engine, path) for engine in IN_BROWSER}
    times = {engine: [] for engine in engines}
    for _ in range(turns):
        for engine, run in engines.items():
            # What fails once is not waited for again.
            if None not in times[engine]:
                times[engine].append(run())
    best = {engine: min((time for time in all if time is not None), default=None) for engine, all in times.items()}
    ours = best["edgecc"]
    cells = [f"edgecc {ours * 1e3:.2f} ms"]
    for engine in list(engines)[1:]:
        theirs = best[engine]
        cells.append(f"{engine} failed" if theirs is None else f"{engine} {theirs * 1e3:.2f} ms, ratio {ours / theirs:.2f}")
    print(f"{name:<14} {'; '.join(cells)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edgecc")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--gpu", default="software")
    parser.add_argument("--converted", default=".", type=pathlib.Path)
    parser.add_argument("--folder", default="target/generated/gpu-peers")
    parser.add_argument("--web", default="target/web")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--layer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.folder)
    file = lambda name: folder / name.replace(" ", "-")
    if arguments.engine:
        print("seconds", TURNS[arguments.engine](file(arguments.layer)), flush=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    peers = [engine for engine, module in MODULES.items() if has(module)]
    for engine in MODULES.keys() - peers:
        print(f"{engine} is left out: no module {MODULES[engine]}")
    browser = None
    if (pathlib.Path(arguments.web) / "node_modules/onnxruntime-web").exists():
        browser = Browser(folder, arguments.web)
    else:
        print(f"the browser is left out: no onnxruntime-web in {arguments.web}")
    try:
        for model in arguments.models:
            write_model(model, file(model.stem).with_suffix(".onnx"))
            there = converted(model.stem, file(model.stem), arguments.converted, peers)
            compare(model.stem, file(model.stem), arguments.edgecc, there, browser, arguments.turns, arguments.gpu)
        for name in () if arguments.models else LAYERS:
            compare(name, file(name), arguments.edgecc, prepare(name, file(name), peers), browser, arguments.turns, arguments.gpu)
    finally:
        if browser:
            browser.close()


if __name__ == "__main__":
    main()
