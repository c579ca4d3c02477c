"""A queue of samples in fixed memory, several rows at once."""

from __future__ import annotations

import numpy as np

from edge_runtime.stft import Float32Array


class Fifo:
    """Rows of float32 samples; nothing is allocated after it was made. Holds `n` of at most `capacity` columns."""

    def __init__(self, n_rows: int, capacity: int) -> None:
        self.n = 0
        self.capacity = capacity
        self._data = np.zeros((n_rows, 3 * capacity), np.float32)
        self._start = 0

    def clear(self) -> None:
        """Empty it."""
        self.n = self._start = 0

    def push(self, block: Float32Array) -> None:
        """Append (n_rows, n). ValueError: it would hold more than `capacity`."""
        self.room(block.shape[1])[:] = block

    def push_silence(self, n: int) -> None:
        """Append n zeros a row."""
        self.room(n).fill(0)

    def room(self, n: int) -> Float32Array:
        """The next n columns, now part of the queue, to be written by the caller: (n_rows, n)."""
        if self.n + n > self.capacity:
            raise ValueError(f"a queue of {self.capacity} samples cannot hold {self.n} + {n}")
        if self._start + self.n + n > self._data.shape[1]:
            self._data[:, : self.n] = self.view(self.n)  # start >= 2 capacity >= 2 n: they do not overlap
            self._start = 0
        end = self._start + self.n
        self.n += n
        return self._data[:, end : end + n]

    def view(self, n: int) -> Float32Array:
        """The oldest n columns, (n_rows, n), valid until the next push."""
        return self._data[:, self._start : self._start + n]

    def drop(self, n: int) -> None:
        """Forget the oldest n columns."""
        self.n -= n
        self._start += n

    def pop(self, out: Float32Array) -> None:
        """Move the oldest columns into `out`, (n_rows, n)."""
        n = out.shape[1]
        out[:] = self.view(n)
        self.drop(n)
