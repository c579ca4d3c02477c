"""Noisy recordings with their clean originals, and the groups that a manifest puts them in.

DIR/clean/NAME, DIR/noisy/NAME    16 kHz mono, .wav or .flac
DIR/manifest.csv                  optional; `file` names a recording (noisy/NAME or NAME), and of the others count

    snr_db, else snr, else snr_nominal      the SNR in dB; without one it is measured from clean and noisy
    subset, source, category, noise, speaker, snr_nominal      groups as they are written
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import soundfile as sf

from calibration.mixing import measure_snr_db
from edge_runtime.errors import Failure
from edge_runtime.stft import SAMPLE_RATE_HZ
from quant.network.graph import Array
from quant.quality.results import SNR

AUDIO_SUFFIXES: Final = (".flac", ".wav")
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

    def read(self) -> tuple[Array, Array]:
        """(clean, noisy) samples. Failure: unreadable, or another rate, channel count or length."""
        sounds = []
        for path in (self.clean, self.noisy):
            try:
                samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
            except (sf.SoundFileError, OSError) as error:
                raise Failure(f"cannot be read as audio ({error})", where=path) from error
            if rate_hz != SAMPLE_RATE_HZ or samples.shape[1] != 1:
                raise Failure(f"is {samples.shape[1]} x {rate_hz} Hz, not mono 16000 Hz", where=path)
            sounds.append(samples[:, 0])
        if len(sounds[0]) != len(sounds[1]):
            raise Failure("clean and noisy differ in length", where=self.noisy)
        if not len(sounds[0]):
            raise Failure("holds no samples", where=self.noisy)
        return sounds[0], sounds[1]


def find_pairs(folder: Path) -> list[Pair]:
    """Pairs in FOLDER/clean and FOLDER/noisy by file name. Failure: none, one side missing, a bad manifest."""
    names = {
        side: {p.name: p for p in sorted((folder / side).glob("*")) if p.suffix in AUDIO_SUFFIXES}
        for side in ("clean", "noisy")
    }
    if not names["noisy"]:
        raise Failure("holds no pairs", where=folder, remedy="it needs clean/ and noisy/ with the same file names")
    if alone := sorted(set(names["clean"]) ^ set(names["noisy"])):
        raise Failure(f"{alone[0]} has no counterpart", where=folder, remedy="clean/ and noisy/ must match")
    facts = _manifest(folder / MANIFEST)
    pairs = []
    for name, noisy in names["noisy"].items():
        snr_db, groups = _known(facts.get(name, {}), folder)
        pairs.append(Pair(name, names["clean"][name].absolute(), noisy.absolute(), snr_db, groups))
    return pairs


def _manifest(path: Path) -> dict[str, dict[str, str]]:
    """File name -> its row; of two rows with one name the noisy recording's counts."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows = [{k: (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in table]
            has_file = "file" in (table.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"cannot be read ({error})", where=path, remedy="repair or remove it") from error
    if not has_file:
        raise Failure("has no column `file`", where=path, remedy="name it, or remove the manifest")
    rows.sort(key=lambda row: not row["file"].startswith("clean/"))
    return {row["file"].rpartition("/")[2]: row for row in rows}


def _known(row: Mapping[str, str], folder: Path) -> tuple[float | None, dict[str, str]]:
    """SNR and groups that a row tells."""
    groups = {column: row[column] for column in GROUP_COLUMNS if row.get(column)}
    told = next((row[column] for column in SNR_COLUMNS if row.get(column)), None)
    try:
        return None if told is None else float(told), groups
    except ValueError:
        raise Failure(f"{row['file']} has SNR {told!r}, no number", where=folder / MANIFEST) from None


def snr_db_of(clean: Array, noisy: Array) -> float:
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


def snr_and_groups(pair: Pair, clean: Array, noisy: Array) -> tuple[float, dict[str, str]]:
    """SNR told or measured, and every group of the pair, that of its SNR too."""
    snr_db = snr_db_of(clean, noisy) if pair.snr_db is None else pair.snr_db
    return snr_db, {SNR: snr_group(snr_db), **pair.groups}
