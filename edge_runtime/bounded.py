"""Files from outside, read within a budget: what a header claims is checked before room is made for it."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.errors import Failure

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIB: Final = 2**20
MOST_FILES: Final = 20_000  # in one archive
MOST_TOML_BYTES: Final = 64 * 1024  # boards have 2 KiB; what reads TOML takes minutes for some files of megabytes
LONGEST_SAID: Final = 300  # characters of an error that a line shows
MOST_DOTS: Final = 200  # in a line of TOML
DEEPEST: Final = 100  # brackets within brackets
_PLAIN: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read(path: Path, most_bytes: int, remedy: str) -> bytes:
    """The whole file. Failure: it cannot be read, or is larger than `most_bytes`."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)  # its size is not asked for: a pipe has none
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror or error})", where=path, remedy=remedy) from None
    if len(data) > most_bytes:
        raise Failure(f"is larger than {most_bytes / MIB:.0f} MiB, more than is read here", where=path, remedy=remedy)
    return data


@contextmanager
def one_line(where: object, what: str, remedy: str) -> Iterator[None]:
    """Whatever goes wrong in the block is one Failure: a reader of foreign bytes can raise nearly anything."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        said = [line[:LONGEST_SAID] for line in str(error).strip("'\"").splitlines()]
        raise Failure(f"{what} ({said[0] if said else type(error).__name__})", where=where, remedy=remedy) from error


class Archive:
    """A zip in memory. ValueError: damaged, or its members unpack to more than `most_bytes`."""

    def __init__(self, data: bytes, most_bytes: int) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(data))
        members = self._zip.infolist()
        self.names = tuple(member.filename for member in members)
        if len(members) > MOST_FILES or len(set(self.names)) != len(members):
            raise ValueError(f"its {len(members)} members are too many, or some have one name")
        if (size := sum(member.file_size for member in members)) > most_bytes:
            raise ValueError(f"it unpacks to {size / MIB:.0f} MiB, more than the {most_bytes / MIB:.0f} read here")
        if odd := next((m.filename for m in members if m.compress_type not in _PLAIN or m.flag_bits & 1), None):
            raise ValueError(f"{odd} is encrypted or compressed in a way that is not read here")

    def read(self, name: str) -> bytes:
        """One member. KeyError: it is not there; other errors of `zipfile`: it is damaged."""
        return self._zip.read(name)


def array(data: bytes) -> NDArray[Any]:
    """The array of a .npy file in memory. ValueError: it is none, or holds other bytes than its header claims."""
    import numpy as np

    stream = io.BytesIO(data)
    npy = np.lib.format
    try:
        headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, fortran, dtype = headers[npy.read_magic(stream)](stream)
    except Exception as error:  # what parses the header raises more than it says
        raise ValueError("an array in it has no header that can be read") from error
    n_bytes = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or n_bytes != len(data) - stream.tell():
        raise ValueError(f"an array in it claims {dtype} {shape}, which is not what it holds")
    values = np.frombuffer(data, dtype, offset=stream.tell()) if n_bytes else np.empty(0, dtype)
    return values.reshape(shape, order="F" if fortran else "C").copy()


def arrays(data: bytes, most_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz in memory. ValueError: see `Archive`, `array`."""
    archive = Archive(data, most_bytes)
    return {name.removesuffix(".npy"): array(archive.read(name)) for name in archive.names}


def toml(data: bytes) -> dict[str, Any]:
    """The tables of a TOML file. ValueError: it is none, or larger or deeper than any that a person writes."""
    import msgspec

    if any(line.count(b".") > MOST_DOTS for line in data[:MOST_TOML_BYTES].splitlines()):
        raise ValueError("names lie too deep in it")
    try:
        return dict(msgspec.toml.decode(shallow(data, MOST_TOML_BYTES)))
    except RecursionError:
        raise ValueError("names lie too deep in it") from None


def shallow(text: bytes, most_bytes: int) -> bytes:
    """JSON or TOML as it is. ValueError: it is larger, or brackets lie deeper in it than a person or program would."""
    if len(text) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes / MIB:.0f} MiB, more than is read here")
    depth = 0
    for bracket in re.findall(rb"[\[\]{}]", text):  # those in strings count too: pairs of them do no harm
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"brackets lie more than {DEEPEST} deep in it")
    return text
