"""`make demo`: pull, build, denoise a real recording with every model, and say how good and how fast they are.

build/rpi4/    the artifact, its report with the recording in it: noisy, float, 8 bits, clean
build/demo/    noisy.wav, clean.wav, onnx-int8.wav, tflite-int8.wav, ...
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import soundfile as sf

import boards
from calibration.corpus import Corpus
from calibration.mixing import Clip, Mix, mixtures
from edge_runtime import command, open_artifact
from edge_runtime.bench import bench
from edge_runtime.command import Answer, Command
from edge_runtime.engines import ENGINES
from edge_runtime.files.denoise_file import denoise_file
from edge_runtime.manifest import Artifact
from edge_runtime.stft import SAMPLE_RATE_HZ
from edge_runtime.whole_file import written_whole
from quant.build import stages
from quant.build.settings import Outputs, Settings
from quant.cli.bench import PRECISIONS, ratio, times
from quant.cli.build import USUAL_S, figures
from quant.cli.output import Stages
from quant.inputs import assets
from quant.inputs.source import Inputs
from quant.network import registry
from quant.quality.metrics import DEFAULT_METRICS, score
from quant.report.remake import Taken, remake

SPEECH, NOISE = "beckett.wav", "keyboard-typing.ogg"  # both heard by a microphone, and of the full band
MIX = Mix(snr_db=(5, 5), level_dbfs=(-25, -25), share_clean=0, share_noise_alone=0, n_clips=1, clip_ms=9000, seed=1)


class Result(NamedTuple):
    """One row of the table: a sound's scores, and the speed of the model that made it."""

    name: str
    scores: dict[str, float]
    frame_us: float | None = None
    rtf: float | None = None
    ratio: float | None = None  # of frame times, the official streaming ONNX in the same run = 1


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="rpi4", metavar="BOARD", help="default: rpi4")
    parser.add_argument("--network", metavar="NAME", help="of `quant networks`; default: gtcrn")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), metavar="DIR", help="default: build/demo")


def _demo(args: argparse.Namespace) -> Answer:
    boards.load(args.target)  # wrong names fail before anything is pulled
    registry.load(args.network)
    assets.pull(progress=_say)
    start = time.monotonic()
    settings = Settings(target=args.target, inputs=Inputs(network=args.network), outputs=Outputs(force=True))
    with Stages(USUAL_S, tell=_say) as said:
        built = stages.build(settings, said)
    elapsed_s = time.monotonic() - start
    _say("denoising and measuring")
    clip = noisy_recording(args.out)
    results = judge(open_artifact(built.folder), args.out)
    _say("drawing the report with the recording in it")
    remake(built.folder, Taken(clips=[f"{args.out / 'noisy.wav'}:{args.out / 'clean.wav'}"]))
    value = {"artifact": str(built.folder), "sounds": str(args.out), "results": [each._asdict() for each in results]}
    return Answer(value, [*_built(built, elapsed_s), *_heard(clip), *table(results), *_next(built, args.out)])


def noisy_recording(folder: Path) -> Clip:
    """Real speech in real noise at 5 dB SNR, a cut that calibration did not make, as noisy.wav and clean.wav."""
    speech, noise = Corpus.open(assets.speech()), Corpus.open(assets.noise())
    (clip,) = mixtures(replace(speech, names=(SPEECH,)), replace(noise, names=(NOISE,)), MIX)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("noisy", "clean"):
        with written_whole(folder / f"{name}.wav") as part:
            sf.write(part, getattr(clip, name), SAMPLE_RATE_HZ, format="WAV")
    return clip


def judge(artifact: Artifact, folder: Path) -> list[Result]:
    """The noisy recording, and what every engine and precision makes of it through the file path of the runtime."""
    frame_times = times(artifact.directory)
    results = [Result("noisy", _scores(folder, "noisy"))]
    for precision in PRECISIONS:
        for engine in ENGINES:
            name = f"{engine}-{precision}"
            denoise_file(folder / "noisy.wav", folder / f"{name}.wav", artifact, engine, precision, force=True)
            speed = bench(artifact, engine, precision)
            official_is_one = ratio(frame_times, f"{engine} {precision}")
            results.append(Result(name, _scores(folder, name), speed.frame_us.p50, speed.rtf, official_is_one))
    return results


def _scores(folder: Path, name: str) -> dict[str, float]:
    clean, sound = (sf.read(folder / f"{side}.wav", dtype="float32")[0] for side in ("clean", name))
    return score(DEFAULT_METRICS, clean, sound)


def table(results: Sequence[Result]) -> list[str]:
    """One line a sound."""
    head = f"{'':12}{'PESQ-WB':>8}{'STOI':>8}{'SI-SDR dB':>11}{'frame p50 us':>14}{'real-time factor':>18}"
    return [head + f"{'official = 1':>14}", *(_line(result) for result in results)]


def _line(result: Result) -> str:
    pesq, stoi, sisdr = (result.scores[name] for name in ("pesq", "stoi", "sisdr"))
    heard = f"{result.name:12}{pesq:8.2f}{stoi:8.3f}{sisdr:11.1f}"
    return heard + (f"{result.frame_us:14.0f}{result.rtf:18.4f}{result.ratio:14.2f}" if result.ratio else "")


def _built(built: stages.Built, elapsed_s: float) -> list[str]:
    return [f"built:    {built.folder} in {elapsed_s:.0f} s: {', '.join(figures(built.report))}"]


def _heard(clip: Clip) -> list[str]:
    """What was denoised."""
    what = f"{len(clip.noisy) / SAMPLE_RATE_HZ:.0f} s of {clip.speech_name} in {clip.noise_name}"
    return [f"sound:    {what} at {clip.snr_db:.0f} dB SNR (calibration heard other cuts of both); times on one thread"]


def _next(built: stages.Built, folder: Path) -> list[str]:
    scripts = Path(os.path.relpath(Path(sys.executable).parent))
    return [
        f"listen:   {folder}/*.wav; read: {built.folder}/report.html",
        f"yours:    {scripts}/edge-denoise file IN.wav OUT.wav --model {built.folder}",
        f"check:    {scripts}/quant verify {built.folder}",
    ]


PROGRAM: Final = Command(
    "quant-demo", "Build an artifact, denoise a recording with it, and judge both.", _arguments, _demo, takes_long=True
)
_say = partial(command.say, PROGRAM.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    return command.run(command.parser_for(PROGRAM), argv)


if __name__ == "__main__":
    sys.exit(main())
