"""What a sound file holds, where its header states less.

A recorder that was killed, or that wrote into a pipe, never went back to fill in the length: its header says 0, or what
it held at the last update. Recordings put end to end have a header each, and libraries stop after the first. Here such
a file becomes parts that libsndfile reads to their ends.

    RIFF (WAV), RIFX, RF64, BW64, W64, AIFF, CAF, AU      the stated length against the bytes that follow (`chunks`)
    Ogg, FLAC                                             several streams, one after the other
    MP3                                                   the length in its Xing header against the bytes that follow
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from pathlib import Path
from typing import BinaryIO, Final

from edge_runtime.errors import Failure
from edge_runtime.files import chunks
from edge_runtime.files.chunks import Part

_SUN: Final = {b".snd": ">", b"dns.": "<"}  # AU, and the order of its bytes
_SUN_UNKNOWN: Final = 0xFFFF_FFFF
_FLAC_START: Final = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)  # with the head of its first block
_OGG_PAGE: Final = struct.Struct("<4sBBqIIIB")
_OGG_FIRST: Final = 2  # flag of a stream's first page
_XING_SLACK_BYTES: Final = 4096  # tags at the end of the file


class PartView(io.RawIOBase):
    """A part as a file of its own."""

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file, self._part, self._at = file, part, 0
        self._n_bytes = len(part.head) + part.end - part.start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._n_bytes)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # soundfile hands in its own buffer
        n_wanted = max(0, min(len(buffer), self._n_bytes - self._at))
        data = self._part.head[self._at : self._at + n_wanted]
        self._file.seek(self._part.start + max(self._at - len(self._part.head), 0))
        data += self._file.read(n_wanted - len(data))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def parts(file: BinaryIO, path: Path) -> list[Part]:
    """The sounds in an open file; empty where libsndfile finds all of it by itself.

    Failure: a header promises more than the file holds.
    """
    n_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    first = file.read(16)
    found: list[Part] = []
    if chunks.is_form(first):
        found = chunks.parts(file, n_bytes, path)
    elif first[:4] in _SUN:
        found = _sun(file, n_bytes, first) if len(first) == 16 else []
    elif n_bytes and (first[:4] in (b"OggS", b"fLaC") or first[:3] == b"ID3" or first[:1] == b"\xff"):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = _streams(data, path)
    is_plain = len(found) == 1 and not found[0].head and (found[0].start, found[0].end) == (0, n_bytes)
    return [] if is_plain else found


def _sun(file: BinaryIO, n_bytes: int, first: bytes) -> list[Part]:
    """AU has nothing after its sound: it goes to the end of the file whatever the header says. Where that says 2 GiB,
    libsndfile finds no sound at all."""
    order = _SUN[first[:4]]
    start, stated = struct.unpack(f"{order}II", first[4:12])
    if start + stated == n_bytes or not 24 <= start <= n_bytes:
        return []
    file.seek(0)
    head = bytearray(file.read(start))
    struct.pack_into(f"{order}I", head, 8, _SUN_UNKNOWN)
    return [Part(bytes(head), start, n_bytes)]


def _streams(data: mmap.mmap, path: Path) -> list[Part]:
    start = _after_id3(data)
    if data[:4] == b"OggS":
        return _between(_ogg_starts(data), len(data))
    if data[start : start + 4] == b"fLaC":
        return _between([found.start() for found in _FLAC_START.finditer(data)], len(data))
    starts = _mp3_starts(data, start, path) if _is_frame(data, start) else []
    return _between(starts, len(data))


def _between(starts: list[int], end: int) -> list[Part]:
    return (
        [Part(b"", start, stop) for start, stop in zip(starts, [*starts[1:], end], strict=True)] if starts[1:] else []
    )


def _ogg_starts(data: mmap.mmap) -> list[int]:
    """Where a chain's links start: at a first page of a stream that comes after other pages."""
    starts, at, was_first = [], 0, False
    while 0 <= at <= len(data) - _OGG_PAGE.size:
        magic, _, flags, *_, n_segments = _OGG_PAGE.unpack_from(data, at)
        if magic != b"OggS":
            at = data.find(b"OggS", at + 1)
            continue
        is_first = bool(flags & _OGG_FIRST)
        if is_first and not was_first:
            starts.append(at)
        was_first = is_first
        body = at + _OGG_PAGE.size + n_segments
        at = body + sum(data[at + _OGG_PAGE.size : body])
    return starts


def _after_id3(data: mmap.mmap, at: int = 0) -> int:
    """Where an ID3v2 tag ends that starts here."""
    if data[at : at + 3] != b"ID3" or len(data) < at + 10:
        return at
    size = 0
    for seven_bits in data[at + 6 : at + 10]:
        size = size << 7 | seven_bits & 0x7F
    return at + 10 + size + (10 if data[at + 5] & 0x10 else 0)


# --- MP3 ----------------------------------------------------------------------------------------------------------


def _mp3_starts(data: mmap.mmap, start: int, path: Path) -> list[int]:
    """Where MP3s start that were put end to end: decoders stop at the length that the Xing header of the first states.

    Without one they go on to the end of the file.
    """
    starts, at = [start], start
    while (stated := _xing_bytes(data, at)) is not None:
        slack = max(_XING_SLACK_BYTES, stated // 100)
        if at + stated > len(data) + slack:
            what = f"cut short: its header promises {stated} bytes of sound, {len(data) - at} are there"
            raise Failure(what, where=path, remedy="copy it again")
        at = _next_frame(data, at + stated)
        if at >= len(data) - slack and _xing_bytes(data, at) is None:
            break  # tags
        starts.append(at)
    return starts


def _xing_bytes(data: mmap.mmap, at: int) -> int | None:
    """The bytes of the stream that starts here, by its Xing header; None where it has none, or it does not say."""
    if not _is_frame(data, at):
        return None
    is_1, is_mono = data[at + 1] >> 3 & 3 == 3, data[at + 3] >> 6 == 3
    xing = at + 4 + ((17 if is_mono else 32) if is_1 else (9 if is_mono else 17))  # after the side information
    if data[xing : xing + 4] not in (b"Xing", b"Info") or len(data) < xing + 16 or not data[xing + 7] & 2:
        return None
    (stated,) = struct.unpack_from(">I", data, xing + (12 if data[xing + 7] & 1 else 8))
    return int(stated) or None


def _is_frame(data: mmap.mmap, at: int) -> bool:
    """Whether a frame of layer III starts here."""
    return at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xE6 == 0xE2 and data[at + 2] & 0xF0 != 0xF0


def _next_frame(data: mmap.mmap, at: int) -> int:
    """The first frame from here on, behind tags; the end of the file where there is none."""
    at = min(at, len(data))
    if data[at : at + 3] == b"TAG":
        at += 128
    at = _after_id3(data, at)
    while 0 <= at < len(data) and not _is_frame(data, at):
        at = data.find(b"\xff", at + 1)
    return len(data) if at < 0 else at
