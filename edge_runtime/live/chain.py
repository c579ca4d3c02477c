"""Sound of one device to sound of another, a block at a time, in fixed memory: everything between capture and playback.

device samples -> float32 -> repair -> choose or mix channels -> high-pass, gain -> hops at 16 kHz (`sound.bridge`)
  -> denoise and mix, a hop at a time, each stream its own
  -> drift of the clocks, the other device's rate (`sound.bridge`) -> device samples
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
from edge_runtime.live.overload import Overload
from edge_runtime.live.sound.bridge import Lines, bridge
from edge_runtime.live.sound.fifo import Fifo
from edge_runtime.live.sound.front import FrontEnd, FrontSettings
from edge_runtime.live.status import OVERLOADED, RUNNING, Status
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array

HOP_NS: Final = 1_000_000_000 * HOP_SAMPLES // SAMPLE_RATE_HZ
GOOD_PART_NS: Final = HOP_NS // 2  # of computing; where it takes less, a rest would give too little time back
_LOOK_HOPS: Final = 62  # a second
WARM_UP_HOPS: Final = 8  # after a reset the denoiser runs unheard: it must find its states


class Sink(Protocol):
    """Where hops go besides the playback device."""

    def push(self, noisy: Float32Array, clean: Float32Array) -> None:
        """Take both sides of one hop, (n_streams, 256) each, and do not wait."""


class _Capture:
    """Blocks of the capture device to its streams, at its rate."""

    def __init__(self, config: PcmConfig, channels: Channels, n_streams: int) -> None:
        self.n_most = 2 * ceil(HOP_SAMPLES * config.rate_hz / SAMPLE_RATE_HZ)
        self._decode = SampleConverter(config.sample_format, config.n_channels, self.n_most).decode
        self._captured = np.zeros((config.n_channels, self.n_most), np.float32)
        self._streams = np.zeros((n_streams, self.n_most), np.float32)
        indices = channels.indices(config.n_channels, config.device)
        self.chooser = Chooser(channels, indices, config.n_channels, config.rate_hz, self.n_most)
        self._n_repaired = 0

    def streams(self, block: Block) -> Float32Array:
        """(n_streams, n) of (n, n_channels)."""
        n = len(block)
        captured, streams = self._captured[:, :n], self._streams[:, :n]
        self._decode(block, captured)
        self._n_repaired += sum(repair(captured))  # before one channel's NaN is in the mean, or the loudest of all
        if n:
            self.chooser.push(captured, streams)
        return streams

    def take_repaired(self) -> int:
        """How many samples had to be repaired since it was asked last."""
        n, self._n_repaired = self._n_repaired, 0
        return n


class _Playback:
    """Streams at the playback device's rate to its blocks."""

    def __init__(self, config: PcmConfig, n_streams: int) -> None:
        n_most = ceil(3 * HOP_SAMPLES * config.rate_hz / SAMPLE_RATE_HZ)
        self._n_streams = n_streams
        self._channels = np.zeros((config.n_channels, n_most), np.float32)
        self._encode = SampleConverter(config.sample_format, config.n_channels, n_most).encode

    def write(self, ready: Fifo, block: Block) -> int:
        """What is ready into (n, n_channels); returns its pcm_frames."""
        n = min(ready.n, len(block))
        # one stream goes to every channel; several to the first channels, and the others are silent
        heard = self._channels if self._n_streams == 1 else self._channels[: self._n_streams]
        heard[:, :n] = ready.view(n)
        ready.drop(n)
        self._encode(self._channels[:, :n], block[:n])
        return n


