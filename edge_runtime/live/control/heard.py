"""The last hops before and after, for a picture: the audio thread copies them, whoever asks computes their spectra."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array

N_HOPS: Final = 64  # a second
N_BANDS: Final = 48  # of equal width, to 8 kHz
FLOOR_DBFS: Final = -110


class Heard:
    """One writer, the audio thread; any number of readers. A reader that is a second late loses what it did not see."""

    def __init__(self) -> None:
        self._hops = np.zeros((N_HOPS, 2, HOP_SAMPLES), np.float32)
        self._window = np.hanning(HOP_SAMPLES + 1)[:-1].astype(np.float32)
        self.n = 0  # hops so far

    def push(self, noisy: Float32Array, mixed: Float32Array) -> None:
        """The hop that is heard, as it came and as it goes, (256,)."""
        place = self._hops[self.n % N_HOPS]
        place[0], place[1] = noisy, mixed
        self.n += 1

    def since(self, n_seen: int) -> dict[str, Any]:
        """The spectra of the hops after the first `n_seen`: dBFS of N_BANDS, before and after."""
        n = self.n
        first = max(0, n - N_HOPS + 1, min(n_seen, n))
        numbers = np.arange(first, n)
        spectra = np.fft.rfft(self._hops[numbers % N_HOPS] * self._window)[..., 1:-1]
        power = np.abs(spectra) ** 2 / (HOP_SAMPLES * float(self._window @ self._window)) * 2
        edges = np.linspace(0, power.shape[-1], N_BANDS + 1).astype(int)[:-1]
        bands = np.add.reduceat(power, edges, axis=-1) if len(numbers) else np.zeros((0, 2, N_BANDS))
        levels = np.maximum(FLOOR_DBFS, 10 * np.log10(bands + 1e-12)).round().astype(int)
        return {
            "n_hops": n,
            "highest_hz": SAMPLE_RATE_HZ // 2,
            "before_dbfs": levels[:, 0].tolist(),
            "after_dbfs": levels[:, 1].tolist(),
        }
