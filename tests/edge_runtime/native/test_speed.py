"""What the engine costs: the same whatever it hears, and little to start."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from places import ROOT, TESTS

from quant.emit.native.emitter import emit_native
from quant.network.graph import Graph
from quant.ptq.quantize import Quantized

sys.path.insert(0, str(TESTS / "counting"))
import count

N_HOPS = 12
MOST_UNEVEN = 0.02  # of a hop: branches that repairs, and nothing else, may take
MOST_START = 2.0  # times Python with NumPy; measured: 1.29, on a busy machine
MOST_FIRST_S = 0.005  # beyond the interpreter's own start, to the first hop out; measured: 4.0 ms

START = """
import numpy as np
from edge_runtime import Denoiser
hop = np.zeros(256, np.float32)
Denoiser.open({folder!r}, engine="native", precision="fp32").step(hop, hop.copy())
"""

FIRST = """
import sys
sys.path.insert(0, {root!r})
from edge_runtime.native import Stream
with open({model!r}, "rb") as file:
    stream = Stream(file.read())
stream.samples_in[:256] = [0.1] * 256
stream.process()
"""


def signals(mixture: np.ndarray) -> dict[str, np.ndarray]:
    n = N_HOPS * 256
    noise = np.random.default_rng(0).uniform(-1, 1, n)
    return {
        "speech": mixture[:n],
        "silence": np.zeros(n),
        "full-scale noise": noise,
        "denormals": noise * 1e-39,
        "far beyond full scale": noise * 1e30,
        "nan": np.full(n, np.nan),
        "inf": np.full(n, -np.inf),
        "steps": np.repeat([1.0, -1.0], n // 2),
    }


Programs = tuple[Path, Path]
CORES = [core for core in count.CORES if core.arch == "aarch64"]


@pytest.fixture(scope="module")
def compiled(
    made_once: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The plugin that counts, and the program, which is the same for all cores. At -Og, half the compiler's time:
    whether a sample decides a branch is a matter of the source."""
    (core, *_), folder = CORES, tmp_path_factory.mktemp("compiled")
    if shutil.which(f"qemu-{core.arch}") is None or shutil.which(core.compiler[0]) is None:
        pytest.skip("needs Debian's qemu-user 7.2 and gcc-aarch64-linux-gnu")
    return made_once("counted", lambda: (count.compile_plugin(folder), count.compile_hops(folder, core, "-Og")))


@pytest.mark.qemu
@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_a_hop_costs_the_same_whatever_it_hears(
    core: count.Core,
    quantized: Quantized,
    graph: Graph,
    mixture: np.ndarray,
    compiled: Programs,
    tmp_path: Path,
) -> None:
    """Instructions of every hop, counted on an emulated core: no signal, denormal or not finite, has a slow path."""
    blobs = {"int8": emit_native(quantized.graph, quantized.plan).data, "fp32": emit_native(graph).data}
    for precision, blob in blobs.items():
        weights = tmp_path / precision
        weights.write_bytes(blob)
        taken = {
            name: count.count_hops(*compiled, core, weights, samples)[:, 0, 0]
            for name, samples in signals(mixture).items()
        }
        low, high = min(hops.min() for hops in taken.values()), max(hops.max() for hops in taken.values())
        assert low > 100_000, "nothing was counted"
        assert high <= low * (1 + MOST_UNEVEN), {name: (hops.min(), hops.max()) for name, hops in taken.items()}


def cpu_s(code: str, *options: str, n_runs: int = 4) -> float:
    """Processor time of the fastest of a few runs: other processes hardly change it."""
    import resource

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    taken = []
    for _ in range(n_runs):
        before = spent()
        subprocess.run([sys.executable, *options, "-c", code], check=True)
        taken.append(spent() - before)
    return min(taken)


def test_a_start_is_little_more_than_numpys(native_artifact: Path) -> None:
    """From nothing to the first hop out, against an interpreter that imports NumPy."""
    assert cpu_s(START.format(folder=str(native_artifact))) <= MOST_START * cpu_s("import numpy")


def test_a_first_sample_needs_neither_numpy_nor_an_import_of_its_own(native_artifact: Path) -> None:
    """What a small program on a board pays: the interpreter without its site, then ctypes, the library, the weights."""
    code = FIRST.format(root=str(ROOT), model=str(native_artifact / "model.native"))
    loaded = 'print(sorted({"numpy", "typing", "re", "pathlib", "msgspec", "hashlib"} & set(sys.modules)))'
    command = [sys.executable, "-I", "-S", "-c", code + loaded]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_a_first_sample_is_out_within_5_ms(native_artifact: Path) -> None:
    """Beyond the interpreter's own start; processor time, for the wall clock counts other processes too."""
    code = FIRST.format(root=str(ROOT), model=str(native_artifact / "model.native"))
    taken, empty = (cpu_s(program, "-I", "-S", n_runs=20) for program in (code, "pass"))
    assert taken - empty <= MOST_FIRST_S


@pytest.fixture(scope="module")
def native_artifact(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy artifact, its int8 model replaced by real native weights."""
    import hashlib

    import msgspec
    from toy_artifact import write_toy

    from edge_runtime.manifest import FileEntry, Manifest, ModelEntry, dump

    folder = write_toy(tmp_path_factory.mktemp("start"))
    data = emit_native(graph).data
    (folder / "model.native").write_bytes(data)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    entry = ModelEntry(file="model.native", states=(), golden_snr_floor_db=100)
    files = {**manifest.files, "model.native": FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))}
    models = {**manifest.models, "native": {"fp32": entry}}
    (folder / "manifest.json").write_bytes(dump(msgspec.structs.replace(manifest, models=models, files=files)))
    return folder


def test_a_native_start_loads_no_openssl(native_artifact: Path) -> None:
    """What makes a start slow: OpenSSL behind hashlib, other engines, the compiler."""
    heavy = ("_hashlib", "onnxruntime", "ai_edge_litert", "soundfile", "soxr", "tqdm", "quant")
    code = START.format(folder=str(native_artifact)) + f"import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
