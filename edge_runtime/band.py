"""The full band: sound above 16 kHz keeps what lies above the 8 kHz that the network hears (`native/band/ed_band.h`).

host -> Band.push -> Band.hop -> the denoiser -> Band.join -> host, `Filters.n_latency` samples behind

What is above passes with the gain that the network gave to the highest band that it hears, and what lasts there as
sibilants do passes whole (`ed_above.h`). C alone does it: files, devices and the LADSPA plugin give the same samples.
"""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_runtime.denoiser import Denoiser, floats
from edge_runtime.errors import Failure
from edge_runtime.native import Block, load_library
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array

FULL, SPEECH = "full", "speech"
BANDS: Final = (FULL, SPEECH)
_LINES: Final = np.dtype([(name, np.float32) for name in ("full", "full_to", "wet", "wet_to", "gate", "gate_to")])


def reason_without(rate_hz: int) -> str:
    """Why sound at this rate cannot keep its full band; "" where it can, and where it has no more than the network
    hears."""
    if rate_hz <= SAMPLE_RATE_HZ:
        return ""
    try:
        library = load_library()
    except ImportError as error:
        return f"the native library is not here ({error})"
    return "" if library.ed_rate_size(rate_hz) else f"{rate_hz} Hz and 16000 Hz have no common grid"


def chosen(asked: str | None, rate_hz: int, where: object = None) -> str:
    """FULL or SPEECH for sound at this rate; None takes the full band where it can. Failure: it was asked for, and
    cannot be kept."""
    reason = reason_without(rate_hz)
    if asked == FULL and reason:
        raise Failure(f"no full band: {reason}", where=where, remedy="--band speech ends at 8 kHz")
    return SPEECH if asked == SPEECH or reason or rate_hz <= SAMPLE_RATE_HZ else FULL


class Filters:
    """Between one rate above 16 kHz and 16 kHz; shared by every `Band` of that rate."""

    def __init__(self, rate_hz: int) -> None:
        """Failure: see `chosen`."""
        chosen(FULL, rate_hz)
        self.library, self.rate_hz = load_library(), rate_hz
        self._block = Block(self.library.ed_rate_size(rate_hz))
        self.address = self._block.address
        self.library.ed_rate_init(self.address, rate_hz)
        self.n_latency: int = self.library.ed_band_latency(self.address)  # host samples, the STFT's with them
        self.n_most: int = self.library.ed_band_most(self.address)  # that one hop becomes


class Band:
    """One channel. Nothing is allocated after it was made; not for two threads at once."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters  # whose memory the library reads
        library = self._library = filters.library
        self._block = Block(library.ed_band_size(filters.address))
        self._band = ctypes.c_void_p(self._block.address)
        library.ed_band_init(self._band, filters.address)
        hop = (ctypes.c_float * HOP_SAMPLES).from_address(library.ed_band_hop(self._band))
        self.hop = np.frombuffer(memoryview(hop), np.float32)  # at 16 kHz
        self._clean = np.zeros(HOP_SAMPLES, np.float32)
        self._lines = np.ones(1, _LINES)
        self._out = np.zeros(filters.n_most, np.float32)
        self._joining = tuple(ctypes.c_void_p(one.ctypes.data) for one in (self._clean, self._lines, self._out))

    def reset(self) -> None:
        """Back to silence."""
        self._library.ed_band_reset(self._band)

    @property
    def n_wanted(self) -> int:
        """Samples that complete the hop."""
        return int(self._library.ed_band_wanted(self._band))

    @property
    def is_whole(self) -> bool:
        """The hop is complete: `join` is next."""
        return bool(self._library.ed_band_is_whole(self._band))

    def push(self, samples: Float32Array) -> int:
        """Take (n,) contiguous until the hop is complete; returns how many were taken."""
        return int(self._library.ed_band_push(self._band, samples.ctypes.data, len(samples)))

    def join(
        self, clean: Float32Array, wet: tuple[float, float] = (1, 1), gate: tuple[float, float] = (1, 1)
    ) -> Float32Array:
        """The denoised hop, (256,) and LATENCY_SAMPLES behind, mixed with the sound as it came along lines from and to
        so `wet` and so loud; (n,) at the rate of `push`, valid until the next."""
        self._clean[:] = clean
        lines = self._lines[0]
        lines["wet"], lines["wet_to"] = wet
        lines["gate"], lines["gate_to"] = gate
        return self._out[: self._library.ed_band_join(self._band, *self._joining)]


class FullBandDenoiser:
    """A denoiser for one channel at a rate above 16 kHz: any number of samples in, those that are ready out."""

    def __init__(self, denoiser: Denoiser, filters: Filters) -> None:
        self._denoiser, self._band = denoiser, Band(filters)
        self._n_latency, self._n_most = filters.n_latency, filters.n_most
        self._hop_out = np.zeros(HOP_SAMPLES, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._denoiser.reset()
        self._band.reset()
        self._n_owed, self._n_preroll = 0, self._n_latency

    def feed(self, samples: npt.ArrayLike) -> Float32Array:
        """Take (n,), as `denoiser.floats` does, and return what is ready."""
        new = np.ascontiguousarray(floats(samples))
        self._n_owed += new.size
        out = [np.empty(0, np.float32)]
        while new.size:
            new = new[self._band.push(new) :]
            if self._band.is_whole:
                self._denoiser.step(self._band.hop, self._hop_out)
                out.append(self._band.join(self._hop_out).copy())
        ready = np.concatenate(out)
        n_early = min(self._n_preroll, ready.size)
        self._n_preroll -= n_early
        self._n_owed -= ready.size - n_early
        return ready[n_early:]

    def flush(self) -> Float32Array:
        """What is still owed, as if silence followed; then `reset`. Total out equals total in."""
        n_owed = self._n_owed
        tail = self.feed(np.zeros(self._n_latency + 2 * self._n_most, np.float32))[:n_owed]
        self.reset()
        return tail
