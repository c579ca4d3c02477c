"""MP3s: their frames, and how long the sound in them is in truth.

A decoder believes the Xing header, and stops at the length that it states even if more was put behind. Without one it
takes every frame for as long as the first, and at variable rates finds too little sound or misses some.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

from edge_runtime.errors import Failure
from edge_runtime.files.chunks import Part

_XING_SLACK_BYTES: Final = 4096  # tags at the end of the file
_KBPS: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LOW_KBPS: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # of MPEG 2 and 2.5
_EMPTY_ID3: Final = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)


def parts(data: mmap.mmap, start: int, path: Path) -> list[Part]:
    """What was put end to end; the first frame is at `start`. Failure: a header promises more than is there.

    What begins with a tag is an MP3. Of anything else libsndfile seeks a resource fork first, in the working folder.
    """
    starts, found = _starts(data, start, path), []
    for begin, end in zip(starts, [*starts[1:], len(data)], strict=True):
        first = 0 if begin == start else begin
        tag = data[first:begin] or _EMPTY_ID3
        if _xing(data, begin) is not None:
            found.append(Part(b"" if data[first] != 0xFF else _EMPTY_ID3, first, end))
        else:
            n_frames, end = _frames(data, begin, end)
            found.append(Part(tag + _xing_frame(data[begin : begin + 4], n_frames), begin, end, is_exact=False))
    return found


def after_id3(data: mmap.mmap, at: int = 0) -> int:
    """Where an ID3v2 tag ends that starts here."""
    if data[at : at + 3] != b"ID3" or len(data) < at + 10:
        return at
    size = 0
    for seven_bits in data[at + 6 : at + 10]:
        size = size << 7 | seven_bits & 0x7F
    return at + 10 + size + (10 if data[at + 5] & 0x10 else 0)


def is_frame(data: bytes | mmap.mmap, at: int = 0) -> bool:
    """Whether a frame of layer III starts here."""
    return at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xE6 == 0xE2 and data[at + 2] & 0xF0 != 0xF0


def frame_bytes(head: bytes) -> int:
    """Length of the layer III frame that begins so, 0 where none does (ISO/IEC 11172-3, 2.4.1.3)."""
    if not is_frame(head):
        return 0
    version, rate, bitrate = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or rate == 3 or bitrate in (0, 15):
        return 0
    is_first = version == 3
    kbps = (_KBPS if is_first else _LOW_KBPS)[bitrate - 1]
    rate_hz = (44_100, 48_000, 32_000)[rate] >> (0 if is_first else 1 if version == 2 else 2)
    return (144_000 if is_first else 72_000) * kbps // rate_hz + (head[2] >> 1 & 1)


def _starts(data: mmap.mmap, start: int, path: Path) -> list[int]:
    """Where MP3s start that were put end to end; one without a Xing header goes on to the end of the file."""
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


def _xing(data: mmap.mmap, at: int) -> int | None:
    """Where the Xing header of the stream that starts here lies: after the side information; None: it has none."""
    place = at + _side_end(data[at : at + 4]) if is_frame(data, at) else 0
    return place if place and data[place : place + 4] in (b"Xing", b"Info") else None


def _side_end(head: bytes) -> int:
    is_1, is_mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    return 4 + ((17 if is_mono else 32) if is_1 else (9 if is_mono else 17))


def _xing_bytes(data: mmap.mmap, at: int) -> int | None:
    """The bytes of the stream that starts here, by its Xing header; None where it has none, or it does not say."""
    xing = _xing(data, at)
    if xing is None or len(data) < xing + 16 or not data[xing + 7] & 2:
        return None
    (stated,) = struct.unpack_from(">I", data, xing + (12 if data[xing + 7] & 1 else 8))
    return int(stated) or None


def _frames(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """How many frames there are from here on, and where the last ends: tags may follow, or lie between."""
    n_frames, at, last = 0, start, start
    while at < end:
        if n_bytes := frame_bytes(data[at : at + 4]):
            n_frames, at = n_frames + 1, at + n_bytes
            last = min(at, end)
        else:
            at = _next_frame(data, at + 1)
    return n_frames, last


def _xing_frame(like: bytes, n_frames: int) -> bytes:
    """A frame without sound for the start of a stream, which states how many follow. The longest there is, unpadded and
    without a checksum: it has room."""
    head = bytes((like[0], like[1] | 1, like[2] & 0x0C | 0xE0, like[3]))
    return (head.ljust(_side_end(head), b"\0") + struct.pack(">4sII", b"Xing", 1, n_frames)).ljust(
        frame_bytes(head), b"\0"
    )


def _next_frame(data: mmap.mmap, at: int) -> int:
    """The first frame from here on, behind tags; the end of the file where there is none."""
    at = min(at, len(data))
    if data[at : at + 3] == b"TAG":
        at += 128
    at = after_id3(data, at)
    while 0 <= at < len(data) and not is_frame(data, at):
        at = data.find(b"\xff", at + 1)
    return len(data) if at < 0 else at
