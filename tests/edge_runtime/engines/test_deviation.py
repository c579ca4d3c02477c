"""Why an engine does not reach its golden vectors: from the processor's features and the model's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from toy_artifact import onnx_model

from edge_runtime.engines.deviation import reason
from edge_runtime.engines.onnx_file import has_signed_weights

ZEN3, ICE_LAKE, ALDER_LAKE = "flags : avx2", "flags : avx2 avx512f avx512_vnni", "flags : avx2 avx_vnni"
OLD, PI = "flags : fpu sse4_2", "Features : fp asimd"


def model(dtype: type, n: int = 288) -> bytes:
    """The toy's, with a weight besides."""
    proto = onnx.load_from_string(onnx_model("int8"))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(n, dtype), "weight"))
    return proto.SerializeToString()


SATURATE, OTHERWISE = "int8 weights saturate", "computes something else"
ROWS = [
    ("onnx", np.int8, ZEN3, SATURATE, "AVX2", "build it again"),
    ("onnx", np.int8, OLD, SATURATE, "no vector instructions", "native engine"),
    ("onnx", np.int8, ICE_LAKE, OTHERWISE, "AVX-512 VNNI", "native engine"),
    ("onnx", np.int8, ALDER_LAKE, OTHERWISE, "AVX-VNNI", "native engine"),
    ("onnx", np.int8, PI, OTHERWISE, "NEON", "native engine"),
    ("onnx", np.uint8, ZEN3, OTHERWISE, "AVX2", "native engine"),
    ("tflite", np.int8, ZEN3, OTHERWISE, "AVX2", "native engine"),
    ("native", np.int8, ZEN3, OTHERWISE, "AVX2", "another version"),
]


@pytest.mark.parametrize(("engine", "dtype", "cpuinfo", "why", "features", "remedy"), ROWS)
def test_a_reason_names_the_processor_and_a_remedy(engine, dtype, cpuinfo, why, features, remedy, tmp_path: Path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\n{cpuinfo}\n")
    found = reason(engine, model(dtype), has_native=True, root=tmp_path)
    assert why in found.why
    assert features in found.why
    assert remedy in found.remedy
    assert ("native engine" in found.remedy) == (engine != "native")
    assert "native engine" not in reason(engine, model(dtype), has_native=False, root=tmp_path).remedy


def test_a_zero_point_is_no_weight():
    assert has_signed_weights(model(np.int8))
    assert not has_signed_weights(model(np.int8, 16))
    assert not has_signed_weights(model(np.uint8))
    assert not has_signed_weights(onnx_model("fp32"))
