"""Times models with edgecc and other runtimes on this machine, one thread each, in turns, on zeros.

    python against_peers.py EDGECC LINE MODEL.onnx .. [--converted DIR] [--rounds N] [--allow-size] [--peers NAME,..]

LINE is the program of `cargo build --release -p edgecc-runtime --example line`. Of onnxruntime, ncnn, MNN and LiteRT those
take part that this Python has; but for onnxruntime they read the model as their own converters wrote it, from
DIR/ncnn/NAME.ncnn.param and .bin, DIR/mnn/NAME.mnn, DIR/tflite/NAME.tflite. Every runtime is a process; all are warm, and take
turns run by run, so that what else happens on the machine falls on all alike.

Prints the smallest times in milliseconds, of a clock and of the processor's time for the process (where another process had
the core for a while, the second is the one to read), and of both the ratio of edgecc to the best of the others.
"""
import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

PEERS = {"onnxruntime": "onnxruntime", "ncnn": "ncnn", "mnn": "MNN", "litert": "ai_edge_litert"}


def ports(model):
    """The names of the input and of the output, and the input's shape, unknown extents as 1."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    shape = [extent if isinstance(extent, int) else 1 for extent in port.shape]
    return port.name, session.get_outputs()[0].name, shape


def converted(peer, model, folder):
    """The model as a peer reads it."""
    places = {"onnxruntime": Path(model), "ncnn": Path(f"{folder}/ncnn/{Path(model).stem}.ncnn.param"),
              "mnn": Path(f"{folder}/mnn/{Path(model).stem}.mnn"), "litert": Path(f"{folder}/tflite/{Path(model).stem}.tflite")}
    return places[peer]


def runner_of_onnxruntime(path, given, _):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: given})


def runner_of_ncnn(path, given, _):
    import ncnn
    network = ncnn.Net()
    network.opt.num_threads = 1
    network.load_param(str(path))
    network.load_model(str(path.with_suffix(".bin")))
    name, result, image = network.input_names()[0], network.output_names()[0], ncnn.Mat(given[0])

    def run():
        extractor = network.create_extractor()
        extractor.input(name, image)
        return extractor.extract(result)
    return run


def runner_of_mnn(path, given, names):
    import MNN.expr
    import MNN.nn
    manager = MNN.nn.create_runtime_manager(({"backend": 0, "precision": "high", "numThread": 1},))
    network = MNN.nn.load_module_from_file(str(path), [names[0]], [names[1]], runtime_manager=manager)

    def run():
        image = MNN.expr.placeholder(list(given.shape), MNN.expr.NCHW)
        image.write(given)
        return np.array(network.forward([image])[0].read())
    return run


def runner_of_litert(path, given, _):
    from ai_edge_litert.interpreter import Interpreter
    network = Interpreter(str(path), num_threads=1)
    network.allocate_tensors()
    port, result = network.get_input_details()[0], network.get_output_details()[0]
    image = given if tuple(port["shape"]) == given.shape else np.ascontiguousarray(given.transpose(0, 2, 3, 1))

    def run():
        network.set_tensor(port["index"], image)
        network.invoke()
        return network.get_tensor(result["index"])
    return run


RUNNERS = {"onnxruntime": runner_of_onnxruntime, "ncnn": runner_of_ncnn, "mnn": runner_of_mnn, "litert": runner_of_litert}


def serve(peer, model, path):
    """A peer's process: one run for each line of standard input, whose seconds it prints."""
    name, result, shape = ports(model)
    run = RUNNERS[peer](Path(path), np.zeros(shape, np.float32), (name, result))
    run()
    print("load", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


class Timed:
    """A process that runs a model once for each line it is sent."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.clock, self.processor = [], []
        self.is_there = self.answer("load") is not None

    def answer(self, begin):
        """The next line that begins so: libraries print others."""
        for line in self.process.stdout:
            if line.startswith(begin):
                return line
        return None

    def processor_ns(self):
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0])

    def turn(self):
        before = self.processor_ns()
        self.process.stdin.write("1\n")
        self.process.stdin.flush()
        self.clock.append(float(self.answer(("0", "1", "2"))) * 1e3)
        self.processor.append((self.processor_ns() - before) / 1e6)

    def best(self):
        return min(self.clock), min(self.processor)


def edgecc_command(arguments, model, folder):
    name, _, shape = ports(model)
    artifact, given = f"{folder}/model.bin", f"{folder}/input.f32"
    np.zeros(shape, np.float32).tofile(given)
    size = ["--allow-size"] if arguments.allow_size else []
    extents = "x".join(map(str, shape))
    subprocess.run([arguments.edgecc, model, "-o", artifact, f"--shape={name}={extents}", *size], check=True,
                   stderr=subprocess.DEVNULL)
    return [arguments.line, artifact, given, f"{folder}/output.f32", extents, "1"]


def measure(arguments, model, folder):
    """The times of each runtime on a model, by its name."""
    live = {"edgecc": Timed(edgecc_command(arguments, model, folder))}
    for peer in arguments.peers:
        path = converted(peer, model, arguments.converted)
        if path.exists():
            live[peer] = Timed([sys.executable, __file__, "--serve", peer, model, str(path)])
    live = {name: timed for name, timed in live.items() if timed.is_there}
    for _ in range(arguments.rounds):
        for timed in live.values():
            timed.turn()
    for timed in live.values():
        timed.process.stdin.close()
        timed.process.wait()
    return {name: timed.best() for name, timed in live.items()}


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve(*sys.argv[2:])
    here = [peer for peer, module in PEERS.items() if importlib.util.find_spec(module)]
    parser = argparse.ArgumentParser()
    parser.add_argument("edgecc")
    parser.add_argument("line")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--converted", default=".")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--allow-size", action="store_true")
    parser.add_argument("--peers", type=lambda names: names.split(","), default=here)
    arguments = parser.parse_args()
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            times = measure(arguments, model, folder)
        others = [name for name in times if name != "edgecc"]
        ratios = [times["edgecc"][at] / min(times[name][at] for name in others) for at in range(2)]
        columns = "  ".join(f"{name} {clock:.2f} ({processor:.2f})" for name, (clock, processor) in times.items())
        print(f"{Path(model).stem:<20} {ratios[0]:.2f} ({ratios[1]:.2f})  {columns}", flush=True)


if __name__ == "__main__":
    main()
