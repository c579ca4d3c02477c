"""ALSA through ctypes: sound devices by name, read and written into memory that the caller owns.

    with open_pcm("hw:0", CAPTURE, Wish(n_channels=1)) as pcm:
        block = pcm.new_block(256)
        pcm.start()
        outcome = pcm.read(block)                 # Outcome.DONE, XRUN, SUSPENDED, DISCONNECTED or TIMEOUT

libasound.so.2 lies on every Raspberry Pi OS and Debian desktop; nothing is compiled and no header is needed. A call
releases the interpreter's lock. Whatever a device may do while it runs is an Outcome, never an exception; what keeps it
from being opened is a Failure. PCMs are opened non-blocking: a read or write waits at most its own timeout.

ALSA calls one sample of every channel a frame; here it is a `pcm_frame`, because a frame is a column of the STFT.
Numbers and order of the constants: alsa/pcm.h of alsa-lib 1.2, the library's stable ABI.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack
from ctypes import POINTER, byref, c_uint, c_ulong, c_void_p
from itertools import count, takewhile
from types import TracebackType
from typing import Any, Final, NamedTuple

from edge_runtime.alsa import words
from edge_runtime.alsa.library import listening, load_library
from edge_runtime.alsa.pcm import (
    CAPTURE,
    FORMATS,
    PLAYBACK,
    Direction,
    Pcm,
    PcmConfig,
    SampleFormat,
    Unfit,
    Wish,
)
from edge_runtime.errors import Failure

RATES_HZ: Final = (16_000, 48_000, 32_000, 96_000, 44_100, 8_000, 11_025, 22_050, 24_000, 88_200, 176_400, 192_000)

_NONBLOCK: Final = 1
_INTERLEAVED: Final = 3  # SND_PCM_ACCESS_RW_INTERLEAVED
_EVERY_CARD: Final = -1
_NEVER: Final = 2**31 - 1  # beyond every buffer, within the ring's boundary, which is near LONG_MAX (32-bit too)


class PcmDevice(NamedTuple):
    """A name that can be opened. `directions` holds one or both."""

    name: str
    description: str
    directions: tuple[Direction, ...]


class Capabilities(NamedTuple):
    """What a device can do, bounds included; `rates_hz` are those of RATES_HZ."""

    rates_hz: tuple[int, ...]
    rate_range_hz: tuple[int, int]
    formats: tuple[str, ...]
    n_channels_range: tuple[int, int]
    period_range_pcm_frames: tuple[int, int]
    buffer_range_pcm_frames: tuple[int, int]


def open_pcm(device: str, direction: Direction, wish: Wish | None = None) -> Pcm:
    """Open and configure a device, ready for `start`. Failure: no such device, busy, no right, or not as wished."""
    with _Configuring(device, direction) as setting:
        return setting.configured(wish or Wish())


def capabilities(device: str, direction: Direction) -> Capabilities:
    """What the device can do. Failure: it cannot be opened."""
    with _Configuring(device, direction) as setting:
        return setting.capabilities()


def list_devices() -> list[PcmDevice]:
    """The PCMs that libasound's configuration names for users: cards, plugins, sound servers.

    Failure: it cannot be read.
    """
    library = load_library()
    hints = POINTER(c_void_p)()
    check_configuration()
    with listening() as said:
        _check_configuration(library, library.snd_device_name_hint(_EVERY_CARD, b"pcm", byref(hints)), said())
    try:
        return [_hinted(library, hint) for hint in takewhile(bool, map(hints.__getitem__, count()))]
    finally:
        library.snd_device_name_free_hint(hints)


def check_configuration() -> None:
    """Failure: a file of libasound's configuration, ~/.asoundrc for one, cannot be read; it then opens nothing."""
    library = load_library()
    with listening() as said:
        _check_configuration(library, library.snd_config_update(), said())


