"""A tiny artifact with every engine and precision: what the runtime is tested with, without a build.

    enhanced = 0.75 spectrum + 0.25 past        past_out = spectrum

`past` is the one state: float32, or int8 on a grid whose zero point is not 0, so that carrying it, resetting
it and its zero point all show in the output.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.manifest import (
    MANIFEST_FILE,
    Artifact,
    Checkpoint,
    FileEntry,
    Manifest,
    ModelEntry,
    StateEntry,
    dump,
    open_artifact,
)
from quant.emit.tflite.file import TensorGrid, TfliteFile

SHAPE = (1, 257, 1, 2)
NOW, PAST = 0.75, 0.25
SCALE, ZERO_POINT = 0.25, 9
FILES = {
    ("onnx", "int8"): "model.onnx",
    ("onnx", "fp32"): "model.fp32.onnx",
    ("tflite", "int8"): "model.tflite",
    ("tflite", "fp32"): "model.fp32.tflite",
}
MODELS = sorted(FILES)


@cache
def toy() -> Artifact:
    """The toy artifact, shared by every test of a process: copy its folder before changing it."""
    folder = Path(tempfile.mkdtemp(prefix="toy-artifact-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return open_artifact(write_toy(folder))


def write_toy(folder: Path) -> Path:
    """Write the artifact into `folder`."""
    emitters = {"onnx": onnx_model, "tflite": tflite_model}
    for (engine, precision), name in FILES.items():
        (folder / name).write_bytes(emitters[engine](precision))
    (folder / "golden.npz").write_bytes(golden())
    return write_manifest(folder, manifest(folder))


def write_manifest(folder: Path, index: Manifest) -> Path:
    (folder / MANIFEST_FILE).write_bytes(dump(index))
    return folder


def manifest(folder: Path) -> Manifest:
    """The manifest of the files that lie in `folder`."""
    models: dict = {}
    for (engine, precision), name in FILES.items():
        entry = ModelEntry(file=name, states=(past(precision),), golden_snr_floor_db=60.0)
        models.setdefault(engine, {})[precision] = entry
    return Manifest(
        network="gtcrn",
        sample_rate_hz=16000,
        hop_samples=256,
        window_samples=512,
        window="sqrt_hann",
        board="host",
        preferred_engine="tflite",
        n_threads=1,
        recipe="toy",
        models=models,
        golden="golden.npz",
        files={name: file_entry(folder / name) for name in (*FILES.values(), "golden.npz")},
        checkpoint=Checkpoint(name="toy", sha256="0" * 64),
        built_with={"numpy": np.__version__},
    )


def file_entry(path: Path) -> FileEntry:
    data = path.read_bytes()
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def past(precision: str) -> StateEntry:
    if precision == "fp32":
        return StateEntry(name="past", shape=SHAPE, dtype="float32")
    return StateEntry(name="past", shape=SHAPE, dtype="int8", scale=SCALE, zero_point=ZERO_POINT)


def golden() -> bytes:
    """Sixty frames of noise, and what each precision makes of them."""
    spectrum = np.random.default_rng(7).normal(0, 5, (60, 257, 2)).astype(np.float32)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        spectrum=spectrum,
        enhanced_fp32=enhance(spectrum, "fp32"),
        enhanced_int8=enhance(spectrum, "int8"),
    )
    return buffer.getvalue()


def enhance(spectrum: np.ndarray, precision: str) -> np.ndarray:
    """The oracle, (n_frames, 257, 2) at once."""
    before = np.concatenate((np.zeros_like(spectrum[:1]), spectrum[:-1]))
    if precision == "int8":
        stored = np.clip(np.rint(before / SCALE) + ZERO_POINT, -128, 127)
        before = SCALE * (stored - ZERO_POINT)
    return (NOW * spectrum + PAST * before).astype(np.float32)


def onnx_model(precision: str) -> bytes:
    is_int8 = precision == "int8"
    dtype = TensorProto.INT8 if is_int8 else TensorProto.FLOAT
    constants = {"now": np.float32(NOW), "weight": np.float32(PAST)}
    if is_int8:
        constants |= {"scale": np.float32(SCALE), "zero": np.int8(ZERO_POINT)}
        carry = [
            helper.make_node("DequantizeLinear", ["past", "scale", "zero"], ["before"]),
            helper.make_node("QuantizeLinear", ["spectrum", "scale", "zero"], ["past_out"]),
        ]
    else:
        carry = [
            helper.make_node("Identity", ["past"], ["before"]),
            helper.make_node("Identity", ["spectrum"], ["past_out"]),
        ]
    mix = [
        helper.make_node("Mul", ["spectrum", "now"], ["a"]),
        helper.make_node("Mul", ["before", "weight"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["enhanced"]),
    ]

    def value(name: str, elem_type: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, elem_type, SHAPE)

    graph = helper.make_graph(
        [*carry, *mix],
        "toy",
        [value("spectrum", TensorProto.FLOAT), value("past", dtype)],
        [value("enhanced", TensorProto.FLOAT), value("past_out", dtype)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def tflite_model(precision: str) -> bytes:
    is_int8 = precision == "int8"
    dtype, grid = ("int8", TensorGrid((SCALE,), (ZERO_POINT,))) if is_int8 else ("float32", None)
    file = TfliteFile()
    spectrum = file.tensor(SHAPE, name="spectrum")
    past_in = file.tensor(SHAPE, dtype, grid, name="past")
    enhanced = file.tensor(SHAPE, name="enhanced")
    past_out = file.tensor(SHAPE, dtype, grid, name="past_out")
    before = past_in
    if is_int8:
        before = file.tensor(SHAPE)
        file.op("DEQUANTIZE", [past_in], [before])
        file.op("QUANTIZE", [spectrum], [past_out])
    else:
        one = file.constant(np.ones(1, np.float32))
        file.op("MUL", [spectrum, one], [past_out], schema.MulOptionsT())
    a, b = file.tensor(SHAPE), file.tensor(SHAPE)
    file.op("MUL", [spectrum, file.constant(np.array([NOW], np.float32))], [a], schema.MulOptionsT())
    file.op("MUL", [before, file.constant(np.array([PAST], np.float32))], [b], schema.MulOptionsT())
    file.op("ADD", [a, b], [enhanced], schema.AddOptionsT())
    file.inputs, file.outputs = [spectrum, past_in], [enhanced, past_out]
    return file.to_bytes("toy")
