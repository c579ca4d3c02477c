"""Files from outside: what they claim is checked before room is made for it, and whatever is wrong is a ValueError."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import bounded
from edge_runtime.errors import Failure


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def npy_of(header: str) -> bytes:
    """A .npy file with this header and no content."""
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def zipped(members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def claiming(n_bytes: int) -> bytes:
    """An archive with a member that claims to unpack to this much."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"")
        archive.getinfo("a.npy").file_size = n_bytes
    return buffer.getvalue()


@pytest.mark.parametrize("values", [np.arange(6.0).reshape(2, 3), np.ones((2, 3), "f4", order="F"), np.zeros((0, 3))])
def test_an_array_is_read_as_it_was_written(values: np.ndarray) -> None:
    np.testing.assert_array_equal(bounded.array(npy(values)), values)


BAD_ARRAYS = {
    "4 GB": npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}"),
    "more than any memory": npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2**90,)}"),
    "below nothing": npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 0)}"),
    "objects": npy_of("{'descr': '|O', 'fortran_order': False, 'shape': ()}"),
    "parentheses": npy_of("(" * 5000),
    "quotes": npy_of("'''"),
    "no dictionary": npy_of("1"),
    "nothing": b"",
    "text": b"not an array",
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_a_bad_array_is_a_value_error_and_no_memory(what: str) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="an array in it"):
        bounded.array(BAD_ARRAYS[what])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 * bounded.MIB


BAD_ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a bomb": lambda: claiming(2**31),
    "more members than any": lambda: zipped({f"{i}": b"" for i in range(bounded.MOST_FILES + 1)}),
    "bzip2": lambda: zipped({"a": b"a"}, zipfile.ZIP_BZIP2),
    "no archive": lambda: b"PK\x03\x04",
}


@pytest.mark.parametrize("what", BAD_ARCHIVES)
def test_a_bad_archive_is_refused_before_it_is_unpacked(what: str) -> None:
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        bounded.Archive(BAD_ARCHIVES[what](), 16 * bounded.MIB)


def test_a_larger_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room
    with pytest.raises(Failure, match="is larger than 1 MiB, more than is read here; do this"):
        bounded.read(path, bounded.MIB, "do this")


@pytest.mark.parametrize(
    "text",
    [
        b"a = " + b"[" * 30_000,
        b"a = " + b"{a = " * 9_000,
        b".".join([b"a"] * 20_000) + b" = 1",
        b"a = 1\n" * 20_000,
        b"a = 1" * 2,
    ],
    ids=["lists", "tables", "dotted", "long", "no TOML"],
)
def test_toml_is_read_within_a_budget(text: bytes) -> None:
    """A person's board or recipe has some KB; what reads TOML takes minutes for names of thousands of parts."""
    with pytest.raises(ValueError, match=r"deep|larger|line 1|column"):
        bounded.toml(text)
