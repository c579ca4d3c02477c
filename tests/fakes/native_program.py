"""Programs of the native engine written by hand: single operations in a memory and weights of known sizes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from quant.emit.native.file import FORMAT, HASHED_FROM, HEADER, KINDS, MAGIC, OP, PLANE, SLACK

PLANES_BYTES = 2 * PLANE * 4
ARENA_BYTES, STATE_BYTES = 1 << 16, 1 << 13
DATA_BYTES = 1 << 12  # arrays of weights, from DATA on
X, X2, Y = PLANES_BYTES, 1 << 13, 1 << 14  # offsets of values in the arena, beyond the spectrum
ONES = {"n_rows", "n_out", "n_in", "seg", "taps", "stride", "time_taps", "dilation"}  # fields that are 1 if not given


def program(*ops: dict[str, Any], data: bytes = bytes(DATA_BYTES), **header: int) -> bytes:
    """Weights of these operations, `kind` by name, with the arrays `data` at `data_at(len(ops))` and a right hash."""
    records = np.zeros(len(ops), OP)
    for record, op in zip(records, ops, strict=True):
        for name in ONES:
            record[name] = 1
        for name, value in ({"state": ARENA_BYTES, "seg": op.get("n_out", 1)} | op).items():
            record[name] = KINDS.index(value) if isinstance(value, str) else value
    body = records.tobytes() + data + bytes(SLACK)
    fields = {
        "magic": MAGIC, "format": FORMAT, "n_bytes": HEADER.itemsize + len(body), "precision": 1, "n_ops": len(ops),
        "ops": HEADER.itemsize, "n_arena_bytes": ARENA_BYTES, "n_state_bytes": STATE_BYTES, "period": 1,
    }  # fmt: skip
    head = np.zeros(1, HEADER)
    for name, number in (fields | header).items():
        head[name] = number
    hashed = head.tobytes()[HASHED_FROM:] + body
    if "crc32" not in header:
        head["crc32"] = zlib.crc32(hashed)
    return head.tobytes()[:HASHED_FROM] + hashed


def data_at(n_ops: int = 1) -> int:
    """Where the arrays begin, in bytes into the weights."""
    return HEADER.itemsize + n_ops * OP.itemsize


def regressions() -> Iterator[tuple[str, bytes]]:
    """One operation each; all were accepted, and read or wrote beyond their weights or their memory."""
    rows = {"x": X, "y": Y, "n_rows": 3, "n_out": 16, "x_row": 16, "y_row": 16, "n_in": 4}
    arrays = dict.fromkeys(("weight", "bias", "scale", "table"), data_at())
    end = {"y": ARENA_BYTES - 16, "n_rows": 1}
    pieces = {"n_out": 12, "seg": 8, "seg_row": 0, "x_row": 4}
    yield "pieces", program({"kind": "conv", **rows, **arrays, **pieces, **end}, n_state_bytes=0)
    yield "8-bit-pieces", program({"kind": "conv_i8", **rows, **arrays, **pieces, **end}, n_state_bytes=0)
    ring = {"taps": 3, "pad": 1, "seg": 4, "seg_row": 60_000, "time_taps": 3}
    yield "depthwise-pieces", program({"kind": "depth_i8", **rows, **arrays, **ring}, period=2)
    grids = {"n_out": 2, "n_in": 1, "x_row": 6, "y_row": 2, "scale": data_at() + DATA_BYTES - 24 - 80}
    yield "grids-before-the-shape", program({"kind": "bigru_i8", **rows, **arrays, **grids})
