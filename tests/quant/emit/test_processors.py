"""The same everywhere: 8-bit operators and a second of sound through each runtime, on other processors than this.

The processors are this one with features hidden from CPUID (quick, and the only way to AVX-512 without VNNI: QEMU 7.2
has no AVX-512), QEMU's where that cannot be, and QEMU's ARM cores in a Debian of theirs (`arm_root.CORES`). What they
compute is recorded there and judged here.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import arm_root
import numpy as np
import pytest
import recorded
from msgspec.structs import replace
from operators import breaches, entry, judged, show, with_signed_weights
from processors import EMULATED, PROCESSORS, run_as, run_emulated
from recorded import Asked
from toy_artifact import file_entry, toy, write_manifest

from edge_runtime.engines.golden import snr_db
from edge_runtime.quiet import silent
from edge_runtime.stft import Float32Array
from quant.build import stages
from quant.build.contents import INT8_FLOORS_DB
from quant.build.settings import Outputs, Settings
from quant.emit.emitted import Emitted
from quant.emit.native.emitter import emit_native
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.int8.plan import Plan
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.int8.runtimes import for_onnx, for_tflite
from quant.network.graph import Graph
from quant.network.spectra import analyse
from quant.ptq.quantize import CalibrationSet, Quantized

SOUND_SAMPLES = 16_000  # of the clip that a build's golden vectors are of
FEW = slice(60, 64)  # of other speech: every operator of the default recipe, every state filled


class Question(NamedTuple):
    """Models; frames for their operators, and a second of sound; what the integer reference makes of the sound, of the
    plan as each runtime computes it."""

    models: dict[str, Emitted]
    few: Float32Array
    sound: Float32Array
    wanted: dict[str, Float32Array]

    def pickled(self) -> bytes:
        shown = {name: None if name == "native" else show(name, model) for name, model in self.models.items()}
        asked = {
            name: Asked(model.data, entry(model), shown[name], self.few, self.sound)
            for name, model in self.models.items()
        }
        return pickle.dumps(asked)


@pytest.fixture(scope="module")
def question(quantized: Quantized, spectra: Float32Array, calibration: CalibrationSet) -> Question:
    sound = analyse(calibration.clips[0].noisy[:SOUND_SAMPLES], "sqrt_hann").transpose(1, 2, 0)

    def referred(graph: Graph, plan: Plan) -> Float32Array:
        reference = Reference(graph, plan)
        return np.stack([reference.step(frame) for frame in sound]).astype(np.float32)

    onnx, tflite, native = (emit(quantized.graph, quantized.plan) for emit in (emit_onnx, emit_tflite, emit_native))
    lowered = {"onnx": for_onnx, "tflite": for_tflite, "native": with_fewer_roundings}
    wanted = {name: referred(*lower(quantized.graph, quantized.plan)) for name, lower in lowered.items()}
    return Question({"onnx": onnx, "tflite": tflite, "native": native}, spectra[FEW], sound, wanted)


@pytest.fixture(scope="module")
def asked(question: Question) -> bytes:
    return question.pickled()


def check(question: Question, asked: bytes, folder: Path, run: Callable[[], Any], native: str) -> None:
    """What `run` makes of the question in the folder: operators within their class, sound above its floor."""
    (folder / "asked.pkl").write_bytes(asked)
    run()
    for name, model in question.models.items():
        heard = np.load(folder / f"{name}.npy")
        if name == "native":
            np.testing.assert_array_equal(heard, question.wanted[name])
            continue
        found = judged(name, model, pickle.loads((folder / f"{name}.pkl").read_bytes()))
        assert breaches(name, found) == {}, name
        assert snr_db(question.wanted[name], heard) >= INT8_FLOORS_DB[name], name
    assert json.loads((folder / "isas.json").read_text())[0] == native, "another processor than was meant"


@pytest.fixture(scope="session")
def hiding(tmp_path_factory: pytest.TempPathFactory, made_once: Callable[..., Path]) -> Path:
    """The folder of `processors.hiding`."""
    return made_once("processors", partial(tmp_path_factory.mktemp, "processors"))


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_runtime_computes_what_it_must_on(
    name: str, question: Question, asked: bytes, hiding: Path, tmp_path: Path
) -> None:
    run = partial(run_as, name, hiding, recorded.__file__, tmp_path)
    check(question, asked, tmp_path, run, PROCESSORS[name].native)


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("cpu", EMULATED)
def test_every_runtime_computes_what_it_must_on_an_emulated(
    cpu: str, question: Question, asked: bytes, tmp_path: Path
) -> None:
    check(question, asked, tmp_path, partial(run_emulated, cpu, recorded.__file__, tmp_path), EMULATED[cpu])


JUDGE = """
import sys
from functools import partial
from pathlib import Path
from edge_runtime import open_artifact
from edge_runtime.engines import deviation, golden
from edge_runtime.errors import Failure
golden.engine_apart = lambda engine, function, *arguments: golden.streamed(*arguments)
golden.reason = partial(deviation.reason, root=Path(sys.argv[1]))
artifact = open_artifact(sys.argv[1])
try:
    golden.judge(artifact, golden.check_golden(artifact))
