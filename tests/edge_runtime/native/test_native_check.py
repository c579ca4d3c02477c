"""Weights that would lead a kernel out of its memory are refused: every access by its greatest offset."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from native_program import ARENA_BYTES, DATA_BYTES, STATE_BYTES, X2, X, Y, data_at, program

from edge_runtime.errors import Failure
from quant.emit.native.file import ADD_AFTER, FLOAT_OUT, HALF, HEADER, KINDS, LEAKY_AFTER, PLANE, QUICK, SLACK

try:
    from edge_runtime.native import Stream, isas

    isas()
except ImportError:
    pytest.skip("the native library is not compiled here: no C compiler", allow_module_level=True)

Op = dict[str, Any]

DATA = data_at()
ARENA_END, END = ARENA_BYTES - SLACK, ARENA_BYTES + STATE_BYTES
PERIOD = 4
ROWS: Op = {"x": X, "y": Y, "n_rows": 3, "n_out": 16, "x_row": 16, "y_row": 16}
TWO: Op = ROWS | {"x2": X2, "x2_row": 16}
ARRAYS: Op = {"weight": DATA, "bias": DATA, "scale": DATA, "table": DATA}
CONV: Op = ROWS | ARRAYS | {"n_in": 4, "x_row": 4, "taps": 3, "pad": 1}
DEPTH: Op = ROWS | ARRAYS | {"time_taps": 3, "taps": 3, "pad": 1}
RESAMPLE: Op = DEPTH | {"stride": 2, "seg": 6, "seg_row": 1}  # three rows of six, of which it reads five
CELL: Op = ROWS | ARRAYS | {"x2": X2, "x_row": 48, "x2_row": 48}
OVER_BANDS: Op = ROWS | ARRAYS | {"n_in": 4, "x_row": 48}
BANDS: Op = ROWS | ARRAYS | {"x_row": 4, "y_row": 4, "n_rows": 5, "n_in": 2}
WIDE: Op = TWO | {"y_row": 32}

# An operation of every kind in the middle of its memory; all arrays are zeros.
VALID: dict[str, Op] = {
    "features": ROWS | {"n_out": 4, "y_row": 4},
    "merge": BANDS | {"n_out": 3, "y_row": 3},
    "split": BANDS | {"x_row": 2, "n_out": 2},
    "mask": TWO | {"n_rows": 257, "n_out": 1},
    "edges": TWO | ARRAYS | {"n_in": 4, "x2_row": 4, "seg": 5},
    "conv": CONV,
    "conv_i8": CONV,
    "depth": DEPTH,
    "depth_i8": DEPTH,
    **dict.fromkeys(("leaky", "leaky_i8", "sigmoid", "tanh", "quantize", "dequantize", "mean_square"), ROWS),
    **dict.fromkeys(("add", "add_i8", "gate", "gate_i8"), TWO),
    "layer_norm": TWO | ARRAYS,
    **dict.fromkeys(("shuffle", "shuffle_i8"), WIDE),
    "gate_shuffle": WIDE | {"bias": X2 + 4096},
    **dict.fromkeys(("interleave", "interleave_i8"), ROWS | {"n_in": 2, "x_row": 32}),
    **dict.fromkeys(("gru_cell", "gru_cell_i8"), CELL),
    "gru_cell_i16": CELL | {"y": ARENA_BYTES, "state": ARENA_BYTES + 48},
    **dict.fromkeys(("bigru", "bigru_mixed", "bigru_i8", "bigru_i16"), OVER_BANDS),
    "log_magnitude": ROWS | {"n_rows": 257, "n_out": 1, "y_row": 1},
    "mask_real": TWO | {"n_rows": 257, "n_out": 1},
    **dict.fromkeys(("history", "history_i8"), ROWS | {"n_in": 5, "x_row": 5, "time_taps": 3}),
    **dict.fromkeys(("resample", "resample_i8"), RESAMPLE),
    **dict.fromkeys(("affine_relu", "affine_relu_i8"), ROWS | ARRAYS),
    "mean_square_i8": ROWS,
    **dict.fromkeys(("band_energy", "band_energy_i8"), ROWS | ARRAYS | {"n_in": 4}),
    **dict.fromkeys(("band_gate", "band_gate_i8"), TWO),
    **dict.fromkeys(("gates", "gates_i8"), TWO | {"state": X2 + 4096}),
    "affine_relu_i16": ROWS | ARRAYS,
    "gates_i16": TWO | {"state": X2 + 4096},
    "add_i16": TWO,
    "quantize_i16": ROWS | {"state": X2},
    "conv_i16": CONV | {"x2": X2},
}


def made(kind: str, **changes: Any) -> Op:
    return {"kind": kind, **VALID[kind], **changes}


def test_every_kind_has_a_row() -> None:
    assert set(VALID) == set(KINDS) - {"analysis", "synthesis"}


PIECES: Op = {"seg": 8, "seg_row": 16, "y_row": 24}
ACCEPTED: dict[str, Op] = {
    **{f"the {kind}": made(kind) for kind in VALID},
    "results in pieces": made("conv", **PIECES),
    "pieces that touch": made("conv_i8", **PIECES | {"seg_row": 8}),
    "results at the end of the arena": made("conv", y=ARENA_END - 4 * 48),
    "results with their halo at the end of the arena": made("conv", y=ARENA_END - 4 * 52, halo=4),
    "bytes at the end of the arena": made("conv_i8", y=ARENA_END - 48),
    "floats of an 8-bit convolution at the end of the arena": made("conv_i8", y=ARENA_END - 4 * 48, flags=FLOAT_OUT),
    "inputs from the start of the memory": made("conv", x=4 * 4),
    "inputs to the end of the states": made("conv", x=END - 4 * 16),
    "a state at the end of the states": made("depth", state=END - 4 * 2 * 5 * 16),
    "a value behind what it is made of": made("leaky", x=Y - 4 * 48),
    "edges in place": made("edges", x=Y),
    "a resampled frame's last row": made("resample", seg=5),
    "a resampled frame's last row twice": made("resample", seg=2, seg_row=2, stride=1, n_rows=4),
    "a resampled frame at the end of the states": made("resample_i8", state=END - 2 * 8 * 16),
    "frames to the end of the states": made("history", state=END - 4 * 3 * 2 * 5),
    "bytes and their cells to the end of the states": made("gru_cell_i16", y=END - 3 * 48, state=END - 2 * 48),
    "energies and zeros at the end of the arena": made("band_energy", y=ARENA_END - 4 * 4),
    "gates of bands at the end of the states": made("gates_i8", state=END - 3),
    "16-bit inputs from the start of the memory": made("conv_i16", x=2 * 4),
    "16-bit inputs to the end of the states": made("conv_i16", x=END - 2 * 16),
    "16 bits and their halo at the end of the arena": made("quantize_i16", y=ARENA_END - 2 * 52, halo=4),
    "a step behind its steps": made("quantize_i16", state=Y + 2 * 48),
    "a step at the end of the arena": made("quantize_i16", state=ARENA_END - 4),
    "a convolution in half precision": made("conv", flags=HALF | LEAKY_AFTER),
    "arrays at the end of the weights": made("conv", weight=DATA + DATA_BYTES - 4 * 3 * 4 * 16),
}  # fmt: skip


@pytest.mark.parametrize("op", ACCEPTED.values(), ids=ACCEPTED)
def test_an_operation_within_its_memory_runs(op: Op) -> None:
    for isa in isas():
        for precision in (0, 1):
            Stream(program(op, period=PERIOD, precision=precision), isa=isa).process()


# One change each to an operation that is accepted.
REFUSED: dict[str, Op] = {
    # The last piece lies before the end of the one before it: 4 results of 12 at the end, the other 8 beyond it.
    "a piece before the last one reaches farther": made("conv", n_out=12, seg=8, seg_row=0, y=END - 4 * 4, n_rows=1),
    "an 8-bit one": made("conv_i8", n_out=12, seg=8, seg_row=0, y=END - 4, n_rows=1),
    "pieces on top of each other": made("conv", **PIECES | {"seg_row": 7}),
    "a depthwise convolution in pieces": made("depth_i8", **PIECES),
    "results beyond the arena": made("conv", y=ARENA_END - 4 * 47),
    "a halo beyond the arena": made("conv", y=ARENA_END - 4 * 51, halo=4),
    "a halo before the memory": made("conv", y=12, halo=4),
    "bytes beyond the arena": made("conv_i8", y=ARENA_END - 47),
    "floats of an 8-bit convolution beyond the arena": made("conv_i8", y=ARENA_END - 4 * 47, flags=FLOAT_OUT),
    "results among the states": made("leaky", y=ARENA_BYTES),
    "results over the end of the arena": made("leaky", y=ARENA_BYTES - 4 * 24),
    "rows over each other": made("conv", y_row=15),
    "rows of both inputs over each other": made("shuffle", y_row=31),
    "inputs before the memory": made("conv", x=4 * 4 - 4),
    "inputs beyond the states": made("conv", x=END - 4 * 16 + 4),
    "inputs over the end of the arena": made("leaky", x=ARENA_BYTES - 4 * 24),
    "inputs that a longer stride reaches": made("conv", x=END - 4 * 16, stride=2),
    "inputs of 8 bits by fours": made("conv_i8", x=END - 11, x_row=1, n_in=1, taps=1, pad=0, stride=4),
    "floats between floats": made("leaky", x=X + 2),
    "results between floats": made("leaky", y=Y + 1),
    "results over inputs": made("leaky", x=Y + 4 * 47),
    "inputs over results": made("leaky_i8", x=Y - 47),
    "results over the second input": made("add", x2=Y),
    "results over gates": made("gate_shuffle", bias=Y + 4),
    "results over the rows of a mask": made("mask", y=X),
    "a halo over inputs": made("leaky", halo=4, x=Y + 4 * 48),
    "edges half in place": made("edges", x=Y, x_row=17),
    "edges over what they come from": made("edges", x2=Y),
    "a state in the arena": made("depth", state=Y + 4096),
    "a state beyond the states": made("depth", state=END - 4 * 2 * 5 * 16 + 4),
    "an 8-bit state in the arena": made("gru_cell_i8", state=ARENA_BYTES - 16),
    "a cell that reads its own state": made("gru_cell", x=ARENA_BYTES),
    "a cell whose bytes lie in the arena": made("gru_cell_i16", y=Y),
    "a cell whose bytes lie behind their state": made("gru_cell_i16", y=ARENA_BYTES + 96, state=ARENA_BYTES),
    "a state of 16 bits over its bytes": made("gru_cell_i16", state=ARENA_BYTES + 46),
    "a state of 16 bits between its numbers": made("gru_cell_i16", state=ARENA_BYTES + 49),
    "a state of 16 bits beyond the states": made("gru_cell_i16", state=END - 94),
    "bytes of a cell with gaps": made("gru_cell_i16", y_row=17, state=ARENA_BYTES + 64),
    "a cell that reads its own bytes": made("gru_cell_i16", x2=ARENA_BYTES),
    "half a table": made("gru_cell_i16", table=DATA + DATA_BYTES - 252),
    "a ring that the period cuts": made("depth", time_taps=4),
    "an 8-bit ring that the period cuts": made("depth_i8", dilation=3),
    "arrays beyond the weights": made("conv", weight=DATA + DATA_BYTES - 4 * 3 * 4 * 16 + 4),
    "arrays before the weights": made("conv", bias=HEADER.itemsize - 4),
    "arrays between words": made("conv_i8", weight=DATA + 1),
    "more units than kernels hold": made("bigru", n_out=66, n_in=1, x_row=198, y_row=66),
    "units that are no blocks": made("bigru_i8", n_in=3),
    "more than four products under 16 bits": made("bigru_i16", n_in=8),
    "a multiplier of x beyond 16 bits": made("bigru_i16", f1=32768.0),
    "a start between 32nds": made("bigru_i16", f2=-0.5),
    "a multiplier of x below zero": made("bigru_i16", f0=-1.0),
    "groups that do not divide": made("interleave", n_in=3),
    "gaps between rows that are taken as one": made("layer_norm", x_row=17),
    "a plane that is too short": made("mask", x2=ARENA_END - 2 * PLANE * 4 + 4),
    "more bins than a plane has": made("mask", n_rows=258),
    "an offset beyond the memory that nothing reads": made("leaky", x2=END + 1),
    "an offset beyond the weights that nothing reads": made("leaky", table=1 << 30),
    "an offset before the weights that nothing reads": made("leaky", table=-4),
    "a row that a resampled frame does not have": made("resample", seg=4),
    "a row that a resampled frame does not have twice": made("resample_i8", seg=2, seg_row=2, stride=1, n_rows=5),
    "no phases": made("resample", seg_row=0),
    "inputs of a resampled frame beyond the states": made("resample", x=END - 4 * 7 * 16 + 4),
    "weights of a phase beyond the weights": made("resample", seg_row=2, weight=DATA + DATA_BYTES - 2 * 4 * 9 * 16 + 4),
    "a resampled ring beyond the states": made("resample", state=END - 4 * 2 * 8 * 16 + 4),
    "a resampled ring that the period cuts": made("resample_i8", time_taps=4),
    "a history that is wider than its rows": made("history", n_in=6, x_row=6),
    "a history of itself": made("history_i8", x=ARENA_BYTES),
    "a history beyond the states": made("history", state=END - 4 * 3 * 2 * 5 + 4),
    "results over what a history reads": made("history", x=Y),
    "zeros behind energies beyond the arena": made("band_energy", y=ARENA_END - 4 * 3),
    "energies over what they are of": made("band_energy_i8", x=Y + 3),
    "gates of bands over results": made("gates", state=Y + 8),
    "gates of bands beyond the states": made("gates", state=END - 8),
    "a band's gate beyond the states": made("band_gate_i8", x2=END - 2),
    "a real mask that is too short": made("mask_real", x2=ARENA_END - 4 * 257 + 4),
    "logarithms with gaps": made("log_magnitude", y_row=2),
    "no rows": made("leaky", n_rows=0),
    "no inputs": made("conv", n_in=0),
    "no stride": made("conv", stride=0),
    "more padding than taps": made("conv", pad=3),
    "another padding than a frame has": made("depth", pad=0),
    "an endless slope": made("leaky", f0=float("inf")),
    "no number as a scale": made("quantize", f0=float("nan")),
    "a kind that is none": {**made("leaky"), "kind": len(KINDS)},
    "a kind that is not part of a program": made("leaky") | {"kind": "analysis"},
    "a reserved byte": made("leaky", r1=1),
    "a multiplier that is no whole number": made("gates_i16", f0=0.5),
    "a multiplier beyond 16 bits": made("add_i16", f1=32768.0),
    "a multiplier below zero": made("add_i16", f0=-1.0),
    "a unit beyond a byte": made("affine_relu_i16", f0=128.0),
    "16-bit inputs before the memory": made("conv_i16", x=2 * 4 - 2),
    "16-bit inputs beyond the states": made("conv_i16", x=END - 2 * 16 + 2),
    "16-bit inputs between bytes": made("conv_i16", x=X + 1),
    "16-bit weights beyond the weights": made("conv_i16", weight=DATA + DATA_BYTES - 2 * 3 * 4 * 16 + 4),
    "a step beyond the states": made("conv_i16", x2=END - 2),
    "a step between words": made("conv_i16", x2=X2 + 2),
    "results over the step": made("conv_i16", x2=Y + 4 * 47),
    "16 bits beyond the arena": made("quantize_i16", y=ARENA_END - 2 * 51, halo=4),
    "16 bits over what they are of": made("quantize_i16", x=Y + 2 * 46),
    "a step among its steps": made("quantize_i16", state=Y + 2 * 46),
    "a step over what it is of": made("quantize_i16", state=X + 4 * 47),
    "a step beyond the arena": made("quantize_i16", state=ARENA_END),
    "a band's 16-bit gate beyond the states": made("gates_i16", state=END - 2),
    **{
        f"flag {flag} of a {kind}": made(kind, flags=flag)
        for kind, flag in (("conv", FLOAT_OUT), ("conv_i8", HALF), ("depth", HALF), ("depth_i8", ADD_AFTER),
                           ("layer_norm", LEAKY_AFTER), ("bigru", FLOAT_OUT), ("leaky", LEAKY_AFTER), ("conv", QUICK),
                           ("affine_relu", LEAKY_AFTER), ("affine_relu_i8", HALF), ("resample", FLOAT_OUT),
                           ("bigru_i8", QUICK), ("gru_cell_i8", QUICK), ("conv_i16", HALF), ("quantize_i16", QUICK))
    },
}  # fmt: skip


@pytest.mark.parametrize("op", REFUSED.values(), ids=REFUSED)
def test_an_operation_that_would_leave_its_memory_is_refused(op: Op) -> None:
    assert is_refused(program(op, period=PERIOD))


def is_refused(weights: bytes) -> bool:
    with pytest.raises(Failure, match="holds an operation that cannot be run"):
        Stream(weights)
    return True


def words(*numbers: float, at: int = 0) -> bytes:
    """The arrays, zeros but for these floats or int32 from word `at` on."""
    packed = b"".join(struct.pack("<f" if isinstance(n, float) else "<i", n) for n in numbers)
    return bytes(4 * at) + packed + bytes(DATA_BYTES - 4 * at - len(packed))


INF, NAN, MOST_BIAS = float("inf"), float("nan"), 1 << 30
GRIDS = 48  # words of multipliers before ed_gru_grids of a BIGRU_I8
NUMBERS: dict[str, tuple[Op, bytes]] = {
    "a weight that is no number": (made("conv"), words(NAN, at=3 * 4 * 16 - 1)),
    "an endless bias": (made("conv"), words(INF, at=15)),
    "an endless half": (made("conv", flags=HALF, bias=DATA + 1024), words(0x7C000000, at=3 * 4 * 16 // 2 - 1)),
    "an endless multiplier": (made("conv_i8", scale=DATA + 1024), words(-INF, at=256 + 15)),
    "a bias beyond its limit": (made("conv_i8", bias=DATA + 1024), words(MOST_BIAS + 1, at=256 + 15)),
    "a bias below its limit": (made("depth_i8", bias=DATA + 1024), words(-MOST_BIAS - 1, at=256 + 15)),
    "a weight of -128": (made("conv_i8", scale=DATA + 1024, bias=DATA + 1024), words(-(1 << 31), at=3 * 4 * 4 - 1)),
    "a weight of -128 of each channel": (made("depth_i8", scale=DATA + 1024, bias=DATA + 1024), words(128, at=35)),
    "a weight of -128 over bands": (made("bigru_mixed", scale=DATA + 1024, bias=DATA + 1024), words(128, at=47)),
    "a weight of -128 of a cell": (made("bigru_i16", scale=DATA + 1024, bias=DATA + 1024), words(128, at=47)),
    "a weight of the edges": (made("edges"), words(INF, at=2 * 4 * 16 - 1)),
    "a weight of a run": (made("merge", table=DATA + 1024), words(NAN, at=0)[:1024] + words(1 << 16)[:3072]),
    "a run beyond the rows": (made("merge"), words(0x00010000 | (ARENA_BYTES + STATE_BYTES - X) // 16)),
    "runs with more weights than there are": (made("split", table=DATA + 1024), words(0x04010000, at=256)),
    "a phase weight that is no number": (made("resample", scale=DATA, bias=DATA + 2048), words(NAN, at=9 * 16 - 1)),
    "a weight of -128 of a phase": (made("resample_i8", scale=DATA + 1024, bias=DATA + 1024), words(128, at=35)),
    "a bias beyond its limit in a phase": (
        made("resample_i8", bias=DATA + 1024, seg=2, seg_row=2, stride=1, n_rows=4), words(MOST_BIAS + 1, at=256 + 31),
    ),
    "an endless rise of a channel": (made("affine_relu", scale=DATA + 1024), words(INF, at=256 + 15)),
    "a rise of -128": (made("affine_relu_i8", table=DATA + 1024), words(-(1 << 31), at=256 + 3)),
    "a weight of -128 of a band": (made("affine_relu_i8", bias=DATA + 1024), words(128, at=11)),
    "a bias of -128 of a band": (made("affine_relu_i16", bias=DATA + 1024), words(128, at=256 + 11)),
    "an endless weight of an energy": (made("band_energy"), words(INF, at=15)),
    "a weight of -128 of an energy": (made("band_energy_i8"), words(-(1 << 31), at=3)),
    "an endless bias of a band": (made("affine_relu", bias=DATA + 1024), words(INF, at=256 + 47)),
    "an endless scale of a channel": (made("affine_relu_i8", scale=DATA + 1024), words(INF, at=256 + 15)),
    "16-bit weights that add up to a bit too much": (
        made("conv_i16", scale=DATA + 1024, bias=DATA + 1024), words(0x7FFF7FFF, *[0] * 15, 2, at=15)
    ),
    "a zero point beyond bytes": (made("bigru_i8"), words(128.0, at=GRIDS + 5)),
    "a zero point between bytes": (made("bigru_i8"), words(0.5, at=GRIDS + 2)),
    "a zero point that is no number": (made("gru_cell_i8"), words(NAN, at=11)),
    "an endless number of a cell": (made("gru_cell_i8"), words(INF, at=19)),
}  # fmt: skip


@pytest.mark.parametrize(("op", "data"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_no_sum_or_table_holds_are_refused(op: Op, data: bytes) -> None:
    assert is_refused(program(op, data=data, period=PERIOD))


# Two operations, both accepted alone.
TOGETHER: dict[str, tuple[Op, Op]] = {
    "the same state": (made("gru_cell"), made("gru_cell")),
    "states over each other": (made("depth"), made("gru_cell", state=ARENA_BYTES + 4 * 2 * 5 * 16 - 4)),
    "states in another order": (made("gru_cell", state=ARENA_BYTES + 4096), made("gru_cell")),
}


@pytest.mark.parametrize(("one", "other"), TOGETHER.values(), ids=TOGETHER)
def test_every_operation_has_a_state_of_its_own(one: Op, other: Op) -> None:
    moved = {name: data_at(2) for name in ARRAYS}
    assert is_refused(program(one | moved, other | moved, period=PERIOD))


HEADERS: dict[str, dict[str, int]] = {
    "the spectrum among the states": {"spectrum": ARENA_BYTES},
    "the result over the end of the arena": {"enhanced": ARENA_END - 2 * PLANE * 4 + 4},
    "a spectrum between floats": {"spectrum": 2},
    "operations beyond the weights": {"n_ops": 50},
    "operations in the header": {"ops": HEADER.itemsize - 4},
    "operations between words": {"ops": HEADER.itemsize + 2},
    "no period": {"period": 0},
    "a precision that is none": {"precision": 2},
    "an arena of odd size": {"n_arena_bytes": ARENA_BYTES + 4},
    "no arena": {"n_arena_bytes": 0},
    "states of odd size": {"n_state_bytes": STATE_BYTES + 4},
    "a reserved word": {"r2": 1},
    "a window that is none": {"window": 2},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_contradicts_itself_is_refused(header: dict[str, int]) -> None:
    assert is_refused(program(made("leaky"), **header))


# --- the budget: said before anything is allocated -----------------------------------------------------------------

MOST_WEIGHT_BYTES, MOST_MEMORY_BYTES, MOST_WORK = 1 << 24, 1 << 25, 1 << 25
POINTWISE = made("conv", taps=1, pad=0, n_rows=33, n_in=16, x_row=16)  # 33 x 16 x 16 products, 33 x 16 elements
PRODUCTS, CALL = 33 * 16 * 16 + 33 * 16, 64


def pointwise(n_ops: int) -> bytes:
    return program(*[POINTWISE | {name: data_at(n_ops) for name in ARRAYS}] * n_ops)


LARGEST: dict[str, Callable[[], bytes]] = {
    "memory": lambda: program(n_arena_bytes=MOST_MEMORY_BYTES - 4096, n_state_bytes=4096),
    "work": lambda: pointwise(MOST_WORK // (PRODUCTS + CALL)),
    "weights": lambda: program(data=bytes(MOST_WEIGHT_BYTES - HEADER.itemsize - SLACK)),
}
TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "one step more memory": lambda: program(n_arena_bytes=MOST_MEMORY_BYTES - 4096, n_state_bytes=4096 + 16),
    "memory that wraps around": lambda: program(n_arena_bytes=(1 << 32) - 64, n_state_bytes=1 << 16),
    "128 bytes that ask for half a gigabyte": lambda: program(n_arena_bytes=1 << 28, n_state_bytes=1 << 28, data=b""),
    "one operation more work": lambda: pointwise(MOST_WORK // (PRODUCTS + CALL) + 1),
    "runs of rows": lambda: runs_of_rows(30),
    "one byte more weights": lambda: program(data=bytes(MOST_WEIGHT_BYTES - HEADER.itemsize - SLACK + 1)),
}


def runs_of_rows(n_ops: int) -> bytes:
    """1,024 runs of 300 rows of 4 columns each: little beside their weights, but they are read again and again."""
    at = {"weight": data_at(n_ops), "table": data_at(n_ops)}
    op = made("merge", n_rows=1024, n_in=0, n_out=4, x_row=0, y_row=4, **at)
    return program(*[op] * n_ops, data=struct.pack("<HH", 0, 300) * 1024 + bytes(4 * 300 * 1024))


@pytest.mark.parametrize("weights", LARGEST.values(), ids=LARGEST)
def test_the_largest_program_runs(weights: Callable[[], bytes]) -> None:
    Stream(weights()).process()


@pytest.mark.parametrize("weights", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_program_beyond_the_budget_is_refused_in_a_word(weights: Callable[[], bytes]) -> None:
    with pytest.raises(Failure, match=r"asks for more memory or work than .*; train a smaller network"):
        Stream(weights())
