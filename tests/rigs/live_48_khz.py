"""Ten minutes of `live` at 48 kHz in and out, full band and automatic gain, between made-up sound devices.

    python tests/rigs/live_48_khz.py --model build/rpi4 [--seconds 600] [--ppm 100]

The devices keep virtual time, so that a busy machine causes no xrun and a slow loop would; playback's clock is --ppm
fast, so drift is followed. A hop's cost is the processor time of all that happens between capture and playback: samples
decoded, high-pass, gain, network, full band, drift, samples encoded. Prints a line of JSON; exit status 1 when there
was an xrun or the 99th percentile of a hop is 1 ms or more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
sys.path.insert(0, str(Path(__file__).parents[2]))
from fake_sound import FakeDevice, World, run

from edge_runtime.denoiser import Denoiser
from edge_runtime.live.chain import Chain
from edge_runtime.live.sound.front import FrontSettings
from edge_runtime.manifest import open_artifact

RATE_HZ = 48_000


def speech_like(seconds: float = 7.0) -> np.ndarray:
    """Bursts of noise with a voice's tilt, in fainter noise, quiet: -45 dBFS, on an offset."""
    n = round(seconds * RATE_HZ)
    random = np.random.default_rng(7)
    envelope = np.maximum(0, np.sin(np.arange(n) * 2 * np.pi * 2.0 / RATE_HZ))
    voice = np.cumsum(random.normal(0, 1, n) * envelope)
    voice -= np.convolve(voice, np.ones(480) / 480, mode="same")
    voice *= 10 ** (-45 / 20) / voice.std()
    return (voice + random.normal(0, 1e-4, n) + 0.02).astype(np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description="Ten minutes of live at 48 kHz.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--ppm", type=float, default=100.0)
    args = parser.parse_args()
    world, sound, spent_ns = World(), speech_like(), []
    push = Chain.push

    def timed(chain: Chain, block: np.ndarray, played: np.ndarray) -> int:
        began_ns = time.thread_time_ns()
        n = push(chain, block, played)
        spent_ns.append(time.thread_time_ns() - began_ns)
        return n

    Chain.push = timed  # type: ignore[method-assign]
    capture = FakeDevice(
        world, RATE_HZ, "S32_LE", sound=lambda start, n: np.take(sound, np.arange(start, start + n), mode="wrap")[None]
    )
    playback = FakeDevice(world, RATE_HZ, "S16_LE", clock=1 + args.ppm / 1e6)
    denoisers = [Denoiser.open(open_artifact(args.model), "native", "int8")]
    status = run(world, capture, playback, args.seconds, denoisers, band="full", front=FrontSettings(gain_db=None))  # type: ignore[arg-type]
    p50_ms, p99_ms = np.percentile(np.array(spent_ns) / 1e6, (50, 99))
    shown = status.snapshot()
    kept = {name: shown[name] for name in ("band", "seconds", "xruns", "input_gain_db", "highpass_hz", "drift_ppm")}
    print(
        json.dumps({**kept, "resyncs": shown["resyncs"], "hop_ms": {"p50": round(p50_ms, 3), "p99": round(p99_ms, 3)}})
    )
    return int(any(shown["xruns"].values()) or p99_ms >= 1.0)


if __name__ == "__main__":
    sys.exit(main())
