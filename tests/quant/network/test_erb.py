"""The ERB matrices from their formula, and the blocks that hold them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.inputs.checkpoint import Checkpoint
from quant.network.erb import band_blocks, merging_matrix


def test_the_formula_gives_the_official_matrices(official: Checkpoint) -> None:
    matrix = merging_matrix(65, 64)
    np.testing.assert_allclose(matrix, official.params["erb.erb_fc.weight"], atol=1e-7)
    np.testing.assert_allclose(matrix.T, official.params["erb.ierb_fc.weight"], atol=1e-7)


@pytest.mark.parametrize(("n_low", "n_high"), [(65, 64), (33, 64), (65, 32), (17, 40)])
def test_the_bands_share_every_bin(n_low: int, n_high: int) -> None:
    matrix = merging_matrix(n_low, n_high)
    assert matrix.shape == (n_high, 257 - n_low)
    np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-6)
    assert (matrix >= 0).all()


@given(seed=st.integers(0, 2**32 - 1), n_blocks=st.integers(1, 6), n_rows=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_blocks_hold_every_number_once(seed: int, n_blocks: int, n_rows: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((n_rows, 40)) * (rng.random((n_rows, 40)) < 0.1)
    blocks = band_blocks(weight, n_blocks)
    assert len(blocks) <= n_blocks
    assert [rows.start for rows, _ in blocks] == [0, *(rows.stop for rows, _ in blocks[:-1])]
    assert blocks[-1][0].stop == n_rows
    held = np.zeros_like(weight)
    for rows, columns in blocks:
        held[rows, columns] = weight[rows, columns]
    np.testing.assert_array_equal(held, weight)


@pytest.mark.parametrize(("n_blocks", "n_numbers"), [(1, 12288), (2, 6085), (4, 3115)])
def test_more_blocks_hold_fewer_zeros(official: Checkpoint, n_blocks: int, n_numbers: int) -> None:
    blocks = band_blocks(official.params["erb.erb_fc.weight"], n_blocks)
    sizes = [(r.stop - r.start) * (c.stop - c.start) for r, c in blocks]
    assert sum(sizes) == n_numbers