except Failure as failure:
    print(failure)
"""
SATURATES = {"AVX2 (Haswell, Zen 3)": "avx2", "AVX-512 (Skylake-Server)": "avx2 avx512f"}


@pytest.mark.parametrize("name", [*SATURATES, "AVX-512 with VNNI (Ice Lake)"])
def test_weights_in_int8_are_told_where_they_saturate(
    name: str, question: Question, hiding: Path, tmp_path: Path
) -> None:
    """As ONNX files were once written: `verify` says what is wrong with them, on the processors where it is."""
    folder = tmp_path / "artifact"
    write_old(folder, question)
    (folder / "proc").mkdir()  # neither way to another processor changes what Linux says of it
    (folder / "proc/cpuinfo").write_text(f"flags : fpu {SATURATES.get(name, '')}\n")
    said = run_as(name, hiding, "-c", JUDGE, folder)
    if name in SATURATES:
        assert "golden vectors breached by onnx int8: int8 weights saturate in ONNX Runtime on x86 without VNNI" in said
        assert said.endswith("; build it again with `quant build`, whose weights are uint8\n")
    else:
        assert said == ""


def write_old(folder: Path, question: Question) -> None:
    """An artifact with one model."""
    folder.mkdir()
    model = with_signed_weights(question.models["onnx"])
    (folder / "model.onnx").write_bytes(model.data)
    wanted = {f"enhanced_{key}": question.wanted["onnx"] for key in ("fp32", "int8", "int8_onnx")}
    np.savez(folder / "golden.npz", spectrum=question.sound, **wanted)
    one = replace(entry(model), file="model.onnx", golden_snr_floor_db=INT8_FLOORS_DB["onnx"])
    files = {path.name: file_entry(path) for path in sorted(folder.iterdir())}
    write_manifest(folder, replace(toy().manifest, models={"onnx": {"int8": one}}, files=files))


# --- ARM --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute and 250 MB. An instruction that a core does not have would trap there."""
    return arm_root.make(tmp_path_factory.mktemp("arm"))


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("cpu", arm_root.CORES)
def test_every_runtime_computes_what_it_must_on_an_arm(cpu: str, question: Question, asked: bytes, root: Path) -> None:
    folder = root / cpu
    folder.mkdir()
    run = partial(arm_root.run, root, cpu, "/opt/project/recorded.py", f"/{cpu}")
    check(question, asked, folder, run, arm_root.CORES[cpu].native)


# In one process: there, only a program that the kernel knows an emulator for could start another.
GOLDEN = """
import json
from edge_runtime import open_artifact
from edge_runtime.engines import golden
golden.engine_apart = lambda engine, function, *arguments: golden.streamed(*arguments)
print(json.dumps([row._asdict() for row in golden.check_golden(open_artifact("/opt/artifact"))]))
"""


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("cpu", arm_root.CORES)
def test_every_model_reaches_its_golden_vectors_on_an_arm(root: Path, cpu: str) -> None:
    """Of an artifact as built, float models too."""
    folder = root / "opt/artifact"
    if not folder.exists():
        stages.build(Settings(target="rpi4", outputs=Outputs(folder=folder)), silent)
    rows = json.loads(arm_root.run(root, cpu, "-c", GOLDEN))
    ran = {(row["engine"], row["precision"]) for row in rows}
    assert ran == {(engine, p) for engine in ("native", "onnx", "tflite") for p in ("fp32", "int8")}
    assert [(row["engine"], row["precision"]) for row in rows if row["exact"]] == [("native", "int8")]
    assert all(row["ok"] for row in rows), rows
