"""Sound of one device to sound of another, a block at a time, in fixed memory: everything between capture and playback.

device samples -> float32 -> choose or mix channels -> repair -> 16 kHz
  -> denoise and mix, a hop at a time, each stream its own
  -> drift of the clocks -> the other device's rate -> device samples
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final, Protocol

import numpy as np

from edge_runtime.alsa.pcm import Block, PcmConfig
from edge_runtime.alsa.samples import SampleConverter
from edge_runtime.denoiser import Denoiser, repair
from edge_runtime.live.channels import Channels, Chooser
from edge_runtime.live.control.controls import LOWEST_DBFS, OFFSET_DBFS, Meter, Mixer
from edge_runtime.live.fifo import Fifo
from edge_runtime.live.overload import Overload
from edge_runtime.live.rate import DriftConverter, RateConverter
from edge_runtime.live.status import OVERLOADED, RUNNING, Status
from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES, SAMPLE_RATE_HZ, Float32Array

HOP_NS: Final = 1_000_000_000 * HOP_SAMPLES // SAMPLE_RATE_HZ
GOOD_PART_NS: Final = HOP_NS // 2  # of computing; where it takes less, a rest would give too little time back
_LOOK_HOPS: Final = 62  # a second
WARM_UP_HOPS: Final = 8  # after a reset the denoiser runs unheard: it must find its states


class Sink(Protocol):
    """Where hops go besides the playback device."""

    def push(self, noisy: Float32Array, clean: Float32Array) -> None:
        """Take both sides of one hop, (n_streams, 256) each, and do not wait."""


class Chain:
    """From `capture` to `playback`. One thread pushes blocks; settings come through `status`."""

    def __init__(
        self,
        capture: PcmConfig,
        playback: PcmConfig,
        denoisers: Sequence[Denoiser],
        channels: Channels,
        status: Status,
        tee: Sink | None = None,
        now_ns: Callable[[], int] = time.perf_counter_ns,
        cpu_ns: Callable[[], int] | None = None,
    ) -> None:
        """`cpu_ns` is the time this process has computed; None: whatever passes is computation.

        Failure: capture has not the channels.
        """
        self._now_ns, self._cpu_ns = now_ns, cpu_ns or now_ns
        self.n_most = 2 * ceil(HOP_SAMPLES * capture.rate_hz / SAMPLE_RATE_HZ)  # pcm_frames of one push
        self._status, self._tee = status, tee
        self._denoisers, self._mixers = denoisers, [Mixer() for _ in denoisers]
        n = len(denoisers)
        n_at_16k = 2 * HOP_SAMPLES
        self._decode = SampleConverter(capture.sample_format, capture.n_channels, self.n_most).decode
        self._captured = np.zeros((capture.n_channels, self.n_most), np.float32)
        self._streams = np.zeros((n, self.n_most), np.float32)
        indices = channels.indices(capture.n_channels, capture.device)
        self._chooser = Chooser(channels, indices, capture.n_channels, capture.rate_hz, self.n_most)
        status.levels_in_dbfs, status.levels_out_dbfs = [LOWEST_DBFS] * n, [LOWEST_DBFS] * n
        self._meters_in, self._meters_out = [Meter() for _ in denoisers], [Meter() for _ in denoisers]
        self._down = _converter(capture.rate_hz, SAMPLE_RATE_HZ, n, self.n_most)
        self._noisy = Fifo(n, 2 * n_at_16k)
        self._hop, self._clean, self._mixed = (np.zeros((n, HOP_SAMPLES), np.float32) for _ in range(3))
        self._drift = DriftConverter(n, HOP_SAMPLES)
        self._even = Fifo(n, 2 * n_at_16k)
        self._up = _converter(SAMPLE_RATE_HZ, playback.rate_hz, n, n_at_16k + 64)
        n_out = ceil(3 * HOP_SAMPLES * playback.rate_hz / SAMPLE_RATE_HZ)
        self._out = Fifo(n, 2 * n_out) if self._up else self._even
        self._encode = SampleConverter(playback.sample_format, playback.n_channels, n_out).encode
        self._played = np.zeros((playback.n_channels, n_out), np.float32)
        self.overload = Overload()
        self._computed_ns = 0  # for the last hop
        self._was_missed = False
        self._n_warm_up = 0
        self._restarts = False
        self._playback_rate_hz = playback.rate_hz

    @property
    def delay_s(self) -> float:
        """Of the chain itself: the STFT's window, the drift converter, rate converters."""
        rates_s = sum(each.delay_s for each in (self._down, self._up) if each)
        return (LATENCY_SAMPLES + self._drift.delay_samples) / SAMPLE_RATE_HZ + rates_s

    @property
    def n_wanted(self) -> int:
        """pcm_frames that complete the next hop: the first time more, because converters lag."""
        n = HOP_SAMPLES - self._noisy.n
        return self._down.n_needed(n) if self._down else n

    @property
    def ratio(self) -> float:
        """Above 1 playback hurries; see `drift`."""
        return self._drift.ratio

    @ratio.setter
    def ratio(self, value: float) -> None:
        self._drift.ratio = value

    def push(self, block: Block, played: Block) -> int:
        """Take (n, n_channels) and write what is ready into `played`; returns its pcm_frames."""
        n_in = len(block)
        self._decode(block, self._captured[:, :n_in])
        streams = self._streams[:, :n_in]
        if n_in:
            self._chooser.push(self._captured[:, :n_in], streams)
        self._status.n_repaired += sum(repair(streams))
        if self._down:
            self._down.push(streams, self._noisy)
        else:
            self._noisy.push(streams)
        while self._noisy.n >= HOP_SAMPLES:
            self._denoise_hop()
        if self._up:
            self._up.push(self._even.view(self._even.n), self._out)
            self._even.drop(self._even.n)
        n = min(self._out.n, len(played))
        self._spread(n)
        self._encode(self._played[:, :n], played[:n])
        return n

    def _spread(self, n: int) -> None:
        """One stream to every channel; several to the first channels, the others silent."""
        if len(self._streams) == 1:
            self._played[:, :n] = self._out.view(n)
        else:
            self._played[: len(self._streams), :n] = self._out.view(n)
        self._out.drop(n)

    def _denoise_hop(self) -> None:
        self._noisy.pop(self._hop)
        for hop, mixer in zip(self._hop, self._mixers, strict=True):
            mixer.delay(hop)
        wet = self._step()
        for mixer, clean, mixed in zip(self._mixers, self._clean, self._mixed, strict=True):
            mixer.mix(clean, wet, self._gate_dbfs, mixed)
        self._measure()
        self._drift.push(self._mixed, self._even)
        if self._tee is not None:
            self._tee.push(self._hop, self._mixed)

    def _measure(self) -> None:
        """Levels of the hop that is heard, as it came and as it goes; now and then what ails the microphone."""
        status = self._status
        for k, (mixer, mixed) in enumerate(zip(self._mixers, self._mixed, strict=True)):
            status.levels_in_dbfs[k] = self._meters_in[k].push(mixer.dry)
            status.levels_out_dbfs[k] = self._meters_out[k].push(mixed)
        if status.n_hops % _LOOK_HOPS == 0:
            self._chooser.look()
            status.silent_channels = self._chooser.silent
            status.note("channels", self._chooser.note)
            status.note("offset", self._offset_note())

    def _offset_note(self) -> str:
        largest_dbfs = max(meter.offset_dbfs for meter in self._meters_in)
        if largest_dbfs < OFFSET_DBFS:
            return ""
        return f"the microphone has an offset of {largest_dbfs:.0f} dBFS; see `edge-denoise doctor --capture`"

    @property
    def _gate_dbfs(self) -> float:
        settings = self._status.settings
        return float("-inf") if settings.bypass or self.overload.is_resting else settings.gate_dbfs

    def _step(self) -> float:
        """The clean hop into `_clean`, and how wet it shall be at its end."""
        if self.overload.is_resting:
            return self._rest()
        began_ns, began_cpu_ns = self._now_ns(), self._cpu_ns()
        self._begin_again()
        for denoiser, hop, clean in zip(self._denoisers, self._hop, self._clean, strict=True):
            denoiser.step(hop, clean)
        taken_ns, self._computed_ns = self._now_ns() - began_ns, self._cpu_ns() - began_cpu_ns
        self._judge(taken_ns)
        if self.overload.is_resting or self._restarts:
            return 0.0
        if self._n_warm_up:
            self._n_warm_up -= 1
            return 0.0
        return self._status.settings.wet

    def _judge(self, taken_ns: int) -> None:
        """A hop is late by the clock; whether the computation made it late, or a busy machine, is another question."""
        self._status.note_frame(taken_ns)
        self._was_missed = False
        if taken_ns > HOP_NS:
            self._status.n_missed += 1
            self.blame()
        if not self._was_missed:
            self.overload.met()

    @property
    def is_to_blame(self) -> bool:
        """Computing the last hop took a good part of its time."""
        return self._computed_ns >= GOOD_PART_NS

    def blame(self) -> None:
        """A hop was late, or a device had an xrun: a miss if computing took a good part of the hop. One too many, and
        the denoiser rests. An xrun that it did not make would not end by its rest."""
        if self._was_missed or not self.is_to_blame or self.overload.is_resting:
            return
        self._was_missed = True
        if self.overload.missed():
            self._status.n_overloads += 1
            self._status.state = OVERLOADED

    def _rest(self) -> float:
        for mixer, clean in zip(self._mixers, self._clean, strict=True):
            clean[:] = mixer.dry
        self._status.n_hops += 1
        self._computed_ns = 0
        if self.overload.rested():
            self._restarts = True
            self._status.state = RUNNING
        return 0.0

    def _begin_again(self) -> None:
        """A reset takes two hops: the first fades to dry, the second starts from nothing, unheard."""
        if self._restarts:
            self._restarts = False
            self._n_warm_up = WARM_UP_HOPS
            for denoiser in self._denoisers:
                denoiser.reset()
        elif self._status.wants_reset:
            self._status.wants_reset = False
            self._restarts = True


def _converter(from_hz: int, to_hz: int, n_rows: int, n_block: int) -> RateConverter | None:
    return RateConverter(from_hz, to_hz, n_rows, n_block) if from_hz != to_hz else None
