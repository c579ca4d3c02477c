"""When the board cannot keep up: the sound goes on unprocessed rather than in pieces.

A hop was missed when the computation was to blame: it took longer than the hop lasts, or a device ran dry or over after
a computation that took a good part of it (`live.chain`). More than one hop missed in FORGET_HOPS, for a while, and the
denoiser rests; then it is tried again, after ever longer rests while it keeps failing.
"""

from __future__ import annotations

from typing import Final

LIMIT: Final = 4  # misses
FORGET_HOPS: Final = 32  # in time, for one miss to be forgotten: half a second. Fewer misses cost less than a rest
FIRST_REST_HOPS: Final = 125  # 2 s
LONGEST_REST_HOPS: Final = 3750  # a minute


class Overload:
    """Counts hops: each is `met`, `missed` or, at rest, `rested`."""

    def __init__(self) -> None:
        self._n_misses = 0
        self._n_met = 0
        self._n_calm = 0  # in time since the last miss
        self._rest_hops = FIRST_REST_HOPS
        self._n_to_rest = 0

    @property
    def is_resting(self) -> bool:
        """The denoiser must not be called."""
        return self._n_to_rest > 0

    def met(self) -> None:
        """A hop in time."""
        self._n_met += 1
        self._n_calm += 1
        if self._n_met >= FORGET_HOPS:
            self._n_met = 0
            self._n_misses = max(0, self._n_misses - 1)
        if self._n_calm >= FIRST_REST_HOPS:
            self._n_calm = 0
            self._rest_hops = max(FIRST_REST_HOPS, self._rest_hops // 2)

    def missed(self) -> bool:
        """A hop too late; True if that was one too many and a rest begins."""
        self._n_calm = 0
        self._n_misses += 1
        if self._n_misses < LIMIT or self.is_resting:
            return False
        self._n_to_rest, self._n_misses = self._rest_hops, 0
        self._rest_hops = min(LONGEST_REST_HOPS, 2 * self._rest_hops)
        return True

    def rested(self) -> bool:
        """A hop at rest; True if it was the last."""
        self._n_to_rest -= 1
        return self._n_to_rest == 0
