"""A folder of recordings, read as mono float32 at 16 kHz in an order that no file system can change."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import soxr

from edge_runtime.errors import Failure
from edge_runtime.files import sound_source
from edge_runtime.files.containers import FOREIGN_SUFFIXES, SUFFIXES
from edge_runtime.quiet import Progress, silent
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array

SHORTEST_S = 5.0
SILENCE_PEAK = 1e-4  # -80 dBFS, a few steps of 16-bit audio
MOST_NAMED: Final = 50  # of the recordings that one line lists
LONG_S: Final = 600.0  # a clip of seconds must not cost a recording of hours, read and resampled
LOOKED_THROUGH_S: Final = 5 * 3600  # of sound, which takes a minute or so to read
PREFERRED: Final = {suffix: place for place, suffix in enumerate(SUFFIXES)}  # of copies in several formats
FIRST_SIGN_S, SIGN_EVERY_S = 1.0, 10.0

Found = TypeVar("Found")


@dataclass(frozen=True)
class Corpus:
    """The recordings under one folder; `names` are sorted paths below it, with forward slashes."""

    folder: Path
    names: tuple[str, ...]
    duration_s: float

    @classmethod
    def open(cls, folder: str | Path, progress: Progress = silent) -> Corpus:
        """Find the recordings under `folder`, at any depth; one in several formats counts once. Only headers are read.

        `progress` is told what is left out, and how far it is where that takes long. Fails on a missing folder, one
        without recordings, less than 5 s in total, or recordings that cannot be used, and then names them all.
        """
        root = Path(folder)
        if not root.is_dir():
            what = "not a folder" if root.exists() else "no such folder"
            raise Failure(what, where=root, remedy="name a folder of recordings")
        began_s = time.monotonic()
        names = _names(root, progress)
        durations_s, unfit = _each(names, lambda n: _duration_s(root / n), f"{root}: looking at", progress, began_s)
        found = cls(root, names, sum(durations_s.values()))
        if unfit:
            raise found._refusal(unfit, progress)
        if found.duration_s < SHORTEST_S:
            shortage = f"holds only {found.duration_s:.1f} s of audio"
            raise Failure(shortage, where=root, remedy=f"at least {SHORTEST_S:.0f} s are needed")
        return found

    def read(self, name: str, place: float | None = None) -> Float32Array:
        """One recording -> (n,) float32 mono at 16 kHz; channels are averaged, a DC offset stays.

        With `place`, 0 to 1: of more than `LONG_S` as much alone, from there, unless it is silent. Fails, naming the
        file, when it cannot be decoded, is silent, or holds NaN or infinity.
        """
        path = self.folder / name
        rest_s = 0.0 if place is None else max(0.0, _duration_s(path) - LONG_S)
        start_s = (place or 0.0) * rest_s
        sound = sound_source.read(path, LONG_S if rest_s else None, start_s=start_s, mixed=True)
        mono = sound.samples[:, 0]
        resampled = mono if sound.rate_hz == SAMPLE_RATE_HZ else soxr.resample(mono, sound.rate_hz, SAMPLE_RATE_HZ)
        if np.abs(resampled).max(initial=0.0) < SILENCE_PEAK:
            if rest_s:
                return self.read(name)
            raise Failure("is silent", where=path, remedy="remove the file")
        return np.ascontiguousarray(resampled, dtype=np.float32)

    def refusal(self, name: str, failure: Failure, progress: Progress = silent) -> Failure:
        """What to raise when a recording cannot be used: it names all others that cannot, too."""
        return self._refusal({name: failure}, progress)

    def fingerprint(self) -> str:
        """SHA-256 over every name and content: equal wherever the same recordings lie, and only there."""
        whole = hashlib.sha256()
        for name in self.names:
            content = hashlib.sha256()
            with (self.folder / name).open("rb") as file:
                while block := file.read(1 << 20):
                    content.update(block)
            whole.update(os.fsencode(name) + f"\0{content.hexdigest()}\n".encode())
        return whole.hexdigest()

    def _refusal(self, unfit: Mapping[str, Failure], progress: Progress) -> Failure:
        if self.duration_s <= LOOKED_THROUGH_S:
            rest = [name for name in self.names if name not in unfit]
            doing = f"{self.folder}: looking through"
            unfit = {**unfit, **_each(rest, self.read, doing, progress, time.monotonic())[1]}
        if len(unfit) == 1:
            return next(iter(unfit.values()))
        named = [f"{name} ({failure.reason})" for name, failure in sorted(unfit.items())]
        more = f", and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        what = f"{len(named)} recordings cannot be used: {', '.join(named[:MOST_NAMED])}{more}"
        return Failure(what, where=self.folder, remedy="remove or repair them")


def _names(root: Path, progress: Progress) -> tuple[str, ...]:
    """The recordings, each once. Failure: there are none."""
    files = list(files_below(root))  # paths are for few files: these may be many thousands
    kinds = Counter(kind for _, kind in files if kind in FOREIGN_SUFFIXES)
    foreign = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    convert = conversion(next(iter(kinds), ""))
    copies: dict[str, list[str]] = {}
    for name, kind in sorted(files, key=lambda file: (PREFERRED.get(file[1], 0), os.fsencode(file[0]))):
        if kind in PREFERRED:
            copies.setdefault(name[: -len(kind)], []).append(name)
    if not copies:
        what = f"no recordings in it that are read here, but {foreign}" if foreign else "no recordings in it"
        remedy = convert if foreign else f"put in some {', '.join(sorted(suffix[1:] for suffix in SUFFIXES))} files"
        raise Failure(what, where=root, remedy=remedy)
    if foreign:
        progress(f"{root}: left out {foreign}; {convert}")
    if n_left := sum(map(len, copies.values())) - len(copies):
        progress(f"{root}: recordings in two formats, counted once: {n_left}")
    return tuple(sorted((named[0] for named in copies.values()), key=os.fsencode))  # alike in every locale


def files_below(root: Path) -> Iterator[tuple[str, str]]:
    """(path below the root with forward slashes, suffix in small letters) of every file that is not hidden.

    Links to folders are followed, each folder once. Failure: a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, onerror=_unread, followlinks=True):
        found = os.stat(folder)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(folder).relative_to(root).as_posix()
        before = "" if below == "." else f"{below}/"
        yield from ((before + name, os.path.splitext(name)[1].lower()) for name in names if not name.startswith("."))


