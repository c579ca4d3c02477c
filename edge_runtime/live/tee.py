"""Both sides of a live stream into files: PREFIX-raw.wav and PREFIX-clean.wav, 16 kHz, 32-bit float, aligned.

The audio thread copies each hop into a ring of fixed memory and goes on; another thread writes. When the disk is full,
recording stops with one line and the sound goes on.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.files.sound_file import CONTAINERS, create, why_unwritten, write_block
from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES, SAMPLE_RATE_HZ, Float32Array
from edge_runtime.whole_file import unwritten

RING_HOPS: Final = 625  # 10 s: what a slow card may take to write
_POLL_S: Final = 0.1


class Tee:
    """A Sink of the live chain. `line` says what became of it."""

    def __init__(self, prefix: Path, n_streams: int) -> None:
        """Failure: the files exist, or cannot be made."""
        self.paths = [prefix.with_name(f"{prefix.name}-{side}.wav") for side in ("raw", "clean")]
        self.n_lost = 0  # hops for which the ring had no room
        self.failure = ""
        self._ring = np.zeros((RING_HOPS, 2, n_streams, HOP_SAMPLES), np.float32)
        self._n_in = self._n_out = 0  # hops ever put in, ever written; each counted up by one thread
        self._n_early = LATENCY_SAMPLES  # of the clean side: they come before the first raw sample
        self._sinks: list[Any] = []
        self._ends = False
        self._thread = threading.Thread(target=self._write_all, name="tee", daemon=True)
        self._create(n_streams)

    def _create(self, n_streams: int) -> None:
        made: list[Path] = []
        try:
            for path in self.paths:
                _make(path)
                made.append(path)
                self._sinks.append(create(path, path, CONTAINERS[".wav"], "FLOAT", SAMPLE_RATE_HZ, n_streams))
        except Failure:
            self._close()
            for path in made:
                path.unlink(missing_ok=True)
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

        Files that hold nothing are removed: the device that was to be recorded could not be opened.
        """
        self._ends = True
        self._thread.join()
        if self._n_out == 0:
            for path in self.paths:
                path.unlink(missing_ok=True)

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
        for sink, path, side in zip(self._sinks, self.paths, (raw, clean), strict=True):
            write_block(sink, path, side)

    def _close(self) -> None:
        for sink, path in zip(self._sinks, self.paths, strict=False):
            try:
                sink.close()
            except Exception:  # libsndfile's, at a full disk: the header could not be updated
                self.failure = self.failure or str(why_unwritten(path, path))


def _make(path: Path) -> None:
    """A new file, and no link that somebody put there. Failure: something is there, or it cannot be made."""
    if not path.parent.is_dir():
        raise Failure("no such folder", where=path.parent, remedy="make it first")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        raise Failure("exists already", where=path, remedy="choose another --tee") from None
    except OSError as error:
        raise unwritten(error, path) from error
