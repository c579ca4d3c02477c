"""Which engines there are, which `auto` takes, and why: the board's, unless another was measured faster than it here;
so with the precision: 8 bits, unless float was.

Measurements of `edge-denoise bench` are kept in one small file of the user's cache folder, and hold only for the same
processor, model files and installed engines, and as many threads. Each is kept until the same is measured again.
Nothing is measured at start. A file that is damaged or cannot be written is as none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from edge_runtime.errors import Failure
from edge_runtime.folders import home_folder, named_folder

if TYPE_CHECKING:
    from edge_runtime.manifest import Artifact


class _Kind(NamedTuple):
    """How an engine is found: any one of `packages` will do; `extra` installs the first, None is compiled with us."""

    module: str
    packages: tuple[str, ...]
    extra: str | None

    def remedy(self) -> str:
        """What brings the engine."""
        from edge_runtime.extras import how_to_compile, how_to_install

        return how_to_compile() if self.extra is None else how_to_install(self.extra)

    def repair(self) -> str:
        """What brings it again, where it is here but broken."""
        if self.extra is None:
            return self.remedy()
        from edge_runtime.extras import how_to_mend

        return how_to_mend(next(filter(find_spec, self.packages), self.packages[0]))


ENGINES: Final = {
    "native": _Kind("edge_runtime.engines.native", ("edge_runtime.native.libedge_denoise",), None),
    "onnx": _Kind("edge_runtime.engines.onnx", ("onnxruntime",), "onnx"),
    "tflite": _Kind("edge_runtime.engines.tflite", ("ai_edge_litert", "tflite_runtime", "tensorflow"), "litert"),
}
AUTO: Final = "auto"
CACHE_FILE: Final = "engines.json"
MOST_REMEMBERED: Final = 32  # artifacts; the oldest are forgotten first


class Choice(NamedTuple):
    """An engine and a precision, and in a few words why these."""

    engine: str
    reason: str
    precision: str


class Measured(NamedTuple):
    """The median hop of one engine and precision; None where it did not run."""

    engine: str
    precision: str
    n_threads: int
    hop_us: float | None


_TakenUs: TypeAlias = Mapping[tuple[str, str], float | None]  # (engine, precision) -> its hop; None: it did not run


def available() -> list[str]:
    """Engines whose package is installed; nothing heavy is imported."""
    return [name for name, kind in ENGINES.items() if any(find_spec(package) for package in kind.packages)]


def check_usable(name: str) -> None:
    """Failure: no such engine, or its package is not installed."""
    if name not in ENGINES:
        raise Failure(f"unknown engine {name!r}", remedy=f"choose one of: {', '.join((AUTO, *ENGINES))}")
    if name not in available():
        raise _not_installed([name])


def choose(artifact: Artifact, engine: str = AUTO, precision: str = "int8", n_threads: int = 1) -> Choice:
    """The engine and the precision to open, and why: as asked; else the board's or what there is, or a faster one.

    Failure: `auto` and nothing that could run the artifact is installed.
    """
    if AUTO not in (engine, precision):
        return Choice(engine, "as asked", precision)
    taken_us = {row[:2]: row.hop_us for row in recall(artifact) if row.n_threads == n_threads}
    if precision == AUTO:
        return _faster(artifact, engine, taken_us)
    return _in(precision, artifact, engine, taken_us)


def _faster(artifact: Artifact, engine: str, taken_us: _TakenUs) -> Choice:
    """Float where it was measured faster here; else 8 bits; of one that does not run here the other. Failure: neither
    does, and why 8 bits do not."""
    small, large = (_running(precision, artifact, engine, taken_us) for precision in ("int8", "fp32"))
    if small is None or large is None:
        found, other = (large, "8 bits do") if small is None else (small, "float does")
        if found is None:
            return _in("int8", artifact, engine, taken_us)
        return found._replace(reason=f"{found.reason}; {other} not run here")
    small_us, large_us = (taken_us.get((c.engine, c.precision)) for c in (small, large))
    if small_us is None or large_us is None:
        return small._replace(reason=f"{small.reason}; 8 bits, until a bench finds float faster")
    times = f"measured here, {large_us:.0f} us a hop against {small_us:.0f}"
    if large_us < small_us:
        return large._replace(reason=f"{large.reason}; float is faster, {times}")
    return small._replace(reason=f"{small.reason}; float is not faster, {times}")


def _running(precision: str, artifact: Artifact, engine: str, taken_us: _TakenUs) -> Choice | None:
    """As `_in`; None where the artifact has no such model, nothing that runs it is installed, or it did not run."""
    try:
        found = _in(precision, artifact, engine, taken_us)
    except Failure:
        return None
    is_there = precision in artifact.manifest.models.get(found.engine, {}) and found.engine in available()
    has_died = taken_us.get((found.engine, precision), 0.0) is None
    return found if is_there and not has_died else None


def _in(precision: str, artifact: Artifact, engine: str, taken_us: _TakenUs) -> Choice:
    """Of one precision. Failure: as of `choose`."""
    if engine != AUTO:
        return Choice(engine, "as asked", precision)
    manifest = artifact.manifest
    built = [name for name in ENGINES if precision in manifest.models.get(name, {})]
    built.sort(key=lambda name: name != manifest.preferred_engine)
    if not built:
        return Choice(manifest.preferred_engine, "the board's", precision)  # Artifact.model says what there is instead
    usable = [name for name in built if name in available()]
    if not usable:
        raise _not_installed(built)
    own_us = {name: taken_us[name, precision] for name in usable if (name, precision) in taken_us}
    running = [name for name in usable if own_us.get(name, 0) is not None] or usable
    name, reason = _fastest(running, own_us) or (running[0], _unmeasured(running[0], manifest.preferred_engine))
    return Choice(name, reason, precision)


def _fastest(names: Sequence[str], taken_us: Mapping[str, float | None]) -> tuple[str, str] | None:
    """The fastest of `names`, and the reason; None unless the first was measured, whom the others must beat."""
    times_us = {name: us for name in names if (us := taken_us.get(name)) is not None}
    if names[0] not in times_us:
        return None
    fastest, *others = sorted(times_us, key=times_us.__getitem__)
    than = ", ".join(f"{other} {times_us[other]:.0f}" for other in others)
    return fastest, f"fastest measured here, {times_us[fastest]:.0f} us a hop{f' ({than})' if than else ''}"


def _unmeasured(name: str, preferred: str) -> str:
    """The reason."""
    if name == preferred:
        return "the board's, not measured here"
    return f"the board's, {preferred}, does not run here or is not in the model"


def _not_installed(names: list[str]) -> Failure:
    packages = " or ".join(package for name in names for package in ENGINES[name].packages)
    remedy = " or ".join(ENGINES[name].remedy() for name in names)
    return Failure(f"the {' or '.join(names)} engine needs {packages}, not installed", remedy=remedy)


def remember(artifact: Artifact, rows: Iterable[Measured], path: Path | None = None) -> Path | None:
    """Keep the rows of a bench, each in the place of its like; the file, or None when it cannot be written."""
    import json

    from edge_runtime.whole_file import written_whole

    path = path or cache_file()
    kept = _read(path)
    key = _key(artifact)
    by_like = {row[:3]: row for row in (*_rows(kept.pop(key, [])), *rows)}
    kept[key] = list(by_like.values())  # last: the newest
    while len(kept) > MOST_REMEMBERED:
        del kept[next(iter(kept))]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            part.write_text(json.dumps(kept), encoding="utf-8")
    except (OSError, Failure):
        return None
    return path


def recall(artifact: Artifact, path: Path | None = None) -> list[Measured]:
    """What benches of this artifact measured on this machine."""
    kept = _read(path or cache_file())
    return _rows(kept.get(_key(artifact), [])) if kept else []


def cache_file() -> Path:
    """Where measurements are kept, by the custom of the platform."""
    if sys.platform == "darwin":
        folder = home_folder() / "Library" / "Caches"
    else:
        folder = named_folder("XDG_CACHE_HOME") or home_folder() / ".cache"
    return folder / "edge-denoise" / CACHE_FILE


def _rows(kept: Any) -> list[Measured]:
    """As they were remembered; none of a file that something else wrote, or an earlier version."""
    try:
        return [Measured(str(e), str(p), int(n), None if us is None else float(us)) for e, p, n, us in kept]
    except (TypeError, ValueError):
        return []


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        import json  # nothing to read is the rule, and a start need not wait for it

        kept = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _key(artifact: Artifact) -> str:
    """Another processor, another model file or another version of an engine is another key."""
    from edge_runtime.hashing import sha256  # no `--help` waits for them
    from edge_runtime.machine import cpu_name

    manifest = artifact.manifest
    packages = [package for kind in ENGINES.values() for package in kind.packages]
    parts = [cpu_name(), *(manifest.files[name].sha256 for name in manifest.model_files()), *map(stamp, packages)]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def stamp(package: str) -> str:
    """Changes when the package is installed anew; reading versions would take longer than to start."""
    try:
        spec = find_spec(package)
        status = os.stat(spec.origin) if spec and spec.origin else None
    except (OSError, ImportError, ValueError):
        status = None
    return f"{package} {status.st_size} {status.st_mtime_ns}" if status else package
