"""Noisy recordings with their clean originals, and the groups that a manifest puts them in.

DIR/clean/NAME, DIR/noisy/NAME    mono; other rates are resampled to 16 kHz; other layouts: see `layouts`
DIR/manifest.csv                  optional; `file` names a recording (noisy/NAME or NAME), and of the others count

    snr_db, else snr, else snr_nominal      the SNR in dB; without one it is measured from clean and noisy
    subset, source, category, noise, speaker, snr_nominal      groups as they are written
"""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import numpy as np
import soxr

from calibration.mixing import measure_snr_db
from edge_runtime.errors import Failure
from edge_runtime.files import sound_source
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array
from quant.quality.layouts import counterparts
from quant.quality.results import SNR

MANIFEST: Final = "manifest.csv"
SNR_COLUMNS: Final = ("snr_db", "snr", "snr_nominal")
GROUP_COLUMNS: Final = ("subset", "source", "category", "noise", "speaker", "snr_nominal")
SNR_BIN_DB: Final = 5


@dataclass(frozen=True)
class Pair:
    """A noisy recording and its clean original. `snr_db` None is measured; `groups` is grouping -> group."""

    name: str
    clean: Path
    noisy: Path
    snr_db: float | None = None
    groups: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> tuple[Float32Array, Float32Array]:
        """(clean, noisy) samples at 16 kHz. Failure: unreadable, empty, not mono, NaN, or of another length."""
        clean, noisy = (_mono(path) for path in (self.clean, self.noisy))
        if len(clean) != len(noisy):
            what = f"clean and noisy differ in length: {len(clean)} and {len(noisy)} samples at {SAMPLE_RATE_HZ} Hz"
            raise Failure(what, where=self.noisy, remedy="cut both alike, or leave the pair out")
        return clean, noisy

    def duration_s(self) -> float:
        """By the header of the noisy recording; one second where it tells none."""
        with suppress(Failure), sound_source.SoundSource(self.noisy) as source:
            return source.n_stated / source.rate_hz if source.n_stated else 1.0
        return 1.0


def _mono(path: Path) -> Float32Array:
    sound = sound_source.read(path)
    if sound.samples.shape[1] != 1:
        remedy = f"mix it down: ffmpeg -i {shlex.quote(path.name)} -ac 1 mono.wav"
        raise Failure(f"has {sound.samples.shape[1]} channels, not one", where=path, remedy=remedy)
    samples = sound.samples[:, 0]
    if not len(samples):
        raise Failure("holds no samples", where=path, remedy="leave the pair out")
    if sound.rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, sound.rate_hz, SAMPLE_RATE_HZ)
    return np.ascontiguousarray(samples)


def note_on_rate(pairs: Sequence[Pair]) -> str:
    """What to tell of recordings that are resampled, by the first one that can be opened; else nothing."""
    for pair in pairs:
        with suppress(Failure), sound_source.SoundSource(pair.noisy) as source:
            of = f" of {source.rate_hz} Hz, resampled to {SAMPLE_RATE_HZ}"
            return of if source.rate_hz != SAMPLE_RATE_HZ else ""
    return ""


def find_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder. Failure: see `counterparts`; a bad manifest."""
    facts = _manifest(folder / MANIFEST)
    pairs = []
    for name, clean, noisy in counterparts(folder):
        row = facts.get(PurePosixPath(name).with_suffix("").as_posix()) or facts.get(noisy.stem, {})
        snr_db, groups = _known(row, folder)
        pairs.append(Pair(name, clean.absolute(), noisy.absolute(), snr_db, groups))
    return pairs


def _manifest(path: Path) -> dict[str, dict[str, str]]:
    """Name without its suffix, below clean/ or noisy/ and alone -> its row; of two rows with one name the noisy
    recording's counts."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows = [{k: " ".join((v or "").split()) for k, v in row.items() if isinstance(k, str)} for row in table]
            has_file = "file" in (table.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"cannot be read ({error})", where=path, remedy="repair or remove it") from error
    if not has_file:
        raise Failure("has no column `file`", where=path, remedy="name it, or remove the manifest")
    rows.sort(key=lambda row: not row["file"].startswith("clean/"))
    names = [_without_suffix(row["file"]) for row in rows]
    alone = {name.name: row for name, row in zip(names, rows, strict=True)}
    return alone | {"/".join(name.parts[1:]): row for name, row in zip(names, rows, strict=True) if name.parts[1:]}


def _without_suffix(name: str) -> PurePosixPath:
    """A path of either kind of system."""
    path = PurePosixPath(PureWindowsPath(name).as_posix())
    return path.with_suffix("") if path.name else path


def _known(row: Mapping[str, str], folder: Path) -> tuple[float | None, dict[str, str]]:
    """SNR and groups that a row tells."""
    groups = {column: row[column] for column in GROUP_COLUMNS if row.get(column)}
    told = next((row[column] for column in SNR_COLUMNS if row.get(column)), None)
    snr_db = None
    with suppress(ValueError):
        snr_db = None if told is None else float(told)
    if told is not None and (snr_db is None or math.isnan(snr_db)):
        raise Failure(f"{row['file']} has SNR {told!r}, no number", where=folder / MANIFEST, remedy="mend that row")
    return snr_db, groups


def snr_db_of(clean: Float32Array, noisy: Float32Array) -> float:
    """The SNR of a pair: +inf without noise, -inf without speech."""
    noise = noisy - clean
    if not noise.any():
        return math.inf
    return measure_snr_db(clean, noise) if clean.any() else -math.inf


def snr_group(snr_db: float) -> str:
    """The nearest multiple of 5 dB: corpora are mixed at such, so a bin's edge must not lie on one."""
    if not math.isfinite(snr_db):
        return "no noise" if snr_db > 0 else "no speech"
    return f"{SNR_BIN_DB * round(snr_db / SNR_BIN_DB)} dB"


def groupings(pairs: Sequence[Pair]) -> list[str]:
    """What these pairs can be grouped by: the SNR always, and the columns of the manifest."""
    found = {name for pair in pairs for name in pair.groups}
    return [SNR, *(column for column in GROUP_COLUMNS if column in found)]


def snr_and_groups(pair: Pair, clean: Float32Array, noisy: Float32Array) -> tuple[float, dict[str, str]]:
    """SNR told or measured, and every group of the pair, that of its SNR too."""
    snr_db = snr_db_of(clean, noisy) if pair.snr_db is None else pair.snr_db
    return snr_db, {SNR: snr_group(snr_db), **pair.groups}
