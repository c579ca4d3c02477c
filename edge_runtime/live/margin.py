"""The margin: the sound that playback still holds when the next hop is written, and what becomes of one too small.

It is as asked, and what a device moves at once beyond a hop. Where playback runs dry in the first second, twice in a
row, it was too small for the card's timer: it is raised. What the buffer cannot hold is cut. Both are said; where even
the largest plays nothing, the device is refused.
"""

from __future__ import annotations

from typing import Final

from edge_runtime.alsa.pcm import PcmConfig, Unfit
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ

HOP_MS: Final = 1000 * HOP_SAMPLES / SAMPLE_RATE_HZ
STEP_MS: Final = 4.0  # a tick of most kernels
FIRM_HOPS: Final = 62  # a second: who ran so long did not fail for the margin
_PATIENCE: Final = 2  # short runs in a row; one may be chance
_HOPELESS: Final = 8  # runs in a row that ended with their first hop, with all the margin there can be
_ROOM_MS: Final = 20.0  # of a buffer, for a margin to be raised


class Margin:
    """`pcm_frames` is what counts; `note` says why it is not what was asked, "" if it is."""

    def __init__(self, asked_ms: float) -> None:
        self._asked_ms = self._wanted_ms = asked_ms
        self._n_short = self._n_hopeless = 0
        self.pcm_frames = 0
        self.ms = 0.0
        self.note = ""

    def buffer_ms(self, period_ms: float) -> float:
        """What a device's buffer should hold for it, and for two hops: one plays while the next is written."""
        return self._asked_ms + _ROOM_MS + 2 * HOP_MS + 2 * max(0.0, period_ms - HOP_MS)

    def fit(self, capture: PcmConfig, playback: PcmConfig) -> None:
        """Into these devices. Failure: playback's buffer is too small for any."""
        self._rate_hz = playback.rate_hz
        self._bulk_ms = sum(max(0.0, 1000 * c.period_pcm_frames / c.rate_hz - HOP_MS) for c in (capture, playback))
        self._held_ms = 1000 * playback.buffer_pcm_frames / playback.rate_hz
        self._device = playback.device
        if self._held_ms < 2 * HOP_MS + STEP_MS:
            raise self._refused(f"a stream needs {2 * HOP_MS + STEP_MS:.0f}")
        self._choose()

    def ended(self, n_hops: int, ran_dry: bool) -> None:
        """A run had so many hops before it broke; `ran_dry`: playback had nothing left, and nobody computed long.

        Failure: nothing that fits into the buffer is enough.
        """
        self._n_hopeless = self._n_hopeless + 1 if ran_dry and n_hops <= 1 and self._is_all else 0
        if self._n_hopeless == _HOPELESS:
            raise self._refused("and runs dry at once, again and again")
        self._n_short = self._n_short + 1 if ran_dry and n_hops < FIRM_HOPS else 0
        if self._n_short == _PATIENCE:
            self._n_short = 0
            self._wanted_ms += STEP_MS
            self._choose()

    def _choose(self) -> None:
        most_ms = self._held_ms - 2 * HOP_MS
        wanted_ms = self._wanted_ms + self._bulk_ms
        self._is_all = wanted_ms >= most_ms
        self.pcm_frames = round(min(wanted_ms, most_ms) * self._rate_hz / 1000)
        self.ms = 1000 * self.pcm_frames / self._rate_hz
        asked = f"margin {self.ms:.0f} ms, not {self._asked_ms + self._bulk_ms:.0f}"
        if wanted_ms > most_ms:
            more = ": that is all that playback's buffer holds; give it more with --periods"
            self.note = f"{asked}{more}" if self._wanted_ms == self._asked_ms else f"{asked}, and it runs dry{more}"
        elif self._wanted_ms > self._asked_ms:
            self.note = f"{asked}: with less, playback ran dry at once"
        else:
            self.note = ""

    def _refused(self, why: str) -> Unfit:
        what = f"playback's buffer holds {self._held_ms:.0f} ms of sound, {why}"
        remedy = "give it more with --periods or --period-ms, or take another device"
        return Unfit(what, where=self._device, remedy=remedy)
