"""A LADSPA host in ctypes: instantiates a plugin, feeds it blocks of any sizes, sets its controls between them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.stft import Float32Array

STRENGTH, LIMIT_DB, BYPASS, LATENCY, FULL_BAND = range(5)
N_CONTROLS = 5
OFF_DB = 100.0

_handle, _count = ctypes.c_void_p, ctypes.c_ulong


class Descriptor(ctypes.Structure):
    """LADSPA_Descriptor."""

    _fields_ = (
        ("id", _count),
        ("label", ctypes.c_char_p),
        ("properties", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("maker", ctypes.c_char_p),
        ("copyright", ctypes.c_char_p),
        ("n_ports", _count),
        ("port_kinds", ctypes.POINTER(ctypes.c_int)),
        ("port_names", ctypes.POINTER(ctypes.c_char_p)),
        ("port_ranges", _handle),
        ("implementation", _handle),
        ("instantiate", ctypes.CFUNCTYPE(_handle, _handle, _count)),
        ("connect_port", ctypes.CFUNCTYPE(None, _handle, _count, _handle)),
        ("activate", ctypes.CFUNCTYPE(None, _handle)),
        ("run", ctypes.CFUNCTYPE(None, _handle, _count)),
        ("run_adding", _handle),
        ("set_run_adding_gain", _handle),
        ("deactivate", _handle),
        ("cleanup", ctypes.CFUNCTYPE(None, _handle)),
    )


def descriptors(library: Path) -> list[Descriptor]:
    """Every plugin of a library."""
    loaded = ctypes.CDLL(str(library))
    loaded.ladspa_descriptor.restype = ctypes.POINTER(Descriptor)
    found: list[Descriptor] = []
    while pointer := loaded.ladspa_descriptor(_count(len(found))):
        found.append(pointer.contents)
    return found


class Plugin:
    """One instance, activated. ValueError: it refuses the rate or has no weights."""

    def __init__(self, library: Path, rate_hz: int, label: str = "edge_denoise", *, full_band: bool = True) -> None:
        (self._type,) = (each for each in descriptors(library) if each.label == label.encode())
        self.n_channels = (int(self._type.n_ports) - N_CONTROLS) // 2
        self.controls = np.array([1, OFF_DB, 0, -1, float(full_band)], np.float32)
        self._instance: Any = self._type.instantiate(ctypes.addressof(self._type), rate_hz)
        if not self._instance:
            raise ValueError(f"no instance at {rate_hz} Hz")
        for index in range(N_CONTROLS):
            self._connect(2 * self.n_channels + index, self.controls[index:])
        self.activate()

    def activate(self) -> None:
        self._type.activate(self._instance)

    def close(self) -> None:
        self._type.cleanup(self._instance)

    @property
    def latency_samples(self) -> int:
        return int(self.controls[LATENCY])

    def run(self, block: Float32Array, *, in_place: bool = False) -> Float32Array:
        """(n,) or (n_channels, n) in and out."""
        source = np.array(block, np.float32).reshape(self.n_channels, -1)
        target = source if in_place else np.full_like(source, np.nan)
        for c in range(self.n_channels):
            self._connect(c, source[c])
            self._connect(self.n_channels + c, target[c])
        self._type.run(self._instance, source.shape[1])
        return target.reshape(np.shape(block))

    def _connect(self, port: int, memory: Float32Array) -> None:
        self._type.connect_port(self._instance, port, memory.ctypes.data)


def processed(plugin: Plugin, samples: Float32Array, block_sizes: Iterable[int]) -> Float32Array:
    """(n,) through blocks of these sizes, the last one repeated to the end."""
    out, start, size = [], 0, samples.size
    sizes = iter(block_sizes)
    while start < samples.size:
        size = next(sizes, size)
        out.append(plugin.run(samples[start : start + size]))
        start += size
    return np.concatenate(out)
