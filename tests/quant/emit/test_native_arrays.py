"""Arrays of the native engine's weights: what 32 bits do not hold is said in one line."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import Failure
from quant.emit.native.arrays import folded_bias
from quant.int8.qparams import QParams, choose_weight_scales, quantize_weight


def test_a_bias_beside_denormal_weights_fails_in_one_line() -> None:
    """As checkpoints have them whose channels died: the bias is more steps than the engine can add."""
    weight = np.full((2, 3, 1), 1e-40, np.float32)
    scales = choose_weight_scales(weight)
    with pytest.raises(
        Failure, match=r"^en\.conv: a bias is .* steps of its weights, .*; its weights are next to nothing"
    ):
        folded_bias("en.conv", np.full(2, 0.5, np.float32), quantize_weight(weight, scales), scales, QParams(0.1, 0))
