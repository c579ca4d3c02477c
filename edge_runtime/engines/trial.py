"""Wheels of others are tried out before they are used: one that dies takes a process of its own with it, and is named.

What has run here once is remembered, until it is installed anew or the processor is another one: from then on a start
pays some looks at files. Where nothing can be remembered each start tries again. Nothing of a wheel is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.engines.choice import ENGINES, available, cache_file, choose, stamp
from edge_runtime.errors import Failure

if TYPE_CHECKING:
    from edge_runtime.engines.apart import Died
    from edge_runtime.manifest import Artifact

MOST_REMEMBERED: Final = 64  # the oldest are forgotten first
_CPU_LINES: Final = ("model name", "flags", "Features", "CPU part", "isa")  # what decides which instructions there are


def packages(*names: str) -> None:
    """Failure: one of these modules takes its process with it where it is imported and first used."""
    new = [name for name in names if name not in sys.modules and find_spec(name) is not None]
    key = _key(new, *names)
    if not new or key in _remembered():
        return
    from edge_runtime.engines.apart import Died, apart  # which no later start pays for

    with suppress(OSError):  # no interpreter to try them with
        try:
            apart(f"{__name__}:{used.__name__}", *new)
        except Died as death:
            raise _culprit(new, death) from None
        _remember(key)


def engine(artifact: Artifact, asked: str, precision: str, n_threads: int) -> None:
    """Failure: the engine that would be opened takes its process with it. The native one is compiled with this package,
    for any processor of its architecture, and not tried."""
    name, _, precision = choose(artifact, asked, precision, n_threads)
    kind, models = ENGINES[name], artifact.manifest.models.get(name, {})
    entry = next((entry for held, entry in models.items() if held == precision), None)
    if kind.extra is None or name not in available() or entry is None or _is_imported(kind.packages):
        return
    key = _key(kind.packages, precision, artifact.manifest.files[entry.file].sha256)
    if key in _remembered():
        return
    from edge_runtime.engines.apart import engine_apart

    with suppress(OSError):
        engine_apart(name, f"{__name__}:{opened.__name__}", str(artifact.directory), name, precision, str(n_threads))
        _remember(key)


def used(*names: str) -> bytes:
    """Import them and use them a little. For a process of its own; what is raised is raised again by who needs it."""
    for name in names:
        with suppress(Exception):
            _FIRST_USES.get(name, _nothing)(import_module(name))
    return b""


def opened(directory: str, engine: str, precision: str, n_threads: str) -> bytes:
    """One frame of noise through an engine. For a process of its own, as `used`."""
    import numpy as np

    from edge_runtime.engines import open_engine
    from edge_runtime.manifest import open_artifact
    from edge_runtime.stft import N_BINS

    with suppress(Exception):
        frame = np.random.default_rng(0).normal(size=(N_BINS, 2)).astype(np.float32)
        open_engine(open_artifact(directory), engine, precision, int(n_threads)).step(frame, np.empty_like(frame))
    return b""


def _culprit(names: Sequence[str], death: Died) -> Failure:
    """The failure that names which of them dies alone, or else all."""
    from edge_runtime.engines.apart import Died, apart, version
    from edge_runtime.extras import how_to_mend

    for name in names if len(names) > 1 else ():
        try:
            apart(f"{__name__}:{used.__name__}", name)
        except Died as alone:
            return _culprit([name], alone)
    said = version(names[0]) if len(names) == 1 else f"{', '.join(names)} together"
    remedy = f"install another version of it, or again: {how_to_mend(*names)}"
    return Failure(f"{said} died: {death.what}", remedy=remedy)


def _is_imported(packages: Sequence[str]) -> bool:
    return not sys.modules.keys().isdisjoint(packages)


def _nothing(module: Any) -> None:
    """Importing it is all that is tried."""


def _sum(numpy: Any) -> None:
    square = numpy.ones((32, 32), numpy.float32)
    numpy.fft.rfft(square @ square)


def _resample(soxr: Any) -> None:
    import numpy as np

    soxr.resample(np.zeros(4800, np.float32), 48_000, 16_000)


def _write(soundfile: Any) -> None:
    from io import BytesIO

    import numpy as np

    soundfile.write(BytesIO(), np.zeros(256, np.float32), 16_000, format="FLAC")


_FIRST_USES: Final[dict[str, Callable[[Any], None]]] = {"numpy": _sum, "soxr": _resample, "soundfile": _write}


def _key(names: Sequence[str], *more: str) -> str:
    from edge_runtime.hashing import sha256

    parts = [_processor(), sys.version, *map(stamp, names), *more]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    """Of the first core; "" where nothing tells."""
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
        return "\n".join(line for line in first.splitlines() if line.startswith(_CPU_LINES))
    return ""


def _file() -> Path:
    return cache_file().with_name("tried")


def _remembered() -> list[str]:
    try:
        return _file().read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


def _remember(key: str) -> None:
    from edge_runtime.whole_file import written_whole

    path, kept = _file(), [*_remembered(), key][-MOST_REMEMBERED:]
    with suppress(OSError, Failure):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            part.write_text("".join(f"{each}\n" for each in kept), encoding="ascii")
