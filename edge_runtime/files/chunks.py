"""Containers made of chunks (RIFF, RIFX, RF64, BW64, W64, AIFF, CAF): how long the sound in them is in truth.

The chunk of sound states a length. It holds if the file ends there, or goes on with chunks or tags; if something else
follows, that is sound which a recorder wrote after it last went back to its header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from edge_runtime.errors import Failure

SLICE_BYTES: Final = 1 << 31  # of sound under one header with lengths of 32 bits
_MOST_FORMS: Final = 10_000  # end to end in one file
_MOST_CHUNKS: Final = 10_000
_MOST_HEADER_BYTES: Final = 1 << 24  # pictures may lie before the sound
# What headers of streams written to a pipe state, at least: about 2 or 4 GiB (SoX's AIFF 0x7F00_0000); of 64 bits the
# most that fits (FFmpeg's W64).
_NEVER_UPDATED: Final = {"I": 0x7EFF_0000, "Q": 1 << 62, "q": 1 << 62}
_UNKNOWN: Final = 0xFFFF_FFFF  # of RF64: the length is in its chunk ds64

_SOUND: Final = (b"data", b"SSND")
_W64_RIFF: Final = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"
_W64_ENDINGS: Final = (b"\x00\xc0\x4f\x8e\xdb\x8a", b"\x28\xdb\x04\xc1\x00\x00")  # of the 16 bytes of every name
_TAGS: Final = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")  # after the last chunk
_NAMES: Final = tuple(
    b"LIST list bext fact cue\x20 smpl inst plst id3\x20 ID3\x20 iXML axml chna cart PEAK JUNK junk FLLR PAD\x20 _PMX "
    b"afsp DISP acid strc levl umid minf elm1 regn MARK INST NAME AUTH ANNO COMT APPL (c)\x20 free info".split(b" ")
)


class Part(NamedTuple):
    """One sound: `head`, then the bytes of the file from `start` to `end`.

    Where its length `is_exact` less sound is a cut file. `n_stated`: samples a channel, where `head` states none.
    """

    head: bytes
    start: int
    end: int
    is_exact: bool = True
    n_stated: int | None = None


class _Form(NamedTuple):
    """How a family writes a chunk: its name, its size, its body."""

    order: str
    size: str  # its struct code
    n_name: int = 4
    n_first: int = 12  # bytes before the first chunk
    n_own: int = 0  # bytes of its head that a size counts, too
    align: int = 2

    @property
    def n_head(self) -> int:
        return self.n_name + struct.calcsize(self.size)


_RIFF, _RIFX = _Form("<", "I"), _Form(">", "I")
_CAF = _Form(">", "q", n_first=8, align=1)
_W64 = _Form("<", "Q", n_name=16, n_first=40, n_own=24, align=8)


class _Chunk(NamedTuple):
    name: bytes  # four letters
    body: int  # where it lies
    n_bytes: int
    after: int  # where the next one lies


class _Sound(NamedTuple):
    """The chunk of sound of the form that starts at `start`, and the chunks before it by name."""

    form: _Form
    start: int
    chunk: _Chunk
    before: Mapping[bytes, _Chunk]

    @property
    def n_extra(self) -> int:
        """Bytes of the chunk before its first sample."""
        return 8 if self.chunk.name == b"SSND" else 4 if self.form is _CAF else 0

    @property
    def first(self) -> int:
        """Where the first sample lies."""
        return self.chunk.body + self.n_extra


def is_form(first_bytes: bytes) -> bool:
    """Whether a file that begins so is made of chunks."""
    return _form_of(first_bytes) is not None


def parts(file: BinaryIO, n_bytes: int, path: Path) -> list[Part]:
    """The sounds of a file: one form, or several put end to end. Failure: a header promises more than is there."""
    found: list[Part] = []
    start: int | None = 0
    for _ in range(_MOST_FORMS):
        sound = None if start is None else _sound(file, start, n_bytes)
        if sound is None or start is None:
            break
        stated = _n_stated(file, sound)
        n_there, start = _n_there(file, sound, stated, n_bytes, path)
        end = n_bytes if start is None else start
        found += [Part(b"", sound.start, end)] if n_there == stated else _mended(file, sound, n_there, path)
    return found


def _form_of(first: bytes) -> _Form | None:
    name, kind = first[:4], first[8:12]
    if name in (b"RIFF", b"RF64", b"BW64", b"RIFX") and kind == b"WAVE":
        return _RIFX if name == b"RIFX" else _RIFF
    if name == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _RIFX
    if name == b"caff":
        return _CAF
    return _W64 if first[:12] == _W64_RIFF else None


def _read(file: BinaryIO, at: int, n_bytes: int) -> bytes:
    file.seek(at)
    return file.read(n_bytes)


def _chunks(file: BinaryIO, at: int, end: int, form: _Form) -> Iterator[_Chunk]:
    for _ in range(_MOST_CHUNKS):
        head = _read(file, at, form.n_head)
        if len(head) < form.n_head or at + form.n_head > end:
            return
        (size,) = struct.unpack(form.order + form.size, head[form.n_name :])
        body, n_bytes = at + form.n_head, size - form.n_own
        after = body + max(n_bytes, 0)
        after += (body - form.n_head - after if form is _W64 else n_bytes) % form.align
        yield _Chunk(head[:4], body, n_bytes, after)
        at = after


def _sound(file: BinaryIO, start: int, end: int) -> _Sound | None:
    form = _form_of(_read(file, start, 16))
    if form is None:
        return None
    before: dict[bytes, _Chunk] = {}
    for chunk in _chunks(file, start + form.n_first, end, form):
        if chunk.name in _SOUND:
            return _Sound(form, start, chunk, before)
        before[chunk.name] = chunk
    return None


def _n_stated(file: BinaryIO, sound: _Sound) -> int:
    """Bytes of samples by the header; negative: to the end of the file."""
    if b"ds64" in sound.before and sound.chunk.n_bytes == _UNKNOWN:
        (stated,) = struct.unpack("<Q", _read(file, sound.before[b"ds64"].body + 8, 8))
        return int(stated)
    return sound.chunk.n_bytes - sound.n_extra


def _n_there(file: BinaryIO, sound: _Sound, stated: int, end: int, path: Path) -> tuple[int, int | None]:
    """Bytes of samples in the file, and where another form follows."""
    there = end - sound.first
    if stated > there:
        if stated < _NEVER_UPDATED[sound.form.size]:
            what = f"cut short: its header promises {stated} bytes of sound, {there} are there"
            raise Failure(what, where=path, remedy="copy it again")
        return there, None
    if stated < 0:
        return there, None
    after = sound.chunk.after if stated == sound.chunk.n_bytes - sound.n_extra else sound.first + stated
    for at in (after, sound.first + stated):  # some writers leave out what would make an odd length even
        ends_well, following = _tail(file, at, end, sound.form)
        if ends_well:
            return stated, following
    return there, None


def _tail(file: BinaryIO, at: int, end: int, form: _Form) -> tuple[bool, int | None]:
    """Whether what follows the sound is something else, and where another form starts."""
    for n_before, chunk in enumerate(_chunks(file, at, end, form)):
        start = chunk.body - form.n_head
        first = _read(file, start, 16)
        if is_form(first):
            return True, start
        if first.startswith(_TAGS) or (chunk.after > end + form.align and chunk.name in _NAMES):
            return True, None
        if not _is_name(first, form) or chunk.n_bytes < 0 or chunk.after > end + form.align:
            return n_before > 0, None
    return True, None


def _is_name(first: bytes, form: _Form) -> bool:
    return first.endswith(_W64_ENDINGS) if form is _W64 else all(0x20 <= letter < 0x7F for letter in first[:4])


def _mended(file: BinaryIO, sound: _Sound, n_there: int, path: Path) -> list[Part]:
    """A part with the lengths that are true; several where they pass 32 bits."""
    n_head = sound.first - sound.start
    if n_head > _MOST_HEADER_BYTES:
        what = "its header states less sound than it holds, and is too large to mend"
        raise Failure(what, where=path, remedy="remove pictures and other large chunks before its sound")
    head = bytearray(_read(file, sound.start, n_head))
    if head[:4] == b"BW64":
        head[:4] = b"RF64"
    n_frame = _frame_bytes(file, sound)
    is_wide = sound.form.size != "I" or b"ds64" in sound.before
    n_slice = n_there if is_wide else SLICE_BYTES // n_frame * n_frame
    starts = range(0, max(n_there, 1), max(n_slice, 1))
    cuts = [(sound.first + at, min(n_slice, n_there - at)) for at in starts]
    return [Part(_with_lengths(head, sound, n_bytes, n_frame), at, at + n_bytes) for at, n_bytes in cuts]


def _frame_bytes(file: BinaryIO, sound: _Sound) -> int:
    """Bytes of one sample of every channel, or of a block of a coder."""
    if b"COMM" in sound.before:
        n_channels, _, n_bits = struct.unpack(">HIH", _read(file, sound.before[b"COMM"].body, 8).ljust(8, b"\0"))
        return max(1, n_channels * ((n_bits + 7) // 8))
    if b"fmt " in sound.before:
        data = _read(file, sound.before[b"fmt "].body, 14).ljust(14, b"\0")
        return max(1, struct.unpack(f"{sound.form.order}H", data[12:])[0])
    return 1


def _with_lengths(head: bytearray, sound: _Sound, n_bytes: int, n_frame: int) -> bytes:
    """The header of this form with `n_bytes` of samples."""
    head, form = bytearray(head), sound.form
    wide = b"ds64" in sound.before

    def put(code: str, at: int, value: int) -> None:
        if 0 <= at <= len(head) - struct.calcsize(code):
            struct.pack_into(form.order + code, head, at, value)

    put(form.size, sound.chunk.body - sound.start - struct.calcsize(form.size), _size(sound, n_bytes, wide))
    if form is _W64:
        put("Q", 16, len(head) + n_bytes)
    elif form is not _CAF:
        put("I", 4, _UNKNOWN if wide else min(len(head) + n_bytes - 8, _UNKNOWN))
    if wide:
        for i, value in enumerate((len(head) + n_bytes - 8, n_bytes, n_bytes // n_frame)):
            put("Q", sound.before[b"ds64"].body - sound.start + 8 * i, value)
    if b"COMM" in sound.before:
        put("I", sound.before[b"COMM"].body - sound.start + 2, n_bytes // n_frame)
    return bytes(head)


def _size(sound: _Sound, n_bytes: int, wide: bool) -> int:
    return _UNKNOWN if wide else n_bytes + sound.n_extra + sound.form.n_own
