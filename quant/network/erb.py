"""The ERB scale: the fixed matrices between 257 linear bins and 129 bands, and the blocks that hold their weights.

Source: the paper's section 3.1; the scale is Glasberg and Moore's, 21.4 log10(1 + 0.00437 f / Hz) (1990). High bins are
merged by triangles whose corners lie evenly on that scale, from the last copied bin to half the sample rate.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from edge_runtime.stft import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Float32Array

Block = tuple[slice, slice]  # rows (outputs) and columns (inputs) of a matrix


def merging_matrix(n_low_bins: int, n_high_bands: int) -> Float32Array:
    """(n_high_bands, bins above the low ones): each row one triangle; every bin's weights add up to one.

    Its transpose splits bands into bins again. Raises ValueError where two bands would share a corner.
    """
    bin_hz = SAMPLE_RATE_HZ / WINDOW_SAMPLES
    low, high = (21.4 * np.log10(1 + 0.00437 * hz) for hz in (n_low_bins * bin_hz, SAMPLE_RATE_HZ / 2))
    corners_hz = (10 ** (np.linspace(low, high, n_high_bands) / 21.4) - 1) / 0.00437
    corners = np.round(corners_hz / bin_hz)
    if (np.diff(corners) < 1).any():
        raise ValueError(
            f"{n_high_bands} ERB bands above {n_low_bins} low bins are narrower than a bin; take fewer bands"
        )
    bins = np.arange(n_low_bins, WINDOW_SAMPLES // 2 + 1)
    rows = [np.interp(bins, corners, peak) for peak in np.eye(n_high_bands)]
    return np.asarray(rows, np.float32)


def band_blocks(weight: Float32Array, n_blocks: int) -> list[Block]:
    """The `n_blocks` or fewer blocks of consecutive rows that hold every non-zero of `weight` in the fewest numbers."""
    spans = [np.flatnonzero(row) for row in weight]
    return list(_fewest(tuple((int(s[0]), int(s[-1]) + 1) if len(s) else (0, 1) for s in spans), n_blocks))


@cache  # a search or an ablation emits the same matrices hundreds of times
def _fewest(spans: tuple[tuple[int, int], ...], n_blocks: int) -> tuple[Block, ...]:
    """The blocks of rows whose non-zeros span these columns."""

    @cache
    def best(start: int, left: int) -> tuple[int, tuple[Block, ...]]:
        """The fewest numbers that the rows from `start` on take in `left` blocks."""
        if start == len(spans):
            return 0, ()
        found: tuple[int, tuple[Block, ...]] | None = None
        low, high = spans[start]
        for stop in range(start + 1, len(spans) + 1):
            low, high = min(low, spans[stop - 1][0]), max(high, spans[stop - 1][1])
            if left == 1 and stop < len(spans):
                continue
            rest_size, rest = best(stop, left - 1)
            size = (stop - start) * (high - low) + rest_size
            if found is None or size < found[0]:
                found = size, ((slice(start, stop), slice(low, high)), *rest)
        assert found is not None
        return found

    return best(0, n_blocks)[1]
