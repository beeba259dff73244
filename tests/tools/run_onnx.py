"""Runs models by onnxruntime, as they are written (no optimisation): MODEL IN.npz OUT.npz, three words for each model.

Inputs are in_0, in_1, .. in the model's order; outputs are written as out_0, out_1, .. A model that does not run is a line.
"""

import sys

import numpy as np
import onnx
import onnxruntime as ort

words = sys.argv[1:]
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.intra_op_num_threads = 2
for model, given, result in zip(words[::3], words[1::3], words[2::3]):
    try:
        onnx.checker.check_model(model)
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        arrays = np.load(given)
        inputs = {port.name: arrays[f"in_{place}"] for place, port in enumerate(session.get_inputs())}
        outputs = session.run(None, inputs)
        np.savez(result, **{f"out_{place}": output for place, output in enumerate(outputs)})
    except Exception as error:
        print(f"{model}: {str(error).splitlines()[0]}")
