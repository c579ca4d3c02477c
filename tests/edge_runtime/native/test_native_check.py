"""Weights that would lead a kernel out of its memory are refused: every access by its greatest offset."""

from __future__ import annotations

import pytest
from native_program import ARENA_BYTES, STATE_BYTES, X, Y, data_at, program

from edge_runtime.errors import Failure

try:
    from edge_runtime.native import Stream, isas

    isas()
except ImportError:
    pytest.skip("the native library is not compiled here: no C compiler", allow_module_level=True)

DATA = data_at()
END = ARENA_BYTES + STATE_BYTES
ARRAYS = {"weight": DATA, "bias": DATA, "scale": DATA}
CONV = {"kind": "conv", "x": X, "y": Y, "n_in": 4, "x_row": 4, "n_rows": 1, "n_out": 16, "y_row": 16, **ARRAYS}
CONV_I8 = CONV | {"kind": "conv_i8"}
PIECES = {"seg": 8, "seg_row": 16, "y_row": 24}

ACCEPTED = {
    "a convolution in one piece": CONV,
    "an 8-bit one": CONV_I8,
    "a convolution in two pieces": CONV | PIECES,
    "pieces that touch": CONV | PIECES | {"seg_row": 8},
}


@pytest.mark.parametrize("op", ACCEPTED.values(), ids=ACCEPTED)
def test_an_operation_within_its_memory_runs(op: dict) -> None:
    for isa in isas():
        Stream(program(op), isa=isa).process()


REFUSED = {
    # The last piece lies before the end of the one before it: 4 results of 12 at the end, the other 8 beyond it.
    "a piece before the last one reaches farther": CONV
    | {"n_out": 12, "y_row": 12, "seg": 8, "seg_row": 0, "y": END - 4 * 4},
    "an 8-bit one": CONV_I8 | {"n_out": 12, "y_row": 12, "seg": 8, "seg_row": 0, "y": END - 4},
    "pieces on top of each other": CONV | PIECES | {"seg_row": 7},
}


@pytest.mark.parametrize("op", REFUSED.values(), ids=REFUSED)
def test_an_operation_that_would_leave_its_memory_is_refused(op: dict) -> None:
    with pytest.raises(Failure, match="holds an operation that cannot be run"):
        Stream(program(op))
