"""What a sound file holds, where its header states less.

A recorder that was killed, or that wrote into a pipe, never went back to fill in the length: its header says 0, or what
it held at the last update. Recordings put end to end have a header each, and libraries stop after the first. Here such
a file becomes parts that libsndfile reads to their ends.

    RIFF (WAV), RIFX, RF64, BW64, W64, AIFF, CAF, AU      the stated length against the bytes that follow (`chunks`)
    Ogg, FLAC                                             several streams, one after the other; an Ogg that is cut, a
                                                          FLAC that goes on after the samples that it states
    MP3                                                   see `mp3`
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from pathlib import Path
from typing import BinaryIO, Final

from edge_runtime.errors import Failure
from edge_runtime.files import chunks, mp3
from edge_runtime.files.chunks import Part

_SUN: Final = {b".snd": ">", b"dns.": "<"}  # AU, and the order of its bytes
_SUN_UNKNOWN: Final = 0xFFFF_FFFF
_FLAC_START: Final = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)  # with the head of its first block
_FLAC_HEAD_BYTES: Final = 26  # to the end of its count of samples, which has 36 bits
_FLAC_MOST_SAMPLES: Final = (1 << 36) - 1
_OGG_PAGE: Final = struct.Struct("<4sBBqIIIB")
_OGG_FIRST: Final = 2  # flag of a stream's first page
_ID3V1_BYTES: Final = 128


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
    start = mp3.after_id3(data)
    if data[:4] == b"OggS":
        return _between([0, *_ogg_starts(data, path)[1:]], len(data))
    if data[start : start + 4] == b"fLaC":
        starts = [found.start() for found in _FLAC_START.finditer(data)]
        end = len(data) - (_ID3V1_BYTES if data[-_ID3V1_BYTES:][:3] == b"TAG" else 0)
        return [_flac_to_its_end(data, part, max(part.start, start)) for part in _between([0, *starts[1:]], end)]
    return mp3.parts(data, start, path) if mp3.is_frame(data, start) else []


def _flac_to_its_end(data: mmap.mmap, part: Part, start: int) -> Part:
    """A part whose stream starts at `start`, with a head that states no length: the library stops at one."""
    if part.end < start + _FLAC_HEAD_BYTES:
        return part
    head = bytearray(data[part.start : start + _FLAC_HEAD_BYTES])
    n_stated = int.from_bytes(head[-5:], "big") & _FLAC_MOST_SAMPLES
    head[-5:] = (int.from_bytes(head[-5:], "big") - n_stated).to_bytes(5, "big")
    return Part(bytes(head), start + _FLAC_HEAD_BYTES, part.end, n_stated=n_stated or None)


def _between(starts: list[int], end: int) -> list[Part]:
    return [Part(b"", start, stop) for start, stop in zip(starts, [*starts[1:], end], strict=True)]


def _ogg_starts(data: mmap.mmap, path: Path) -> list[int]:
    """Where a chain's links start: at a first page of a stream that comes after other pages.

    Failure: the last page is cut, whose sound no library gives.
    """
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
        if at > len(data):
            raise Failure("cut short: its last page ends behind its end", where=path, remedy="copy it again")
    return starts
