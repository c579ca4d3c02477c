"""libasound.so.2 and the prototypes of what is called in it; `alsa` is its face."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from functools import cache
from typing import Any, Final

from edge_runtime.errors import Failure

LIBRARY: Final = "libasound.so.2"
_MOST_SAID_BYTES: Final = 1 << 16

# function -> arguments; every one returns int unless _RESULTS says otherwise
_PCM, _PARAMS, _U, _UL = c_void_p, c_void_p, POINTER(c_uint), POINTER(c_ulong)
_PROTOTYPES: Final[dict[str, tuple[Any, ...]]] = {
    "snd_strerror": (c_int,),
    "snd_asoundlib_version": (),
    "snd_lib_error_set_handler": (c_void_p,),
    "snd_config_update": (),
    "snd_device_name_hint": (c_int, c_char_p, POINTER(POINTER(c_void_p))),
    "snd_device_name_get_hint": (c_void_p, c_char_p),
    "snd_device_name_free_hint": (POINTER(c_void_p),),
    "snd_pcm_open": (POINTER(c_void_p), c_char_p, c_int, c_int),
    "snd_pcm_hw_params_malloc": (POINTER(c_void_p),),
    "snd_pcm_hw_params_free": (_PARAMS,),
    "snd_pcm_hw_params_any": (_PCM, _PARAMS),
    "snd_pcm_hw_params": (_PCM, _PARAMS),
    "snd_pcm_hw_params_set_access": (_PCM, _PARAMS, c_int),
    "snd_pcm_hw_params_test_format": (_PCM, _PARAMS, c_int),
    "snd_pcm_hw_params_set_format": (_PCM, _PARAMS, c_int),
    "snd_pcm_hw_params_set_rate_resample": (_PCM, _PARAMS, c_uint),
    "snd_pcm_hw_params_test_rate": (_PCM, _PARAMS, c_uint, c_int),
    "snd_pcm_hw_params_set_rate": (_PCM, _PARAMS, c_uint, c_int),
    "snd_pcm_hw_params_set_rate_near": (_PCM, _PARAMS, _U, POINTER(c_int)),
    "snd_pcm_hw_params_set_channels": (_PCM, _PARAMS, c_uint),
    "snd_pcm_hw_params_set_channels_near": (_PCM, _PARAMS, _U),
    "snd_pcm_hw_params_set_period_size_near": (_PCM, _PARAMS, _UL, POINTER(c_int)),
    "snd_pcm_hw_params_set_buffer_size_near": (_PCM, _PARAMS, _UL),
    "snd_pcm_hw_params_get_rate_min": (_PARAMS, _U, POINTER(c_int)),
    "snd_pcm_hw_params_get_rate_max": (_PARAMS, _U, POINTER(c_int)),
    "snd_pcm_hw_params_get_channels_min": (_PARAMS, _U),
    "snd_pcm_hw_params_get_channels_max": (_PARAMS, _U),
    "snd_pcm_hw_params_get_period_size_min": (_PARAMS, _UL, POINTER(c_int)),
    "snd_pcm_hw_params_get_period_size_max": (_PARAMS, _UL, POINTER(c_int)),
    "snd_pcm_hw_params_get_buffer_size_min": (_PARAMS, _UL),
    "snd_pcm_hw_params_get_buffer_size_max": (_PARAMS, _UL),
    "snd_pcm_sw_params_malloc": (POINTER(c_void_p),),
    "snd_pcm_sw_params_free": (_PARAMS,),
    "snd_pcm_sw_params_current": (_PCM, _PARAMS),
    "snd_pcm_sw_params_set_start_threshold": (_PCM, _PARAMS, c_ulong),
    "snd_pcm_sw_params_set_avail_min": (_PCM, _PARAMS, c_ulong),
    "snd_pcm_sw_params": (_PCM, _PARAMS),
    "snd_pcm_readi": (_PCM, c_void_p, c_ulong),
    "snd_pcm_writei": (_PCM, c_void_p, c_ulong),
    "snd_pcm_wait": (_PCM, c_int),
    "snd_pcm_avail": (_PCM,),
    "snd_pcm_delay": (_PCM, POINTER(c_long)),
    "snd_pcm_prepare": (_PCM,),
    "snd_pcm_start": (_PCM,),
    "snd_pcm_drop": (_PCM,),
    "snd_pcm_close": (_PCM,),
}
_RESULTS: Final = {
    "snd_strerror": c_char_p,
    "snd_asoundlib_version": c_char_p,
    "snd_device_name_get_hint": c_void_p,
    "snd_pcm_hw_params_free": None,
    "snd_pcm_sw_params_free": None,
    "snd_pcm_readi": c_long,
    "snd_pcm_writei": c_long,
    "snd_pcm_avail": c_long,
}

_ErrorHandler = ctypes.CFUNCTYPE(None, c_char_p, c_int, c_char_p, c_int, c_char_p)


# libasound would print to standard error at any time. No Python function can print for it: a handler is handed a format
# and a C argument list. So it is silent, but where somebody is `listening`.
_SAY_NOTHING: Final = _ErrorHandler(lambda *_message: None)


@cache
def load_library() -> ctypes.CDLL:
    """libasound with its prototypes. Failure: it is not installed."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        remedy = "install it (Debian: apt install libasound2)"
        raise Failure(f"ALSA needs {LIBRARY}, not found ({error})", remedy=remedy) from error
    for name, arguments in _PROTOTYPES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, _RESULTS.get(name, c_int)
    library.free.argtypes = (c_void_p,)  # the C library's, through its own symbols
    library.snd_lib_error_set_handler(ctypes.cast(_SAY_NOTHING, c_void_p))
    return library


@contextmanager
def listening() -> Iterator[Callable[[], str]]:
    """Hands out what tells, within the body, all that libasound has said so far: see `words`. Standard error of the
    whole process goes into memory meanwhile, the chatter of sound servers' libraries with it: for short moments."""
    library = load_library()
    try:
        kept = os.dup(2)
    except OSError:  # started with standard error closed
        yield str
        return
    heard = os.memfd_create("libasound")
    os.dup2(heard, 2)
    library.snd_lib_error_set_handler(None)  # its own, which prints
    try:
        yield lambda: os.pread(heard, _MOST_SAID_BYTES, 0).decode(errors="replace")
    finally:
        library.snd_lib_error_set_handler(ctypes.cast(_SAY_NOTHING, c_void_p))
        os.dup2(kept, 2)
        os.close(kept)
        os.close(heard)


def library_version() -> str:
    """Version of libasound, "1.2.8". Failure: as `load_library`."""
    return load_library().snd_asoundlib_version().decode()
