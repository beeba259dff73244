"""Times models with edgecc and onnxruntime on this machine, one thread each, in turns, on zeros.

    python against_onnxruntime.py EDGECC MODEL.onnx ..

Prints the smallest of the medians of three turns in milliseconds, and their ratio. Times of a busy machine say little; the
ratio is of one run.
"""
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

RUNS, TURNS = 30, 3


def onnxruntime_median(session, inputs):
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def edgecc_median(edgecc, artifact):
    command = [edgecc, "bench", artifact, "--threads", "1", "--runs", str(RUNS), "--json"]
    bench = subprocess.run(command, capture_output=True, check=True)
    return json.loads(bench.stdout)["p50_ns"] / 1e6


def zeros(session):
    """Zeros for every input; unknown extents are 1."""
    shapes = {port.name: [extent if isinstance(extent, int) else 1 for extent in port.shape]
              for port in session.get_inputs()}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def main():
    edgecc, *models = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    print(f"{'model':<24} {'edgecc':>9} {'onnxruntime':>12} {'ratio':>6}")
    for model in models:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        inputs = zeros(session)
        shapes = [f"--shape={name}={'x'.join(map(str, value.shape))}" for name, value in inputs.items()]
        with tempfile.TemporaryDirectory() as folder:
            artifact = str(Path(folder) / "model.bin")
            subprocess.run([edgecc, model, "-o", artifact, *shapes], check=True, stderr=subprocess.DEVNULL)
            turns = [(edgecc_median(edgecc, artifact), onnxruntime_median(session, inputs)) for _ in range(TURNS)]
        ours, theirs = (min(column) for column in zip(*turns))
        print(f"{Path(model).stem:<24} {ours:>9.2f} {theirs:>12.2f} {ours / theirs:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
