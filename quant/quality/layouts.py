"""Which clean recording belongs to a noisy one, in the layouts that data sets are published in.

DIR/clean, DIR/noisy                               the same names; suffixes may differ
DIR/clean_testset_wav, DIR/noisy_testset_wav       VoiceBank-DEMAND: folders that begin so, of several those with `test`
clean_fileid_7.wav, ..._snr5_fileid_7.wav          DNS Challenge: the same number
clnsp7.wav, noisy3_SNRdb_5.0_clnsp7.wav            MS-SNSD: the noisy name ends with the clean one
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from calibration.corpus import conversion, files_below
from edge_runtime.errors import Failure
from edge_runtime.files.containers import FOREIGN_SUFFIXES, SUFFIXES

MOST_NAMED: Final = 20  # of recordings without a counterpart, in one line
_NEEDED: Final = "it needs clean/ and noisy/ with the same file names"
_SIDES: Final = ("clean", "noisy")

Key = Callable[[str], str | None]


def counterparts(folder: Path) -> list[tuple[str, Path, Path]]:
    """(name, clean, noisy), by name; the name is the noisy one's, below its folder.

    Failure: no such folders, more than one pair of them, recordings without a counterpart.
    """
    clean, noisy = (_recordings(side) for side in _sides(folder))
    if not noisy:
        raise Failure("holds no pairs", where=folder, remedy=_NEEDED)
    for key in _KEYS:
        if found := _matched(clean, noisy, key):
            return found
    alone = [f"clean {stem}" for stem in clean.keys() - noisy.keys()]
    alone += [f"noisy {stem}" for stem in noisy.keys() - clean.keys()]
    more = f" and {len(alone) - MOST_NAMED} more" if len(alone) > MOST_NAMED else ""
    named = ", ".join(sorted(alone)[:MOST_NAMED])
    have = "has" if len(alone) == 1 else "have"
    raise Failure(f"{named}{more} {have} no counterpart", where=folder, remedy="clean/ and noisy/ must match")


def _sides(folder: Path) -> tuple[Path, Path]:
    """The folders of clean and noisy recordings."""
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise Failure(what, where=folder, remedy="name a folder with clean/ and noisy/ in it")
    found: dict[str, dict[str, Path]] = {side: {} for side in _SIDES}
    for path in sorted(folder.iterdir()):
        for side in _SIDES:
            if path.is_dir() and path.name.lower().startswith(side):
                found[side][path.name.lower()[len(side) :]] = path
    clean, noisy = (found[side] for side in _SIDES)
    both = [rest for rest in clean if rest in noisy] or [""]
    chosen = [""] if "" in both else [rest for rest in both if "test" in rest] or both
    if len(chosen) > 1:
        named = ", ".join(f"{clean[rest].name} + {noisy[rest].name}" for rest in chosen)
        raise Failure(f"holds several sets: {named}", where=folder, remedy="put one into a folder of its own")
    if chosen[0] not in clean or chosen[0] not in noisy:
        raise Failure("holds no pairs", where=folder, remedy=_NEEDED)
    return _innermost(clean[chosen[0]]), _innermost(noisy[chosen[0]])


def _innermost(folder: Path) -> Path:
    """Archives unpack into a folder of their own name: down to where more than one folder lies."""
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return _innermost(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder


def _recordings(folder: Path) -> dict[str, Path]:
    """Path below the folder without its suffix -> the recording; of one in several formats, one.

    Failure: it also holds recordings that are not read here.
    """
    found: dict[str, tuple[int, str]] = {}
    foreign: dict[str, str] = {}
    for name, kind in sorted(files_below(folder), key=lambda file: os.fsencode(file[0])):
        stem = name[: len(name) - len(kind)]
        if kind in SUFFIXES:
            found[stem] = min(found.get(stem, (len(SUFFIXES), "")), (SUFFIXES.index(kind), name))
        elif kind in FOREIGN_SUFFIXES:
            foreign[stem] = kind
    if unread := Counter(kind for stem, kind in foreign.items() if stem not in found):
        named = ", ".join(f"{n} {kind}" for kind, n in sorted(unread.items()))
        raise Failure(f"holds recordings that are not read here: {named}", where=folder, remedy=conversion(min(unread)))
    return {stem: folder / name for stem, (_, name) in found.items()}


def _matched(clean: Mapping[str, Path], noisy: Mapping[str, Path], key: Key) -> list[tuple[str, Path, Path]]:
    """Every noisy recording with the clean one of the same key; nothing where one has none, or is left over."""
    by_key = {key(stem): path for stem, path in clean.items()}
    keys = {stem: key(stem) for stem in noisy}
    if None in by_key or len(by_key) != len(clean) or set(keys.values()) != set(by_key):
        return []
    suffix_of = {stem: path.suffix for stem, path in noisy.items()}
    return [(f"{stem}{suffix_of[stem]}", by_key[keys[stem]], path) for stem, path in noisy.items()]


def _ending(pattern: str) -> Key:
    compiled = re.compile(pattern)

    def key(stem: str) -> str | None:
        found = compiled.search(stem)
        return found[0] if found else None

    return key


_KEYS: Final[tuple[Key, ...]] = (lambda stem: stem, _ending(r"fileid_\d+$"), _ending(r"clnsp\d+$"))