def _check_configuration(library: ctypes.CDLL, status: int, printed: str) -> None:
    if status < 0:
        what = f"cannot be read ({_reason(library, status, printed, '')})"
        raise Failure(what, where="the configuration of ALSA", remedy=words.remedy(printed, -status, "", CAPTURE))


def _reason(library: ctypes.CDLL, status: int, printed: str, device: str) -> str:
    """The number in words, and libasound's own."""
    number, own = library.snd_strerror(status).decode(errors="replace"), words.cause(printed, device)
    return f"{number}: {own}" if own else number


def _hinted(library: ctypes.CDLL, hint: int) -> PcmDevice:
    one = {"Input": (CAPTURE,), "Output": (PLAYBACK,)}.get(_hint(library, hint, b"IOID"), (CAPTURE, PLAYBACK))
    return PcmDevice(_hint(library, hint, b"NAME"), " ".join(_hint(library, hint, b"DESC").split()), one)


def _hint(library: ctypes.CDLL, hint: Any, key: bytes) -> str:
    address = library.snd_device_name_get_hint(hint, key)
    if not address:
        return ""
    text = ctypes.string_at(address).decode(errors="replace")
    library.free(address)
    return text


class _Configuring:
    """A device between open and `snd_pcm_hw_params`; closed again unless `configured` made a Pcm of it."""

    def __init__(self, device: str, direction: Direction) -> None:
        self._library = load_library()
        self._device, self._direction = device, direction
        self._pcm, self._params = c_void_p(), c_void_p()
        self._handed_over = False
        self._listening = ExitStack()

    def __enter__(self) -> _Configuring:
        library = self._library
        name = os.fsencode(self._device)
        self._said = self._listening.enter_context(listening())
        try:
            self._check_opened(library.snd_pcm_open(byref(self._pcm), name, self._direction.value, _NONBLOCK))
            library.snd_pcm_hw_params_malloc(byref(self._params))
            self._start_over()
            self._set("interleaved samples", "set_access", _INTERLEAVED)
        except Failure:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        if self._params:
            self._library.snd_pcm_hw_params_free(self._params)
        if self._pcm and not self._handed_over:
            self._library.snd_pcm_close(self._pcm)
        self._listening.close()

    def configured(self, wish: Wish) -> Pcm:
        """The device as wished, or as near as it comes where the wish leaves room."""
        sample_format = self._choose_format(wish.sample_format)
        rate_hz = self._choose_rate(wish.rate_hz)
        n_channels = self._choose_channels(wish.n_channels, wish.n_channels_near)
        period = self._near("set_period_size_near", c_ulong(round(wish.period_ms * rate_hz / 1000)), None)
        n_buffer = max(period * wish.n_periods, round(wish.least_buffer_ms * rate_hz / 1000))
        buffer = self._near("set_buffer_size_near", c_ulong(n_buffer))
        self._check(f"refuses {sample_format.name}, {n_channels} x {rate_hz} Hz", self._call("snd_pcm_hw_params"))
        self._software_params(period)
        self._handed_over = True
        config = PcmConfig(self._device, self._direction, rate_hz, sample_format, n_channels, period, buffer)
        return Pcm(self._library, self._pcm, config)

    def capabilities(self) -> Capabilities:
        """Ranges before anything is chosen."""
        rates_hz = tuple(rate for rate in RATES_HZ if self._can("test_rate", rate, 0))
        formats = tuple(name for name, row in FORMATS.items() if self._can("test_format", row.number))
        return Capabilities(
            rates_hz,
            self._range("rate", c_uint, None),
            formats,
            self._range("channels", c_uint),
            self._range("period_size", c_ulong, None),
            self._range("buffer_size", c_ulong),
        )

    def _start_over(self) -> None:
        self._check("has no configuration", self._call("snd_pcm_hw_params_any"))
        self._call("snd_pcm_hw_params_set_rate_resample", 0)  # plugins would resample linearly: let us see real rates

    def _choose_format(self, wished: str | None) -> SampleFormat:
        names = [name for name, row in FORMATS.items() if self._can("test_format", row.number)]
        name = wished or next(iter(names), None)
        if name not in names:
            what = f"has no {wished} samples" if wished else f"has none of {', '.join(FORMATS)}"
            raise self._failure(what, f"choose one of: {', '.join(names)}" if names else "try plughw: instead of hw:")
        self._set(name, "set_format", FORMATS[name].number)
        return FORMATS[name]

    def _choose_rate(self, wished_hz: int | None) -> int:
        rates_hz = [rate for rate in ((wished_hz,) if wished_hz else RATES_HZ) if self._can("test_rate", rate, 0)]
        if rates_hz:
            self._set(f"{rates_hz[0]} Hz", "set_rate", rates_hz[0], 0)
            return rates_hz[0]
        if wished_hz:
            low_hz, high_hz = self._range("rate", c_uint, None)
            remedy = "leave --rate out: the sound is converted" if low_hz < high_hz else f"it runs at {low_hz} Hz only"
            raise self._failure(f"cannot run at {wished_hz} Hz ({low_hz} to {high_hz} Hz)", remedy)
        return self._near("set_rate_near", c_uint(RATES_HZ[0]), None)

    def _choose_channels(self, wished: int | None, near: int) -> int:
        if wished is None:
            return self._near("set_channels_near", c_uint(near))
        fewest, most = self._range("channels", c_uint)
        self._set(f"{wished} channels", "set_channels", wished, remedy=f"it has {fewest} to {most}")
        return wished

    def _software_params(self, period_pcm_frames: int) -> None:
        """Start only when told to; wake when a period can be moved."""
        library, params = self._library, c_void_p()
        library.snd_pcm_sw_params_malloc(byref(params))
        try:
            library.snd_pcm_sw_params_current(self._pcm, params)
            library.snd_pcm_sw_params_set_start_threshold(self._pcm, params, _NEVER)
            library.snd_pcm_sw_params_set_avail_min(self._pcm, params, period_pcm_frames)
            self._check("refuses its thresholds", library.snd_pcm_sw_params(self._pcm, params))
        finally:
            library.snd_pcm_sw_params_free(params)

    def _call(self, function: str, *arguments: Any) -> int:
        return getattr(self._library, function)(self._pcm, self._params, *arguments)

    def _can(self, test: str, *arguments: int) -> bool:
        return self._call(f"snd_pcm_hw_params_{test}", *arguments) == 0

    def _set(self, what: str, setter: str, *arguments: int, remedy: str = "see `edge-denoise devices`") -> None:
        self._check(f"has no {what}", self._call(f"snd_pcm_hw_params_{setter}", *arguments), remedy)

    def _near(self, setter: str, value: Any, *direction: None) -> int:
        self._check("has no configuration", self._call(f"snd_pcm_hw_params_{setter}", byref(value), *direction))
        return int(value.value)

    def _range(self, what: str, kind: Any, *direction: None) -> tuple[int, int]:
        low, high = kind(), kind()
        for bound, value in (("min", low), ("max", high)):
            getattr(self._library, f"snd_pcm_hw_params_get_{what}_{bound}")(self._params, byref(value), *direction)
        return low.value, high.value

    def _check_opened(self, status: int) -> None:
        """Failure: it is not here now, or is busy; Unfit: its definition is at fault."""
        try:
            self._check("cannot be opened", status)
        except Unfit as unfit:
            if words.is_undefined(self._said(), -status):
                raise
            raise Failure(unfit.what, remedy=unfit.remedy) from None

    def _check(self, what: str, status: int, remedy: str | None = None) -> None:
        if status < 0:
            printed = self._said()
            helps = words.remedy(printed, -status, self._device, self._direction) or remedy
            raise self._failure(f"{what} ({_reason(self._library, status, printed, self._device)})", helps)

    def _failure(self, what: str, remedy: str | None) -> Unfit:
        return Unfit(f"{self._direction} {what}", where=self._device, remedy=remedy)
