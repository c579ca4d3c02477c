"""What the tests of the compiler share, computed once a session from the pulled assets.

official    the published checkpoint            graph      its streaming graph, every pass done
mixture     10 s of real speech in real noise   spectra    its frames, (626, 257, 2)
calibration 8 real clips                        quantized  the default recipe on them; everything in 8 bits
ulunas_quantized  the second network, random weights, its recipe
once        C compilers that make an object once
undrawn     trainings whose curves nobody looks at
made_once   what the worker that comes first makes, for all workers: as calibration and what is quantized
rpi4        an artifact with its page, for all workers; not to be changed
"""

from __future__ import annotations

import fcntl
import gc
import math
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# One thread each: the tensors are small, and under `pytest -n 2` idle OpenMP threads spin against each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import pytest
import setuptools  # noqa: F401  before anything imports the interpreter's own distutils, which setup.py cannot follow
from hypothesis import settings

from edge_runtime import quiet

settings.register_profile("laws", deadline=None)  # a busy machine breaks no law
settings.load_profile("laws")

if TYPE_CHECKING:
    from calibration.corpus import Corpus
    from edge_runtime.stft import Float32Array
    from quant.inputs.checkpoint import Checkpoint
    from quant.network.graph import Graph
    from quant.ptq.quantize import CalibrationSet, Quantized

Made = TypeVar("Made")
MadeOnce: TypeAlias = Callable[[str, Callable[[], Made]], Made]

N_FRAMES_3_S = 188
ROOM_BYTES = 1 << 28
LONGEST = ("test_firmware.py", "test_search.py", "test_deploy.py")

# What a script's background or nohup has this process ignore, every program that it starts would ignore, too. A handler
# goes no further than exec: they begin as from a terminal, and this process goes on ignoring it.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: of two workers none is left alone with them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Thousands of tests and all that they import live to the end: no garbage collection goes through them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nobody_waits_for_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a command takes here, beside all other tests, changes nothing that it prints."""
    monkeypatch.setattr(quiet, "MOST_SILENT_S", math.inf)


@pytest.fixture(autouse=True)
def no_test_keeps_a_priority() -> Iterator[None]:
    """All that comes after it, compilers too, would keep other programs from running."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


@pytest.fixture(scope="session", autouse=True)
def pulled_recordings_are_decoded_once() -> Iterator[None]:
    """All builds and trainings mix the same eight, which take most of the mixing's time to decode."""
    from calibration.corpus import Corpus
    from quant.inputs import assets

    decode, pulled = Corpus.read, assets.cache_dir()  # a test's own cache is another
    kept: dict[Path, Float32Array] = {}

    def read(corpus: Corpus, name: str, place: float | None = None) -> Float32Array:
        path = corpus.folder / name
        if not path.is_relative_to(pulled):
            return decode(corpus, name, place)
        if path not in kept:
            kept[path] = decode(corpus, name)
        return kept[path].copy()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Corpus, "read", read)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves of a training are an empty file, but those of fixtures of a wider scope."""
    from quant.training import watch

    monkeypatch.setattr(watch, "draw", lambda history, path, title: path.touch())


@pytest.fixture
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where the system has one: what is synced a thousand times then waits for no disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < ROOM_BYTES:  # containers have little
        yield tmp_path_factory.mktemp("in_memory")
        return
    with tempfile.TemporaryDirectory(prefix="pytest-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What to put before a C compiler's command, so that workers of one session compile nothing twice."""
    return (
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).parent / "fakes" / "compiled_once.py"),
        str(_of_all_workers(request, tmp_path_factory) / "objects"),
    )


def _of_all_workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(request.config, "workerinput") else base  # of pytest-xdist: a folder each in one


@pytest.fixture(scope="session")
def made_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """(name, make) -> what `make` returns, called by one worker of a session; the others read what it pickled."""
    folder = _of_all_workers(request, tmp_path_factory) / "made"
    folder.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[], Made]) -> Made:
        kept, part = folder / name, folder / f"{name}.part"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                part.write_bytes(pickle.dumps(make()))
                part.rename(kept)
        found: Made = pickle.loads(kept.read_bytes())
        return found

    return made