class Chain:
    """From `capture` to `playback`. One thread pushes blocks; settings come through `status`."""

    def __init__(
        self,
        capture: PcmConfig,
        playback: PcmConfig,
        denoisers: Sequence[Denoiser],
        channels: Channels,
        status: Status,
        band: str | None = None,
        front: FrontSettings = FrontSettings(),  # noqa: B008  # frozen
        now_ns: Callable[[], int] = time.perf_counter_ns,
        cpu_ns: Callable[[], int] | None = None,
    ) -> None:
        """`band` is as in `band.chosen`; `cpu_ns` is the time this process has computed, None: whatever passes is
        computation.

        Failure: capture has not the channels, or a full band cannot be kept.
        """
        n = len(denoisers)
        self._capture, self._playback = _Capture(capture, channels, n), _Playback(playback, n)
        self.n_most = self._capture.n_most  # pcm_frames of one push
        self._bridge = bridge(band, capture.rate_hz, playback.rate_hz, n, self.n_most)
        status.band = self._bridge.band
        self._front = FrontEnd(front, capture.rate_hz, n)
        self._now_ns, self._cpu_ns = now_ns, cpu_ns or now_ns
        self._status = status
        self.tee: Sink | None = None
        status.levels_dbfs = ((LOWEST_DBFS, LOWEST_DBFS),) * n
        self._meters_in, self._meters_out = [Meter() for _ in denoisers], [Meter() for _ in denoisers]
        self._denoisers, self._mixers = denoisers, [Mixer() for _ in denoisers]
        self._hop, self._clean, self._mixed = (np.zeros((n, HOP_SAMPLES), np.float32) for _ in range(3))
        self._lines = [Lines((1.0, 1.0), (1.0, 1.0))] * n
        self.overload = Overload()
        self._computed_ns = 0  # for the last hop
        self._was_missed = False
        self._n_warm_up = 0
        self._restarts = False

    @property
    def delay_s(self) -> float:
        """Of the chain itself: the STFT's window, the drift converter, rate converters."""
        return self._bridge.delay_s

    @property
    def n_wanted(self) -> int:
        """pcm_frames that complete the next hop: the first time more, because converters lag."""
        return self._bridge.n_wanted

    @property
    def ratio(self) -> float:
        """Above 1 playback hurries; see `drift`."""
        return self._bridge.drift.ratio

    @ratio.setter
    def ratio(self, value: float) -> None:
        self._bridge.drift.ratio = value

    def push(self, block: Block, played: Block) -> int:
        """Take (n, n_channels) and write what is ready into `played`; returns its pcm_frames."""
        streams = self._capture.streams(block)
        self._front.run(streams)
        self._bridge.push(streams)
        self._status.n_repaired += self._capture.take_repaired()
        while self._bridge.pop(self._hop):
            self._denoise_hop()
        return self._playback.write(self._bridge.ready, played)

    def _denoise_hop(self) -> None:
        for hop, mixer in zip(self._hop, self._mixers, strict=True):
            mixer.delay(hop)
        wet = self._step()
        for k, (mixer, clean, mixed) in enumerate(zip(self._mixers, self._clean, self._mixed, strict=True)):
            before = mixer.wet, mixer.gate
            mixer.mix(clean, wet, self._gate_dbfs, mixed)
            self._lines[k] = Lines((before[0], mixer.wet), (before[1], mixer.gate))
        self._measure()
        self._status.heard.push(self._mixers[0].dry, self._mixed[0])
        self._bridge.join(self._clean, self._mixed, self._lines)
        if self.tee is not None:
            self.tee.push(self._hop, self._mixed)

    def _measure(self) -> None:
        """Levels of the hop that is heard, as it came and as it goes; now and then what ails the microphone."""
        status = self._status
        came = [meter.push(mixer.dry) for meter, mixer in zip(self._meters_in, self._mixers, strict=True)]
        goes = [meter.push(mixed) for meter, mixed in zip(self._meters_out, self._mixed, strict=True)]
        status.levels_dbfs = tuple(zip(came, goes, strict=True))
        if not self.overload.is_resting:
            self._front.learn(came, [mixer.clean_dbfs for mixer in self._mixers])
        status.input_gain_db, status.highpass_hz = self._front.gain_db, self._front.highpass_hz
        if status.n_hops % _LOOK_HOPS == 0:
            status.note("front", self._front.note)
            self._capture.chooser.look()
            status.silent_channels = self._capture.chooser.silent
            status.note("channels", self._capture.chooser.note)
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
            self._status.doing = OVERLOADED, ""

    def _rest(self) -> float:
        for mixer, clean in zip(self._mixers, self._clean, strict=True):
            clean[:] = mixer.dry
        self._status.n_hops += 1
        self._computed_ns = 0
        if self.overload.rested():
            self._restarts = True
            self._status.doing = RUNNING, ""
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
