"""What becomes of sound above 8 kHz: kept in speech, removed in pauses, flat through the seam.

    python tests/rigs/full_band.py --model build/rpi4 --speech SPEECH.wav ... --noise NOISE.wav ... [--snr-db 5 15]

Clean speech and noise, both sampled at 44.1 kHz or above, are mixed and denoised with the full band, as `edge-denoise
file` does. What comes out above 8.4 kHz is what went in times one gain, so the gain of every 4 ms is known, and with
it what was kept of the speech's energy there (where speech is loud; and of that where it is above the noise there,
too) and taken from the noise's (in pauses, after the first second); beside it what the network itself took at 7 kHz.
The seam: clean speech alone, the long-term spectrum of what comes out against what went in, its largest change
between 6.9 and 9 kHz, less the network's own slope from 6 to 7 kHz.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from scipy.signal import butter, sosfiltfilt, welch

from edge_runtime.band import FULL
from edge_runtime.denoiser import Denoiser
from edge_runtime.files.any_rate import AnyRateDenoiser
from edge_runtime.manifest import Artifact, open_artifact

RATE_HZ: Final = 48_000
BLOCK: Final = 192  # 4 ms
ACTIVE_DB, PAUSE_DB, ONSET_S = -40.0, -60.0, 1.0  # of a 64 ms's energy below the loudest

Samples = npt.NDArray[np.float32]


def load(path: Path) -> Samples:
    """The first channel at 48 kHz."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples[:, 0], rate_hz, RATE_HZ), np.float32)


def denoised(artifact: Artifact, samples: Samples) -> Samples:
    stream = AnyRateDenoiser([Denoiser.open(artifact, "native", "int8")], RATE_HZ, FULL)
    return np.concatenate([stream.feed(samples[:, None]), stream.flush()])[:, 0]


def blocks(samples: Samples, low_hz: float, high_hz: float) -> npt.NDArray[np.float64]:
    """Energies of a band, a block each."""
    filtered = sosfiltfilt(butter(8, [low_hz, high_hz], "band", fs=RATE_HZ, output="sos"), samples)
    n = len(filtered) // BLOCK * BLOCK
    return (filtered[:n] ** 2).reshape(-1, BLOCK).sum(1) + 1e-20


def where(speech: Samples) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Blocks in which the speech is loud, and those in its pauses."""
    around = np.convolve(blocks(speech, 60, 20_000), np.ones(16), mode="same")
    level_db = 10 * np.log10(around / around.max())
    late = np.arange(level_db.size) * BLOCK > ONSET_S * RATE_HZ
    return (level_db > ACTIVE_DB) & late, (level_db < PAUSE_DB) & late


def mixed(artifact: Artifact, speech: Samples, noise: Samples, snr_db: float) -> dict[str, Any]:
    """One mixture."""
    active, pause = where(speech)
    power = np.square(speech[np.repeat(active, BLOCK).nonzero()[0]]).mean()
    noise = np.resize(noise, speech.size)
    noise *= np.float32(np.sqrt(power / np.square(noise).mean() * 10 ** (-snr_db / 10)))
    out = denoised(artifact, speech + noise)
    top, seven = (8_400, 20_000), (6_750, 7_250)
    gains = blocks(out, *top) / blocks(speech + noise, *top)
    speech_top, noise_top = blocks(speech, *top), blocks(noise, *top)
    row = {"snr_db": snr_db, "kept": float((gains * speech_top)[active].sum() / speech_top[active].sum())}
    if (audible := active & (speech_top > noise_top)).any():
        row["kept_above_noise"] = float((gains * speech_top)[audible].sum() / speech_top[audible].sum())
    before, after = blocks(speech + noise, *seven), blocks(out, *seven)
    row["network_kept_at_7_khz"] = float((after * blocks(speech, *seven) / before)[active].sum()
                                         / blocks(speech, *seven)[active].sum())  # fmt: skip
    if pause.any():
        row["removed_db"] = float(10 * np.log10(noise_top[pause].sum() / (gains * noise_top)[pause].sum()))
        row["network_removed_at_7_khz_db"] = float(10 * np.log10(before[pause].sum() / after[pause].sum()))
    return row


def seam(artifact: Artifact, speech: Samples) -> dict[str, float]:
    """Of clean speech: the gain from 6 to 7 kHz, and how far it is from that up to 9 kHz, dB."""
    frequency_hz, before = welch(speech, RATE_HZ, nperseg=4096)
    _, after = welch(denoised(artifact, speech), RATE_HZ, nperseg=4096)
    bands = [(6_000, 7_000), *((low, low + 300) for low in range(6_900, 9_000, 300))]
    inside = [(frequency_hz >= low) & (frequency_hz < high) for low, high in bands]
    gains_db = [float(10 * np.log10(after[one].sum() / before[one].sum())) for one in inside]
    return {"gain_db": gains_db[0], "largest_step_db": max(abs(b - a) for a, b in pairwise(gains_db[1:]))}


def main() -> None:
    parser = argparse.ArgumentParser(description="What becomes of sound above 8 kHz.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--speech", type=Path, nargs="+", required=True)
    parser.add_argument("--noise", type=Path, nargs="+", required=True)
    parser.add_argument("--snr-db", type=float, nargs="+", default=[5.0, 15.0])
    args = parser.parse_args()
    artifact = open_artifact(args.model)
    for path in args.speech:
        speech = load(path)
        print(json.dumps({"speech": path.name, "seam": seam(artifact, speech)}))
        for noise_path in args.noise:
            noise = load(noise_path)
            for snr_db in args.snr_db:
                row = mixed(artifact, speech, noise, snr_db)
                print(json.dumps({"speech": path.name, "noise": noise_path.name, **row}))


if __name__ == "__main__":
    main()
