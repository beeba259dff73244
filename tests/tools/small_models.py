"""Writes the models of the command line's transcripts, `tests/models/cli`.

    python small_models.py OUTDIR
"""
import sys
from pathlib import Path

import onnx
import onnx.parser

MODELS = {
    "two_outputs": """<ir_version: 8, opset_import: ["": 17]>
        two_outputs (float[4] x, float[4] by) => (float[4] zeta, float[4] alpha) {
            [shift] zeta = Add (x, by)
            [rectify] alpha = Relu (x)
        }""",
    "unsupported": """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        unsupported (float[8,1,4] x, float[1,12,4] w, float[1,12,4] r) => (float[8,1,4] y) {
            [first] a = GRU <hidden_size = 4> (x, w, r)
            [second] b = GRU <hidden_size = 4> (x, w, r)
            [rectify] c = Relu (x)
            [attend] y = com.microsoft.Attention <num_heads = 2> (c, w, r)
        }""",
}

if __name__ == "__main__":
    for name, text in MODELS.items():
        onnx.save(onnx.parser.parse_model(text), Path(sys.argv[1]) / f"{name}.onnx")
