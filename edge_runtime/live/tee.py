"""Both sides of a live stream into files: PREFIX-raw.wav and PREFIX-clean.wav, 16 kHz, 32-bit float, aligned.

The audio thread copies each hop into a ring of fixed memory and goes on; another thread writes. A Tee is made when the
devices are open: a command that fails leaves no files. When the disk is full, recording stops with one line and the
sound goes on.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.live.float_wav import FloatWav
from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES, SAMPLE_RATE_HZ, Float32Array

RING_HOPS: Final = 625  # 10 s: what a slow card may take to write
_POLL_S: Final = 0.1
_UPDATE_HOPS: Final = 62  # a second: what a killed recording may lack


def free_paths(prefix: Path) -> list[Path]:
    """Where both sides go. Failure: something is there, or their folder is not."""
    if not prefix.name:
        raise Failure("a folder, no name of a recording", where=prefix, remedy=f"give --tee {prefix / 'take1'}")
    paths = [prefix.with_name(f"{prefix.name}-{side}.wav") for side in ("raw", "clean")]
    for path in paths:
        if os.path.lexists(path):
            raise Failure("exists already", where=path, remedy="choose another --tee")
        if not path.parent.is_dir():
            raise Failure("no such folder", where=path.parent, remedy="make it first")
    return paths


class Recording:
    """What a session records: a Tee from when the devices are open, nothing where nobody asked for it."""

    def __init__(self, prefix: Path | None, n_streams: int) -> None:
        """Failure, before anything is opened: see `free_paths`."""
        self._prefix, self._n_streams = prefix, n_streams
        self._tee: Tee | None = None
        if prefix is not None:
            free_paths(prefix)

    def open(self) -> Tee | None:
        """The devices are open. Failure: the files cannot be made."""
        if self._prefix is not None:
            self._tee = Tee(self._prefix, self._n_streams)
        return self._tee

    @property
    def line(self) -> str:
        """For people; "" before it begins."""
        return self._tee.line if self._tee else ""

    def close(self) -> None:
        """Write what is left."""
        if self._tee:
            self._tee.close()


class Tee:
    """A Sink of the live chain. `line` says what became of it."""

    def __init__(self, prefix: Path, n_streams: int) -> None:
        """Failure: the files exist, or cannot be made; none is left then."""
        self.paths = free_paths(prefix)
        self.n_lost = 0  # hops for which the ring had no room
        self.failure = ""
        self._ring = np.zeros((RING_HOPS, 2, n_streams, HOP_SAMPLES), np.float32)
        self._n_in = self._n_out = 0  # hops ever put in, ever written; each counted up by one thread
        self._n_early = LATENCY_SAMPLES  # of the clean side: they come before the first raw sample
        self._sinks: list[FloatWav] = []
        self._ends = False
        self._thread = threading.Thread(target=self._write_all, name="tee", daemon=True)
        try:
            for path in self.paths:
                self._sinks.append(FloatWav(path, SAMPLE_RATE_HZ, n_streams))
        except Failure:
            for made in self._sinks:
                made.remove()
            raise
        self._thread.start()

    def push(self, noisy: Float32Array, clean: Float32Array) -> None:
        """Take both sides of one hop, (n_streams, 256) each; never waits."""
        if self.failure:
            return
        if self._n_in - self._n_out >= RING_HOPS:
            self.n_lost += 1
            return
        slot = self._ring[self._n_in % RING_HOPS]
        slot[0], slot[1] = noisy, clean
        self._n_in += 1

    def close(self) -> None:
        """Write what is left and close the files; the last LATENCY_SAMPLES of the raw side have no clean ones.

        A file without a single sample is removed.
        """
        self._ends = True
        self._thread.join()

    @property
    def line(self) -> str:
        """For people: where it goes, or why it stopped."""
        if self.failure:
            return f"recording stopped: {self.failure}"
        lost = f", {self.n_lost} hops lost: the disk is too slow" if self.n_lost else ""
        return f"recording to {self.paths[0]} and {self.paths[1].name}{lost}"

    def _write_all(self) -> None:
        """The writing thread looks ten times a second: to be woken, the audio thread would have to take a lock."""
        pause = threading.Event()
        try:
            while not (self._ends and self._n_out == self._n_in):
                if self._n_out == self._n_in:
                    pause.wait(_POLL_S)
                else:
                    self._write_hop(self._ring[self._n_out % RING_HOPS])
                    self._n_out += 1
        except Failure as failure:
            self.failure = str(failure)
        finally:
            self._close()

    def _write_hop(self, slot: Float32Array) -> None:
        raw, clean = slot[0].T, slot[1].T[self._n_early :]
        self._n_early = max(0, self._n_early - HOP_SAMPLES)
        for sink, side in zip(self._sinks, (raw, clean), strict=True):
            sink.write(side)
            if self._n_out % _UPDATE_HOPS == 0:
                sink.update()

    def _close(self) -> None:
        for sink in self._sinks:
            try:
                sink.close() if sink.n_samples else sink.remove()
            except Failure as failure:
                self.failure = self.failure or str(failure)
            except OSError as error:
                self.failure = self.failure or f"{sink.path}: cannot be finished ({error.strerror})"