def _unread(error: OSError) -> None:
    raise Failure(f"cannot be read ({error.strerror})", where=error.filename, remedy="check who may read it")


def conversion(suffix: str) -> str:
    """What to do about recordings of this suffix, which are not read here."""
    return f'convert them: for f in *{suffix}; do ffmpeg -i "$f" "${{f%.*}}.wav"; done'


def _each(
    names: Sequence[str], look: Callable[[str], Found], doing: str, progress: Progress, began_s: float
) -> tuple[dict[str, Found], dict[str, Failure]]:
    """What `look` finds of each, and where it failed; with a sign of life."""
    found: dict[str, Found] = {}
    unfit: dict[str, Failure] = {}
    next_sign_s = began_s + FIRST_SIGN_S
    for n_done, name in enumerate(names):
        try:
            found[name] = look(name)
        except Failure as failure:
            unfit[name] = failure
        if time.monotonic() >= next_sign_s:
            progress(f"{doing} {n_done + 1} of {len(names)} recordings")
            next_sign_s = time.monotonic() + SIGN_EVERY_S
    return found, unfit


def _duration_s(path: Path) -> float:
    n_samples, rate_hz = sound_source.count(path)
    if n_samples == 0:
        raise Failure("is empty: it holds no samples", where=path, remedy="remove the file")
    return n_samples / rate_hz
