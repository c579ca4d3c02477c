"""Which engine `auto` takes, and why: the fastest that `edge-denoise bench` measured here, else the board's.

Measurements are kept in one small file of the user's cache folder, and hold only for the same processor, model files
and installed engines. Nothing is measured at start. A file that is damaged or cannot be written is as none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edge_runtime.errors import Failure
from edge_runtime.hashing import sha256
from edge_runtime.machine import cpu_name
from edge_runtime.whole_file import written_whole

if TYPE_CHECKING:
    from edge_runtime.manifest import Artifact

CACHE_FILE: Final = "engines.json"
MOST_REMEMBERED: Final = 32  # artifacts; the oldest are forgotten first


class Choice(NamedTuple):
    """An engine, and in a few words why this one."""

    engine: str
    reason: str


def fastest_measured(artifact: Artifact, precision: str, usable: Iterable[str]) -> Choice | None:
    """The fastest of `usable` that was measured here, or None when none was."""
    taken = recall(artifact)
    times_us = {name: taken[name, precision] for name in usable if (name, precision) in taken}
    if not times_us:
        return None
    name, *others = sorted(times_us, key=lambda name: times_us[name])
    than = ", ".join(f"{other} {times_us[other]:.0f}" for other in others)
    return Choice(name, f"fastest measured here, {times_us[name]:.0f} us a hop{f' ({than})' if than else ''}")


def remember(artifact: Artifact, rows: Iterable[Mapping[str, Any]], path: Path | None = None) -> Path | None:
    """Keep the median hop of each row of a bench; the file, or None when it cannot be written."""
    import json

    path = path or cache_file()
    medians = [[row["engine"], row["precision"], row["hop_us"]["p50"]] for row in rows]
    kept = _read(path)
    key = _key(artifact)
    kept.pop(key, None)
    kept[key] = medians  # last: the newest
    while len(kept) > MOST_REMEMBERED:
        del kept[next(iter(kept))]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            part.write_text(json.dumps(kept), encoding="utf-8")
    except (OSError, Failure):
        return None
    return path


def recall(artifact: Artifact, path: Path | None = None) -> dict[tuple[str, str], float]:
    """(engine, precision) -> median hop, us, of the last bench of this artifact on this machine."""
    kept = _read(path or cache_file())
    try:
        rows = kept[_key(artifact)] if kept else []
        return {(str(engine), str(precision)): float(us) for engine, precision, us in rows}
    except (KeyError, TypeError, ValueError):
        return {}


def cache_file() -> Path:
    """Where measurements are kept, by the custom of the platform."""
    if sys.platform == "darwin":
        folder = Path("~/Library/Caches").expanduser()
    else:
        named = os.environ.get("XDG_CACHE_HOME", "")
        folder = Path(named) if Path(named).is_absolute() else Path(os.path.expanduser("~/.cache"))
    return folder / "edge-denoise" / CACHE_FILE


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
    from edge_runtime.engines import ENGINES

    manifest = artifact.manifest
    packages = [package for kind in ENGINES.values() for package in kind.packages]
    parts = [cpu_name(), *(manifest.files[name].sha256 for name in manifest.model_files()), *map(_stamp, packages)]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def _stamp(package: str) -> str:
    """Changes when the package is installed anew; reading versions would take longer than to start."""
    try:
        spec = find_spec(package)
        status = os.stat(spec.origin) if spec and spec.origin else None
    except (OSError, ImportError, ValueError):
        status = None
    return f"{package} {status.st_size} {status.st_mtime_ns}" if status else package