@pytest.fixture(scope="session")
def rpi4(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy build, made by the worker that comes first."""
    from toy_build import toy

    from edge_runtime.quiet import silent
    from quant.build import stages

    folder = _of_all_workers(request, tmp_path_factory) / "built" / "rpi4"
    with folder.parent.with_name("built.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            stages.build(toy("rpi4", folder, html=True), silent)
    return folder


@pytest.fixture(scope="session")
def official() -> Checkpoint:
    """The official weights, recovered from the streaming ONNX."""
    from quant.inputs import assets, checkpoint

    return checkpoint.load(assets.weights())


@pytest.fixture(scope="session")
def graph(official: Checkpoint) -> Graph:
    """The streaming graph of the official weights."""
    from quant.network.gtcrn import gtcrn
    from quant.network.passes import streaming_graph

    return streaming_graph(gtcrn(official.params))


@pytest.fixture(scope="session")
def pulled() -> tuple[Corpus, Corpus]:
    """The pulled speech and noise."""
    from calibration.corpus import Corpus
    from quant.inputs import assets

    return Corpus.open(assets.speech()), Corpus.open(assets.noise())


@pytest.fixture(scope="session")
def mixture(pulled: tuple[Corpus, Corpus]) -> Float32Array:
    """(160000,) samples: 10 s at 5 dB SNR and -25 dBFS."""
    from calibration.mixing import Mix, mixtures

    mix = Mix((5, 5), (-25, -25), 0, 0, n_clips=1, clip_ms=10_000, warmup_ms=0, seed=1)
    (clip,) = mixtures(*pulled, mix)
    return clip.noisy


@pytest.fixture(scope="session")
def spectra(mixture: Float32Array) -> Float32Array:
    """(626, 257, 2) frames of the mixture; the last hop is padded."""
    from quant.network.spectra import analyse

    return np.ascontiguousarray(analyse(mixture, "sqrt_hann").transpose(1, 2, 0))


@pytest.fixture(scope="session")
def spectra_3_s(spectra: Float32Array) -> Float32Array:
    """(188, 257, 2): the first 3 s."""
    return spectra[:N_FRAMES_3_S]


@pytest.fixture(scope="session")
def calibration(pulled: tuple[Corpus, Corpus], made_once: MadeOnce) -> CalibrationSet:
    """8 clips of 4 s as a build mixes them; the mixture is another cut of the same recordings."""
    from calibration.mixing import Mix
    from quant.ptq.quantize import CalibrationSet

    return made_once("calibration", lambda: CalibrationSet.make(*pulled, Mix(n_clips=8)))


@pytest.fixture(scope="session")
def quantized(official: Checkpoint, graph: Graph, calibration: CalibrationSet, made_once: MadeOnce) -> Quantized:
    """The default recipe with ranges of the calibration clips."""
    from quant.int8 import recipe
    from quant.ptq import quantize

    static = recipe.load("static")
    return made_once("quantized", lambda: quantize.quantize(graph, static, calibration, official.sha256))


@pytest.fixture(scope="session")
def everything(official: Checkpoint, graph: Graph, calibration: CalibrationSet, made_once: MadeOnce) -> Quantized:
    """All that can be 8-bit in 8 bits: the operators that the default recipe leaves in float."""
    from quant.int8.recipe import Recipe, Rule
    from quant.ptq import quantize

    few = quantize.CalibrationSet(calibration.clips[:2], calibration.mix, "0" * 64, "0" * 64)
    all_of_it = Recipe("everything", (Rule("*", "int8", "all of it"),))
    return made_once("everything", lambda: quantize.quantize(graph, all_of_it, few, official.sha256))


@pytest.fixture(scope="session")
def ulunas_quantized(calibration: CalibrationSet, made_once: MadeOnce) -> Quantized:
    """UL-UNAS with random weights and its recipe, on two calibration clips."""
    from random_networks import random_network

    from quant.int8 import recipe
    from quant.network.passes import streaming_graph
    from quant.ptq import quantize

    few = quantize.CalibrationSet(calibration.clips[:2], calibration.mix, "0" * 64, "0" * 64)
    graph, its = streaming_graph(random_network("ul-unas")), recipe.load("ul-unas")
    return made_once("ul-unas", lambda: quantize.quantize(graph, its, few, "0" * 64))
