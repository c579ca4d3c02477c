"""The native engine's weights as a file: operations, the arrays they read, and where every value lies in memory.

The format is that of `ed_program.h`; this module knows its layout and nothing of the network. Values lie as
[band][channel]. A buffer lives from its first writer to its last reader; buffers that do not live at the same time
share memory.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import HANN, SQRT_HANN, WindowName

MAGIC, FORMAT = 0x574E4445, 3
HASHED_FROM = 16  # bytes: magic, format, size and the hash itself come first
ALIGN, SLACK = 16, 64
PLANE = 272  # floats that hold one part of 257 bins
MOST_BIAS = 1 << 30

KINDS = (
    "analysis", "synthesis", "features", "merge", "split", "mask", "edges", "conv", "conv_i8", "depth", "depth_i8",
    "leaky", "leaky_i8", "mean_square", "sigmoid", "tanh", "gate", "gate_i8", "shuffle", "shuffle_i8", "gate_shuffle",
    "add", "add_i8", "layer_norm", "interleave", "interleave_i8", "quantize", "dequantize", "gru_cell", "gru_cell_i8",
    "bigru", "bigru_mixed", "bigru_i8", "log_magnitude", "mask_real", "history", "history_i8", "resample",
    "resample_i8", "affine_relu", "affine_relu_i8", "mean_square_i8", "band_energy", "band_energy_i8", "band_gate",
    "band_gate_i8", "gates", "gates_i8", "affine_relu_i16", "gates_i16", "add_i16",
    "quantize_i16", "conv_i16", "bigru_i16", "gru_cell_i16",
)  # fmt: skip
LEAKY_AFTER, HALF, FLOAT_OUT, ADD_AFTER, QUICK = 1, 2, 4, 8, 16
WINDOWS = (SQRT_HANN, HANN)  # ed_window_name

# ed_op and ed_header, field by field.
OP = np.dtype(
    [(name, "<i4") for name in ("x", "x2", "y", "state", "weight", "bias", "scale", "table")]
    + [(name, "<f4") for name in ("f0", "f1", "f2")]
    + [(name, "<u2") for name in ("n_rows", "x_row", "x2_row", "y_row", "n_in", "n_out", "seg", "seg_row", "halo")]
    + [(name, "u1") for name in ("kind", "flags", "taps", "stride", "pad", "time_taps", "dilation")]
    + [(name, "i1") for name in ("x_zp", "x2_zp", "y_zp", "mid_zp", "r0", "r1", "r2")]
)
HEADER_FIELDS = (
    "magic", "format", "n_bytes", "crc32", "precision", "n_ops", "ops", "n_arena_bytes", "n_state_bytes", "spectrum",
    "enhanced", "period", "window", "r1", "r2", "r3",
)  # fmt: skip
HEADER = np.dtype([(name, "<u4") for name in HEADER_FIELDS])

DType = Literal["float32", "int16", "int8"]
BYTES = {"float32": 4, "int16": 2, "int8": 1}


@dataclass(eq=False)
class Buffer:
    """Memory of one value: rows of `row` elements, and `halo` more on both sides; `kept` ones are states."""

    n_rows: int
    row: int
    dtype: DType
    kept: bool = False
    halo: int = 0
    first: int = -1  # the operations that write it first and read it last
    last: int = -1
    at: int = -1

    @property
    def element_bytes(self) -> int:
        """Bytes of a number."""
        return BYTES[self.dtype]

    @property
    def n_bytes(self) -> int:
        """With halo, and room for a vector that is stored beyond the last row."""
        n = (self.n_rows + 2 * self.halo) * self.row * self.element_bytes
        return _up(n if self.kept else n + ALIGN, ALIGN)


@dataclass(frozen=True)
class View:
    """Columns of a buffer as a value: `n_rows` rows, `row` elements apart, from element `start` on."""

    buffer: Buffer
    n_rows: int
    n_columns: int
    row: int
    start: int = 0

    def columns(self, start: int, stop: int) -> View:
        """Some of the columns."""
        return View(self.buffer, self.n_rows, stop - start, self.row, self.start + start)

    def ask_halo(self, n_rows: int) -> None:
        """Rows of zeros that a convolution needs around its input."""
        if n_rows and self.row != self.buffer.row:
            raise ValueError("a convolution over bands reads rows that lie in pieces")
        self.buffer.halo = max(self.buffer.halo, n_rows)

    @property
    def at(self) -> int:
        """Offset in bytes, once buffers are placed."""
        b = self.buffer
        return b.at + (b.halo * b.row + self.start) * b.element_bytes


Array = NDArray[Any]
Number = float | np.float32
Part = View | Array | Number | None  # of an operation: a value, weights, a number of its record


@dataclass
class Op:
    """One operation before placement: views and arrays instead of offsets. `node`: the graph node it works for."""

    kind: str
    node: str
    n_rows: int
    y: View | None = None
    x: View | None = None
    x2: View | None = None
    state: View | None = None
    gates: View | None = None  # of gate_shuffle, and of the bands
    arrays: dict[str, Array] = field(default_factory=dict)  # weight, bias, scale, table
    numbers: dict[str, Number] = field(default_factory=dict)

    @property
    def views(self) -> list[View]:
        """Everything it touches."""
        return [v for v in (self.x, self.x2, self.y, self.state, self.gates) if v is not None]


class NativeFile:
    """Collects operations; `to_bytes` places buffers and arrays."""

    def __init__(self, precision: Literal["int8", "fp32"]) -> None:
        self.precision = precision
        self.ops: list[Op] = []
        self.kept: list[Buffer] = []
        self.constant_bytes = 0

    def state(self, n_rows: int, row: int, dtype: DType) -> View:
        """Memory that is kept from frame to frame."""
        buffer = Buffer(n_rows, row, dtype, kept=True)
        self.kept.append(buffer)
        return View(buffer, n_rows, row, row)

    @staticmethod
    def value(n_rows: int, n_columns: int, dtype: DType) -> View:
        """Memory of a new value."""
        return View(Buffer(n_rows, n_columns, dtype), n_rows, n_columns, n_columns)

    def op(self, kind: str, node: str, n_rows: int, **parts: Part) -> Op:
        """Add an operation; `parts` are views (x, x2, y, state, gates), arrays by role, and numbers of the record."""
        op = Op(kind, node, n_rows)
        for name, part in parts.items():
            if isinstance(part, View):
                setattr(op, name, part)
            elif isinstance(part, np.ndarray):
                op.arrays[name] = part
            elif part is not None:
                op.numbers[name] = part
        self.ops.append(op)
        return op

    def to_bytes(self, spectrum: View, enhanced: View, period: int, window: WindowName = SQRT_HANN) -> bytes:
        """The file. `spectrum` and `enhanced` are the planes that go in and out, of frames through `window`."""
        n_arena, n_state = self._place([spectrum.buffer, enhanced.buffer])
        body, at = self._arrays()
        ops = np.zeros(len(self.ops), OP)
        for record, op, arrays in zip(ops, self.ops, at, strict=True):
            _fill(record, op, arrays)
        header = np.zeros(1, HEADER)
        header["magic"], header["format"], header["n_bytes"] = MAGIC, FORMAT, HEADER.itemsize + len(body)
        header["precision"], header["n_ops"], header["ops"] = int(self.precision == "int8"), len(ops), HEADER.itemsize
        header["n_arena_bytes"], header["n_state_bytes"], header["period"] = n_arena, n_state, period
        header["spectrum"], header["enhanced"] = spectrum.at, enhanced.at
        header["window"] = WINDOWS.index(window)
        body[: ops.nbytes] = ops.tobytes()
        hashed = header.tobytes()[HASHED_FROM:] + bytes(body)
        header["crc32"] = zlib.crc32(hashed)
        return header.tobytes()[:HASHED_FROM] + hashed

    def _place(self, whole: list[Buffer]) -> tuple[int, int]:
        """Offsets of every buffer; `whole` ones live from the first operation to the last. Sizes of arena, states."""
        buffers: list[Buffer] = list(whole)
        for i, op in enumerate(self.ops):
            for view in op.views:
                b = view.buffer
                if b not in buffers and not b.kept:
                    buffers.append(b)
                b.first, b.last = (i if b.first < 0 else b.first), i
        for b in whole:
            b.first, b.last = 0, len(self.ops)
        placed: list[Buffer] = []
        for b in sorted(buffers, key=lambda b: -b.n_bytes):
            b.at = _first_fit(b, [p for p in placed if p.first <= b.last and b.first <= p.last])
            placed.append(b)
        n_arena = _up(max(b.at + b.n_bytes for b in placed) + SLACK, 64)
        at = n_arena
        for b in self.kept:
            b.at, at = at, at + b.n_bytes
        return n_arena, _up(at - n_arena, ALIGN)

    def _arrays(self) -> tuple[bytearray, list[dict[str, int]]]:
        """Room for the operations, then every array once; and for each operation its offsets by role."""
        body = bytearray(len(self.ops) * OP.itemsize)
        known: dict[bytes, int] = {}
        found = []
        for op in self.ops:
            at: dict[str, int] = {}
            for role, array in op.arrays.items():
                data = array.tobytes()
                if data not in known:
                    body.extend(bytes(-len(body) % 4))
                    known[data] = HEADER.itemsize + len(body)
                    body.extend(data)
                    self.constant_bytes += len(data)
                at[role] = known[data]
            found.append(at)
        body.extend(bytes(SLACK + -(HEADER.itemsize + len(body)) % ALIGN))
        return body, found


def _fill(record: Any, op: Op, arrays: dict[str, int]) -> None:
    record["kind"], record["n_rows"] = KINDS.index(op.kind), op.n_rows
    for name in ("taps", "stride", "time_taps", "dilation"):
        record[name] = 1
    for name, view in (("x", op.x), ("x2", op.x2), ("y", op.y)):
        if view is not None:
            record[name], record[f"{name}_row"] = view.at, view.row
    if op.state is not None:
        record["state"] = op.state.at
    if op.gates is not None:
        record["bias" if op.kind == "gate_shuffle" else "state"] = op.gates.at
    for role, at in arrays.items():
        record[role] = at
    for name, number in op.numbers.items():
        record[name] = number
    if record["seg"] == 0:
        record["seg"] = max(record["n_out"], 1)
    if op.y is not None and op.y.buffer.halo and op.y.start == 0 and "halo" not in op.numbers:
        whole = op.y.row == op.y.buffer.row and op.y.n_rows == op.y.buffer.n_rows
        if not whole or record["seg"] < record["n_out"]:
            raise ValueError(f"{op.node}: its result lies in pieces and needs rows of zeros around it")
        record["halo"] = op.y.buffer.halo * op.y.buffer.row


def _first_fit(b: Buffer, others: list[Buffer]) -> int:
    """The lowest offset at which `b` meets none of the others."""
    at = 0
    for other in sorted(others, key=lambda o: o.at):
        if at + b.n_bytes <= other.at:
            break
        at = max(at, other.at + other.n_bytes)
    return at


def _up(n: int, to: int) -> int:
    return -(-n // to) * to
