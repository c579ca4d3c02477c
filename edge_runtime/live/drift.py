"""Two clocks: how fast the sound between capture and playback must be played so that it neither runs out nor piles up.

The quantity steered is the sound on its way, in seconds: what the capture device holds, what the queues between hold,
what the playback device holds. Capture adds to it and playback takes from it all the time, so a late wake-up does not
show in it; only a difference of clocks does. Devices of one clock keep it constant, the ratio stays exactly 1 and no
sample is touched. When its median over a second has left a dead band, a PI loop takes over, for good.
"""

from __future__ import annotations

from typing import Final

import numpy as np

WINDOW_S: Final = 1.0  # of the median
DEAD_BAND_S: Final = 0.002
LOST_S: Final = 0.024  # one and a half hops
MOST: Final = 0.005  # of the ratio: clocks of real sound devices differ by 0.1 % at most
PROPORTIONAL_HZ: Final = 0.2  # the ratio answers an error of 10 ms with 0.2 %
INTEGRAL_HZ2: Final = PROPORTIONAL_HZ**2 / 4  # critical damping: (s + PROPORTIONAL_HZ / 2)^2


class DriftControl:
    """Call `update` once a block of `block_s` seconds."""

    def __init__(self, block_s: float) -> None:
        self._recent_s = np.zeros(max(5, round(WINDOW_S / block_s)))
        self._sorted_s = np.zeros_like(self._recent_s)
        self._block_s = block_s
        self.reset()

    def reset(self) -> None:
        """Other devices: nothing is known of their clocks."""
        self.is_active = False
        self._integral = 0.0
        self.restart(0.0)

    def restart(self, target_s: float) -> None:
        """The same devices, started again with `target_s` on the way; the clocks are as before."""
        self._n_seen = 0
        self.target_s = target_s
        self.on_the_way_s = 0.0
        self.ratio = 1.0 + self._integral

    @property
    def difference(self) -> float:
        """Of the clocks, as far as it is known: capture's is faster by this part. The ratio also mends what is late."""
        return self._integral

    @property
    def is_lost(self) -> bool:
        """More is missing or too much than steering could mend in good time."""
        return self._n_seen >= len(self._recent_s) and abs(self.on_the_way_s - self.target_s) > LOST_S

    def update(self, on_the_way_s: float) -> float:
        """Take the sound on its way and return the ratio: above 1 hurries, so that less is on the way."""
        self._recent_s[self._n_seen % len(self._recent_s)] = on_the_way_s
        self._n_seen += 1
        if self._n_seen < len(self._recent_s):
            return self.ratio
        self._sorted_s[:] = self._recent_s
        self._sorted_s.sort()
        self.on_the_way_s = float(self._sorted_s[len(self._sorted_s) // 2])
        error_s = self.on_the_way_s - self.target_s
        self.is_active = self.is_active or abs(error_s) > DEAD_BAND_S
        if self.is_active:
            self._integral += INTEGRAL_HZ2 * error_s * self._block_s
            self._integral = min(MOST, max(-MOST, self._integral))
            self.ratio = 1.0 + min(MOST, max(-MOST, PROPORTIONAL_HZ * error_s + self._integral))
        return self.ratio
