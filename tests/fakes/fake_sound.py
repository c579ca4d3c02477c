"""Sound devices in virtual time: each with a clock of its own, which can be stopped, hurried or unplugged.

They stand at the real seam, `alsa.open_pcm`, and behave as hw: devices do: capture fills a ring from `start` on and
overruns when nobody reads; playback empties one and underruns; reading and writing wait by moving the world's clock.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from edge_runtime.alsa.pcm import CAPTURE, FORMATS, Direction, Outcome, PcmConfig, Wish
from edge_runtime.alsa.samples import SampleConverter
from edge_runtime.errors import Failure
from edge_runtime.live.control.controls import Mixer
from edge_runtime.live.loop import LiveLoop, LivePlan
from edge_runtime.live.status import Status
from edge_runtime.stft import HOP_SAMPLES


class World:
    """Virtual time, and what happens in it."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.computed_s = 0.0  # of it, by this process
        self.tick_s = tick_s  # who waits is woken by a timer so coarse; 0: to the moment
        self.absent: list[tuple[float, float]] = []  # times between which devices are not there
        self.naps: list[tuple[float, float]] = []  # (at, how long) the process is not scheduled
        self.suspends: list[float] = []  # when the machine slept: what was open is suspended until it is prepared
        self.restarts: list[float] = []  # of the sound server: what was open then is an xrun for ever, as PipeWire's is

    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    def cpu_ns(self) -> int:
        return round(self.computed_s * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def compute(self, seconds: float) -> None:
        self.now_s += seconds
        self.computed_s += seconds

    def wake_at(self, when_s: float) -> None:
        """Wait until then, or longer when a nap falls in between."""
        if when_s > self.now_s:
            self.now_s = math.ceil(when_s / self.tick_s - 1e-6) * self.tick_s if self.tick_s else when_s
        while self.naps and self.naps[0][0] <= self.now_s:
            self.now_s += self.naps.pop(0)[1]

    @property
    def is_plugged(self) -> bool:
        return not any(start <= self.now_s < end for start, end in self.absent)

    def n_until_now(self, times: list[float]) -> int:
        return sum(when <= self.now_s for when in times)


class FakeDevice:
    """What lies behind a device's name; its PCMs come and go."""

    def __init__(
        self,
        world: World,
        rate_hz: int = 16_000,
        sample_format: str = "FLOAT_LE",
        n_channels: int = 1,
        clock: float = 1.0,
        period: int | None = None,
        buffer: int | None = None,
        sound: Callable[[int, int], np.ndarray] | None = None,
    ) -> None:
        self.world, self.rate_hz, self.n_channels, self.clock = world, rate_hz, n_channels, clock
        self.format = FORMATS[sample_format]
        self.period = period or round(rate_hz * HOP_SAMPLES / 16_000)
        self.buffer = buffer  # the one it has; None: as is wished, four periods at least
        self.sound = sound  # capture: pcm_frames (start, n) -> (n_channels, n)
        self.played: list[tuple[float, np.ndarray]] = []  # (world time of the first, (n, n_channels) raw)

    def open(self, direction: Direction, wish: Wish) -> FakePcm:
        if not self.world.is_plugged:
            raise Failure(f"{direction} cannot be opened (No such device)", where="fake", remedy="plug it in")
        wished = max(4 * self.period, round(wish.least_buffer_ms * self.rate_hz / 1000))
        return FakePcm(self, direction, self.buffer or wished)


class FakePcm:
    """One opening of a device: the methods of `alsa_pcm.Pcm`."""

    def __init__(self, device: FakeDevice, direction: Direction, buffer: int) -> None:
        self.device, self.world = device, device.world
        self.config = PcmConfig(
            "fake", direction, device.rate_hz, device.format, device.n_channels, device.period, buffer
        )
        self.last_errno = 0
        self._hz = device.rate_hz * device.clock  # in the world's seconds
        self._is_open = True
        self._n_restarts = self.world.n_until_now(self.world.restarts)
        self._convert = SampleConverter(device.format, device.n_channels, 8 * device.period)
        self.prepare()

    def new_block(self, n: int) -> np.ndarray:
        shape: tuple[int, ...] = (n, self.config.n_channels)
        kind = self.config.sample_format
        return np.zeros((*shape, 3) if kind.n_bytes == 3 else shape, kind.dtype)

    def prepare(self) -> Outcome:
        self._began_s: float | None = None
        self._n_moved = 0
        self._n_suspends = self.world.n_until_now(self.world.suspends)
        return self._alive()

    def start(self) -> Outcome:
        assert self._n_moved > 0 or self.config.direction is CAPTURE, "an empty playback device cannot start"
        self._began_s = self.world.now_s
        return self._alive()

    def close(self) -> None:
        self._is_open = False

    def __enter__(self) -> FakePcm:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _alive(self) -> Outcome:
        assert self._is_open
        if not self.world.is_plugged:
            return Outcome.DISCONNECTED
        if self.world.n_until_now(self.world.suspends) > self._n_suspends:
            return Outcome.SUSPENDED
        return Outcome.XRUN if self._is_orphan else Outcome.DONE

    @property
    def _is_orphan(self) -> bool:
        """Its sound server is gone."""
        return self.world.n_until_now(self.world.restarts) > self._n_restarts

    @property
    def _clocked(self) -> float:
        """pcm_frames that the device's clock has moved."""
        return 0.0 if self._began_s is None else (self.world.now_s - self._began_s) * self._hz

    def available(self) -> int:
        if self.config.direction is CAPTURE:
            return int(self._clocked - self._n_moved + 1e-6)
        return self.config.buffer_pcm_frames - self.queued()

    def queued(self) -> int:
        return max(0, int(np.ceil(self._n_moved - self._clocked - 1e-6)))

    def delay(self) -> int:
        return self.available() if self.config.direction is CAPTURE else self.queued()

    def read(self, block: np.ndarray, n: int | None = None, timeout_ms: int = 1000) -> Outcome:
        n = len(block) if n is None else n
        assert self._began_s is not None, "capture was not started"
        self.world.wake_at(self._began_s + (self._n_moved + n) / self._hz)
        if not self.world.is_plugged:
            self.last_errno = errno.ENODEV
        if (outcome := self._alive()) is not Outcome.DONE:
            return outcome
        if self.available() > self.config.buffer_pcm_frames:
            return Outcome.XRUN
        start = round((self._began_s) * self.device.rate_hz) + self._n_moved
        if self.device.sound is not None:
            self._convert.encode(self.device.sound(start, n), block[:n])
        self._n_moved += n
        return Outcome.DONE

    def write(self, block: np.ndarray, n: int | None = None, timeout_ms: int = 1000) -> Outcome:
        n = len(block) if n is None else n
        if (outcome := self._alive()) is not Outcome.DONE and not (self._is_orphan and self._began_s is None):
            return outcome
        if self._began_s is not None and self._clocked > self._n_moved:
            return Outcome.XRUN
        over = self.queued() + n - self.config.buffer_pcm_frames
        if over > 0:
            assert self._began_s is not None, "more is queued than the buffer holds, and nothing plays"
            self.world.wake_at(self.world.now_s + over / self._hz)
        starts_s = self.world.now_s + (self._n_moved - self._clocked) / self._hz
        self.device.played.append((starts_s, block[:n].copy()))
        self._n_moved += n
        return Outcome.DONE


class FakeEngine:
    name, precision = "fake", "int8"


class FakeDenoiser:
    """Half the sound, a hop late; `cost_s(world time)` is what a hop takes to compute, and `held_up_s` what passes
    meanwhile for other programs' sake."""

    def __init__(
        self,
        world: World,
        cost_s: Callable[[float], float] = lambda _: 0.0,
        gain: float = 0.5,
        held_up_s: Callable[[float], float] = lambda _: 0.0,
    ) -> None:
        self.engine = FakeEngine()
        self._world, self._cost_s, self._gain, self._held_up_s = world, cost_s, gain, held_up_s
        self.n_steps = self.n_resets = 0
        self._before = Mixer()

    def step(self, hop: np.ndarray, out: np.ndarray) -> None:
        self.n_steps += 1
        self._world.sleep(self._held_up_s(self._world.now_s))
        self._world.compute(self._cost_s(self._world.now_s))
        self._before.delay(hop)
        np.multiply(self._before.dry, self._gain, out=out)

    def reset(self) -> None:
        self.n_resets += 1
        self._before.reset()


@lru_cache(maxsize=4)  # 27 MB at 96 kHz
def noise(n_channels: int = 1, seconds: float = 70.0, rate_hz: int = 16_000, scale: float = 0.1):
    """A source of the same noise whenever it is asked: a function of the sample's number."""
    rows = np.random.default_rng(5).normal(0, scale, (n_channels, round(seconds * rate_hz))).astype(np.float32)

    def sound(start: int, n: int) -> np.ndarray:
        return np.take(rows, np.arange(start, start + n), axis=1, mode="wrap")

    return sound


def run(
    world: World,
    capture: FakeDevice,
    playback: FakeDevice,
    seconds: float,
    denoisers: list[FakeDenoiser] | None = None,
    status: Status | None = None,
    open_pcm: Callable[[str, Direction, Wish], FakePcm] | None = None,
    **plan,
) -> Status:
    """A live loop between two fake devices until so much sound has passed; `open_pcm` opens them, if not by name."""
    status = status or Status()
    devices = {"capture": capture, "playback": playback}
    made = denoisers if denoisers is not None else [FakeDenoiser(world)]
    loop = LiveLoop(
        LivePlan(capture="capture", playback="playback", seconds=seconds, **plan),
        open_pcm or (lambda name, direction, wish: devices[name].open(direction, wish)),  # type: ignore[arg-type,return-value]
        lambda n: made[:n],  # type: ignore[arg-type,return-value]
        status,
        sleep=world.sleep,
        now_ns=world.now_ns,
        cpu_ns=world.cpu_ns,
    )
    loop.run()
    return status
