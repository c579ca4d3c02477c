"""The native engine judged in C (`tests/native`): each kernel against portable C, sanitized, fuzzed, emulated."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from quant import emit_native
from quant.graph import Graph
from quant.ptq import Quantized

HERE = Path(__file__).parent / "native"
ENGINE = Path(__file__).parents[1] / "edge_runtime" / "native"
FLAGS = ["-std=gnu99", "-O2", "-g", "-ffp-contract=off", "-fno-math-errno", f"-I{ENGINE}"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


def compiled(out: Path, source: str, *flags: str, compiler: str = "gcc") -> Path:
    sources = [HERE / source, *sorted(ENGINE.glob("ed_*.c"))]
    subprocess.run([compiler, *FLAGS, *flags, *map(str, sources), "-o", str(out), "-lm"], check=True, timeout=300)
    return out


def output(*command: object) -> str:
    # The engine allocates nothing; the program that judges it leaves its files' memory to the end of the process.
    options = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, env=options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("check") / "check", "check.c", *SANITIZED)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_kernel_is_the_portable_one(check: Path, seed: int) -> None:
    """Random shapes and numbers for each row of the table that dispatch reads, under ASan and UBSan."""
    output(check, "kernels", seed, 30)


@pytest.mark.parametrize("signal", ["noise", "silence", "tiny", "loud"])
def test_whole_hops_are_clean_under_sanitizers(
    check: Path, quantized: Quantized, graph: Graph, tmp_path: Path, signal: str
) -> None:
    (tmp_path / "int8").write_bytes(emit_native.emit(quantized.graph, quantized.plan).data)
    (tmp_path / "fp32").write_bytes(emit_native.emit(graph).data)
    for isa in output(check, "isas").split():
        for precision in ("int8", "fp32"):
            assert "hops" in output(check, "hops", tmp_path / precision, isa, 6, signal)


def test_weights_and_audio_are_fuzzed(quantized: Quantized, tmp_path: Path) -> None:
    """A few seconds of mutated weights; what is accepted runs on garbage without leaving its memory."""
    (tmp_path / "int8").write_bytes(emit_native.emit(quantized.graph, quantized.plan).data)
    fuzz = compiled(tmp_path / "fuzz", "fuzz.c", "-DSTANDALONE", *SANITIZED)
    output(fuzz, 4, tmp_path / "int8")


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76"])
def test_arm_kernels_are_the_portable_ones(tmp_path: Path, cpu: str) -> None:
    compiler, emulator = "aarch64-linux-gnu-gcc", shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if shutil.which(compiler) is None or emulator is None:
        pytest.skip("needs Debian's gcc-aarch64-linux-gnu and qemu-user")
    check = compiled(tmp_path / "check", "check.c", "-static", compiler=compiler)
    isas = output(emulator, "-cpu", cpu, check, "isas").split()
    assert isas == (["dotprod", "neon", "portable"] if cpu == "cortex-a76" else ["neon", "portable"])
    output(emulator, "-cpu", cpu, check, "kernels", 1, 20)
