"""What can be evaluated: anything that turns a noisy recording into a cleaner one.

System("mine", open)    `open()` is called once a worker and returns a function: noisy (n,) -> enhanced (n,)
Model(...)              such an `open`: a model's bytes and its manifest entry, streamed through a real engine
systems_of(folders)     every model of every artifact
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.denoiser import Denoiser
from edge_runtime.engines import available, open_model
from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_install
from edge_runtime.manifest import MANIFEST_FILE, Artifact, ModelEntry, open_artifact
from edge_runtime.stft import Float32Array, WindowName
from quant.emit.emitted import Emitted

NOISY: Final = "noisy"  # the label of the recording itself
FLOAT: Final = "fp32"

Enhance = Callable[[Float32Array], Float32Array]


@dataclass(frozen=True)
class Model:
    """A model file as bytes, so that it runs on machines that do not see the artifact."""

    engine: str
    precision: str
    entry: ModelEntry
    data: bytes = field(repr=False)
    window: WindowName

    @classmethod
    def read(cls, artifact: Artifact, engine: str, precision: str) -> Model:
        """Failure: no such model, or its file is not what was built."""
        entry = artifact.model(engine, precision)
        return cls(engine, precision, entry, artifact.read(entry.file), artifact.manifest.window)

    @classmethod
    def of(cls, emitted: Emitted, engine: str, precision: str) -> Model:
        """One that lies in no artifact yet."""
        entry = ModelEntry(file=f"{engine}-{precision}", states=emitted.states, golden_snr_floor_db=0.0)
        return cls(engine, precision, entry, emitted.data, emitted.window)

    def __call__(self) -> Enhance:
        """Load it. Failure: see `open_model`."""
        model = open_model(self.data, self.entry, self.engine, self.precision, window=self.window)
        return partial(_streamed, Denoiser(model))


def _streamed(denoiser: Denoiser, noisy: Float32Array) -> Float32Array:
    denoiser.reset()  # an earlier recording may have failed midway
    return np.concatenate([denoiser.feed(noisy), denoiser.flush()])


@dataclass(frozen=True)
class System:
    """`label` names it in tables; `open` is picklable; `against` is the label whose scores are subtracted."""

    label: str
    open: Callable[[], Enhance] = field(repr=False)
    against: str | None = None


def systems_of(artifacts: Sequence[Path]) -> list[System]:
    """Every model that an engine here can run, int8 against the float one of its artifact and engine.

    Failure: not an artifact, or no engine for any model.
    """
    prefixes = _prefixes(artifacts)
    systems = [s for folder, prefix in zip(artifacts, prefixes, strict=True) for s in _models(folder, prefix)]
    if not systems:
        raise Failure("no engine is installed to run these models", remedy=how_to_install("onnx"))
    return systems


def _models(folder: Path, prefix: str) -> list[System]:
    artifact, found = open_artifact(folder), []
    for engine, models in sorted(artifact.manifest.models.items()):
        if engine in available():
            base = f"{prefix}{engine} {FLOAT}" if FLOAT in models else None
            for precision in sorted(models):
                label = f"{prefix}{engine} {precision}"
                found.append(System(label, Model.read(artifact, engine, precision), None if label == base else base))
    return found


def _prefixes(artifacts: Sequence[Path]) -> list[str]:
    """What tells artifacts apart in labels: nothing for one, the folder's name, or its path where names repeat."""
    if len(artifacts) == 1:
        return [""]
    n_so_named = Counter(folder.name for folder in artifacts)
    prefixes = [f"{folder.name if n_so_named[folder.name] == 1 else folder} " for folder in artifacts]
    if len(set(prefixes)) < len(prefixes):
        raise Failure("is named twice", where=max(artifacts, key=artifacts.count), remedy="name every artifact once")
    return prefixes


def compared(systems: Sequence[System], against: str) -> list[System]:
    """The systems, each compared with `against`: a label, or an artifact, which adds its float models.

    With an artifact each system is compared with the float model of its own engine. Failure: neither of both.
    """
    labels = [NOISY, *(s.label for s in systems)]
    if against in labels:
        return [replace(s, against=None if s.label == against else against) for s in systems]
    if not (Path(against) / MANIFEST_FILE).is_file():
        remedy = f"name an artifact, or one of: {', '.join(labels)}"
        raise Failure("is no system and no artifact", where=f"--against {against}", remedy=remedy)
    bases = {
        s.open.engine: s
        for s in _models(Path(against), f"{against.rstrip('/')} ")
        if isinstance(s.open, Model) and s.open.precision == FLOAT
    }
    if not bases:
        what = "holds no float model that an engine here can run"
        raise Failure(what, where=f"--against {against}", remedy="name another artifact")
    any_base = next(iter(bases.values()))
    return [*bases.values(), *(replace(s, against=bases.get(_engine(s), any_base).label) for s in systems)]


def _engine(system: System) -> str:
    return system.open.engine if isinstance(system.open, Model) else ""
