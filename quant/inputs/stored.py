"""A tensor as a file holds it: its shape first, its numbers only when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array

DTYPES: Final = {"half": "f2", "bfloat16": "u2", "float": "f4", "double": "f8", "byte": "u1", "char": "i1"}
DTYPES.update(short="i2", int="i4", long="i8", bool="?")  # as PyTorch's storages are called, in small letters
FLOATS: Final = ("half", "bfloat16", "float", "double")


@dataclass(frozen=True)
class Stored:
    """A tensor of a file. `fault` says why its numbers cannot be had, "" where they can."""

    shape: tuple[int, ...]
    fault: str
    read: Callable[[], Float32Array]


def unreadable(fault: str) -> Stored:
    """What is a tensor, but none of plain floats."""
    return Stored((), fault, lambda: np.empty(0, np.float32))


def plain(data: Callable[[], bytes], kind: str, shape: Any, *, big_endian: bool = False) -> Stored:
    """Values of `kind` (see `DTYPES`) that lie one after the other."""
    sizes = _sizes(shape)
    return _stored(sizes, kind, lambda: _values(data(), kind, big_endian)[: math.prod(sizes)].reshape(sizes))


def strided(data: Callable[[], bytes], kind: str, offset: int, shape: Any, strides: Any, *, big_endian: bool) -> Stored:
    """Values of a storage, `offset` from its start and `strides` apart, as PyTorch lays them."""
    sizes, steps = _sizes(shape), _sizes(strides)
    last = offset + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))

    def read() -> NDArray[Any]:
        flat = _values(data(), kind, big_endian)
        if 0 in sizes:
            return np.empty(sizes, flat.dtype)
        if not 0 <= last < len(flat) or offset < 0:
            raise ValueError("a tensor reaches beyond its storage")
        return np.lib.stride_tricks.as_strided(flat[offset:], sizes, [step * flat.itemsize for step in steps])

    return _stored(sizes, kind, read)


def _stored(sizes: tuple[int, ...], kind: str, read: Callable[[], NDArray[Any]]) -> Stored:
    if kind not in FLOATS:
        return Stored(sizes, f"is of {kind or 'unknown numbers'}, not of floats", lambda: np.empty(0, np.float32))

    def as_float32() -> Float32Array:
        with np.errstate(over="ignore"):  # what is infinite then is refused by name
            return np.ascontiguousarray(read(), dtype=np.float32).copy()

    return Stored(sizes, "", as_float32)


def _values(data: bytes, kind: str, big_endian: bool) -> NDArray[Any]:
    dtype = np.dtype(DTYPES[kind]).newbyteorder(">" if big_endian else "<")
    flat = np.frombuffer(data, dtype, count=len(data) // dtype.itemsize)
    return (flat.astype("<u4") << 16).view("<f4") if kind == "bfloat16" else flat


def _sizes(shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape)
    if not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError("a tensor has a shape that is none")
    return sizes
