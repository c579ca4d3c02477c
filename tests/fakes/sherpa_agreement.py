"""How far sherpa-onnx's streaming denoiser is from the same model in the installed ONNX Runtime, in dB.

    python sherpa_agreement.py MODEL.onnx SAMPLES.npy        prints one number

Both hear the same spectra: sherpa-onnx transforms in float64 and so does this, for an 8-bit model answers to the last
bit of its input. A process of its own, because sherpa-onnx ends the process when it dislikes a model.
"""

from __future__ import annotations

import sys

import numpy as np
import one_thread
import sherpa_onnx

HOP, WINDOW = 256, 512
CHUNK = 1000  # samples, no multiple of a hop


def sherpa(model: str, samples: np.ndarray) -> np.ndarray:
    """(n,) samples through sherpa-onnx."""
    config = sherpa_onnx.OnlineSpeechDenoiserConfig()
    config.model.gtcrn.model, config.model.num_threads = model, 1
    denoiser = sherpa_onnx.OnlineSpeechDenoiser(config)
    chunks = [samples[i : i + CHUNK].tolist() for i in range(0, len(samples), CHUNK)]
    heard = [*(denoiser.run(chunk, 16_000).samples for chunk in chunks), denoiser.flush().samples]
    return np.concatenate([np.asarray(part, np.float64) for part in heard])


def runtime(model: str, samples: np.ndarray) -> np.ndarray:
    """(n,) samples through ONNX Runtime, caches carried by name."""
    session = one_thread.session(model)
    caches = {port.name: np.zeros(port.shape, np.float32) for port in session.get_inputs()[1:]}
    angle = 2 * np.pi * np.outer(np.arange(HOP + 1), np.arange(WINDOW)) / WINDOW
    window = np.sqrt((0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32))
    past, tail, out = np.zeros(HOP, np.float32), np.zeros(HOP), []
    for hop in np.concatenate([samples, np.zeros(-len(samples) % HOP + HOP, np.float32)]).reshape(-1, HOP):
        frame = (np.concatenate([past, hop]) * window).astype(np.float64)
        parts = [np.cumsum(wave * frame, 1)[:, -1] for wave in (np.cos(angle), -np.sin(angle))]  # summed in order
        spectrum = np.stack(parts, -1).astype(np.float32)
        enhanced, *new = session.run(None, {"mix": spectrum[None, :, None], **caches})
        caches, past = dict(zip(caches, new, strict=True)), hop
        made = np.fft.irfft(enhanced[0, :, 0, 0].astype(np.float64) + 1j * enhanced[0, :, 0, 1], WINDOW) * window
        out.append(tail + made[:HOP])
        tail = made[HOP:]
    return np.concatenate(out)[HOP : HOP + len(samples)]


if __name__ == "__main__":
    model, samples = sys.argv[1], np.load(sys.argv[2])
    wanted, found = runtime(model, samples), sherpa(model, samples)
    assert len(found) == len(samples)
    print(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - found) ** 2)))
