"""Checks of what denoises: the engines that are installed here, and the artifact through each of them. What loads a
wheel does it in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from edge_runtime.doctor.checks import Row, fail, ok, warn
from edge_runtime.engines import ENGINES
from edge_runtime.engines.apart import another, apart, engine_apart
from edge_runtime.engines.golden import GoldenRow, golden_rows
from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_mend
from edge_runtime.manifest import open_artifact

# The packages of each engine, any one will do, and what brings them.
Engines = Mapping[str, tuple[tuple[str, ...], str]]
# What the engine imports of its package, where that is not the package itself.
_LOADED: Final = {name: f"{name}.interpreter" for name in ("ai_edge_litert", "tflite_runtime")}


def engines(known: Engines | None = None) -> list[Row]:
    """Each engine: installed, and really loadable. One is enough."""
    known = known or {name: (kind.packages, kind.remedy()) for name, kind in ENGINES.items()}
    rows = [_engine(name, packages, remedy) for name, (packages, remedy) in known.items()]
    if not any(row.status == "ok" for row in rows):
        rows.append(fail("engines", "none can be loaded", " or ".join(remedy for _, remedy in known.values())))
    return rows


def kernels() -> list[Row]:
    """Which of the native engine's kernel sets run on this processor."""
    if not find_spec(ENGINES["native"].packages[0]):
        return [warn("kernels", "no native engine", ENGINES["native"].remedy())]
    try:
        usable = engine_apart("native", f"{__name__}:{isas.__name__}").decode().split()
    except Failure as failure:
        return [fail("kernels", failure.what, failure.remedy)]
    found = f"{usable[0]} (also: {', '.join(usable[1:]) or 'none'})"
    if usable[0] == "portable":
        return [warn("kernels", found, "no faster ones for this processor: see `edge-denoise bench`")]
    return [ok("kernels", found)]


def isas() -> bytes:
    """The kernel sets that run here, fastest first."""
    from edge_runtime import native

    return " ".join(native.isas()).encode()


def model(folder: Path | None) -> Iterator[Row]:
    """Of an artifact, or of the one that is built in: every file is as built, and every engine here reaches its golden
    vectors. Failure: it does not load."""
    artifact = open_artifact(folder)
    artifact.check_all()
    n_files = len(artifact.manifest.files)
    built = f"as built for {artifact.manifest.board} ({artifact.manifest.recipe})" if folder else "as shipped"
    yield ok("model files", f"{artifact.name}: {n_files} {built}")
    yield from map(_golden_row, golden_rows(artifact))


def _engine(name: str, packages: tuple[str, ...], remedy: str) -> Row:
    check = f"engine {name}"
    installed = [package for package in packages if find_spec(package)]
    if not installed:
        return warn(check, "not installed", f"{remedy}, should you want it")
    try:
        apart(f"{__name__}:{load.__name__}", installed[0])
    except Failure as failure:  # a wheel for another processor or NumPy fails in many ways
        found = f"{installed[0]} is installed but cannot be loaded: {failure.what}"
        again = remedy if name == "native" else how_to_mend(installed[0])
        return fail(check, found, f"reinstall it, or another version: {again}")
    return ok(check, f"{installed[0]} loads")


def load(package: str) -> bytes:
    """Import it as the engine will: a plain shared library has no module of its own. For a process of its own."""
    if package == ENGINES["native"].packages[0]:
        from edge_runtime.native import load_library

        load_library()
    else:
        import_module(_LOADED.get(package, package))
    return b""


def _golden_row(row: GoldenRow) -> Row:
    check = f"golden vectors {row.engine} {row.precision}"
    wanted = "bit for bit" if row.exact else f"{row.floor_db:.0f} dB"
    if row.error:
        return fail(check, row.error, another(row.engine))
    if row.ok is None or row.snr_db is None:
        remedy = f"{ENGINES[row.engine].remedy()}, should you want it"
        return warn(check, "not run: the engine is not installed", remedy)
    reached = "bit for bit" if row.snr_db == float("inf") else f"{row.snr_db:.1f} dB"
    if row.ok:
        return ok(check, f"{reached}, wanted {wanted}")
    return fail(check, f"{reached}, wanted {wanted}: {row.why}", row.remedy)
