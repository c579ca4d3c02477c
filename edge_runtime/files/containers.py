"""Which files hold sound: what is written, what is read, and what needs another program first."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, NamedTuple


class Container(NamedTuple):
    """An output format and the subtypes it stores without changing the length, its default first.

    `most_bytes` of sound fit into it; `larger` is libsndfile's name for the same with lengths of 64 bits.
    """

    format: str
    subtypes: tuple[str, ...]
    most_bytes: int | None = None
    larger: str | None = None


_LINEAR = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_32_BITS: Final = 2**32 - 2**16  # less what the other chunks of a header take

CONTAINERS: Final = {
    ".wav": Container("WAV", (*_LINEAR, "PCM_U8", "ULAW", "ALAW"), _32_BITS, "RF64"),
    ".flac": Container("FLAC", ("PCM_16", "PCM_24", "PCM_S8")),
    ".ogg": Container("OGG", ("VORBIS", "OPUS")),
    ".oga": Container("OGG", ("VORBIS", "OPUS")),
    ".opus": Container("OGG", ("OPUS",)),
    ".mp3": Container("MP3", ("MPEG_LAYER_III",)),
    ".aiff": Container("AIFF", _LINEAR, _32_BITS),
    ".aif": Container("AIFF", _LINEAR, _32_BITS),
    ".au": Container("AU", (*_LINEAR, "PCM_S8", "ULAW", "ALAW")),
    ".caf": Container("CAF", (*_LINEAR, "PCM_S8", "ULAW", "ALAW")),
    ".w64": Container("W64", (*_LINEAR, "PCM_U8", "ULAW", "ALAW")),
    ".rf64": Container("RF64", (*_LINEAR, "PCM_U8", "ULAW", "ALAW")),
}
SUFFIXES: Final = tuple(CONTAINERS)  # of recordings, in the order in which one of several copies is taken
FOREIGN_SUFFIXES: Final = (".m4a", ".mp4", ".aac", ".wma", ".amr", ".webm", ".mka", ".ape", ".wv")

# First bytes of what libsndfile does not read, and what it is. `.` in a pattern is any byte.
_FOREIGN: Final = (
    (b"....ftyp", "MPEG-4 sound (AAC or ALAC)"),
    (b"\xff\xf1", "AAC"),
    (b"\xff\xf9", "AAC"),
    (b"ADIF", "AAC"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (b"#!AMR", "AMR"),
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (b"MAC ", "Monkey's Audio"),
    (b"wvpk", "WavPack"),
    (b"\x0b\x77", "AC-3"),
    (b"TTA1", "True Audio"),
    (b"RIFF....AVI ", "a video"),
)
_NO_SOUND: Final = (
    (b"\x00\x05\x16\x07", "macOS metadata, not sound", "take the file without `._` before its name"),
    (b"version https://git-lfs", "a Git LFS pointer, not the sound itself", "run `git lfs pull`"),
    (b"<!DOCTYPE", "a web page, not sound", "download the file itself"),
    (b"<html", "a web page, not sound", "download the file itself"),
    (b"PK\x03\x04", "a zip archive, not sound", "unpack it first"),
    (b"\x1f\x8b", "compressed by gzip, not sound", "unpack it first"),
)


def is_recording(path: PurePath) -> bool:
    """Whether a name is that of a recording: a known suffix, in capitals too, and not hidden.

    macOS leaves `._x.wav` beside x.wav on foreign disks: metadata, not sound.
    """
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def foreign(first_bytes: bytes) -> tuple[str, str | None] | None:
    """(what it is, the remedy) of a file that libsndfile does not read; the remedy None: convert it."""
    for magic, what in _FOREIGN:
        if _matches(first_bytes, magic):
            return f"is {what}, which is not read here", None
    for magic, what, remedy in _NO_SOUND:
        if _matches(first_bytes, magic):
            return f"is {what}", remedy
    return None


def _matches(data: bytes, magic: bytes) -> bool:
    return len(data) >= len(magic) and all(m in (d, ord(".")) for d, m in zip(data, magic, strict=False))
