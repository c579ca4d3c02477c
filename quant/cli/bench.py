"""`make bench`: quality and frame time of built artifacts against float and against the official streaming model.

Every time is a ratio within one run on one thread: the engines take turns, so that a slow spell of the machine
falls on all of them. Writes a dated Markdown table and the numbers behind it into .bench/.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import soundfile as sf
from msgspec import to_builtins

from calibration.corpus import Corpus
from calibration.mixing import Mix, mixtures
from edge_runtime import command, open_artifact
from edge_runtime.bench import Spread, spread_us
from edge_runtime.command import Answer, Command
from edge_runtime.engines import ENGINES, open_engine
from edge_runtime.engines.golden import load_golden
from edge_runtime.engines.interface import Engine
from edge_runtime.machine import Machine, this_machine
from edge_runtime.stft import N_BINS, SAMPLE_RATE_HZ, Float32Array
from edge_runtime.whole_file import written_whole
from quant.build import stages
from quant.build.settings import Outputs, Settings
from quant.cli.build import USUAL_S
from quant.cli.output import Stages
from quant.inputs import assets
from quant.inputs.source import Inputs
from quant.quality.evaluate import comparisons, evaluate
from quant.quality.metrics import DEFAULT_METRICS
from quant.quality.pairs import Pair, find_pairs
from quant.quality.results import Difference, SystemPart
from quant.quality.summary import summarise
from quant.quality.systems import systems_of
from quant.report.schema import FileSize

PRECISIONS = ("fp32", "int8")
OFFICIAL = "official"
ROUNDS, FRAMES_A_ROUND = 20, 100
UNSEEN = Mix(n_clips=40, clip_ms=6000, seed=1, share_clean=0.0, share_noise_alone=0.0, level_dbfs=(-35, -20))


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found; `times`: of the models of the first checkpoint, and of the official one."""

    date: str
    machine: Machine
    target: str
    quality: tuple[BuiltQuality, ...]
    times: dict[str, Spread]


class BuiltQuality(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as built, and how its models sound."""

    checkpoint: str
    recipe: str
    build_s: float
    files: dict[str, FileSize]
    int8_share: dict[str, float]
    n_pairs: int
    systems: tuple[SystemPart, ...]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="rpi4", metavar="BOARD")
    parser.add_argument("--checkpoint", type=Path, action="append", metavar="F", help="may be given more than once")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="for calibration")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="for calibration")
    pairs = "clean/ and noisy/; default: mixtures of pulled sounds"
    parser.add_argument("--pairs", type=Path, metavar="DIR", help=pairs)
    parser.add_argument("--recipe", metavar="R", help="default: static, or a .trained file's own")
    parser.add_argument("--out", type=Path, default=Path(".bench"))


def _bench(args: argparse.Namespace) -> Answer:
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(args, Path(scratch))
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"bench-{date.today().isoformat()}"
    for suffix, text in ((".json", json.dumps(to_builtins(result), indent=1) + "\n"), (".md", markdown(result))):
        with written_whole(stem.with_suffix(suffix)) as part:
            part.write_text(text)
    return Answer(result, [markdown(result), f"in {stem}.md and {stem}.json"])


def measure(args: argparse.Namespace, scratch: Path) -> Measured:
    """Build each checkpoint, evaluate it, and time the first."""
    checkpoints = args.checkpoint or [assets.weights()]
    pairs = find_pairs(args.pairs or mixed_pairs(scratch / "pairs"))
    return Measured(
        date=date.today().isoformat(),
        machine=this_machine(),
        target=args.target,
        quality=tuple(_built_quality(args, path, scratch / path.stem, pairs) for path in checkpoints),
        times=times(
            scratch / checkpoints[0].stem, next((path for path in checkpoints if path.suffix == ".onnx"), None)
        ),
    )


def _built_quality(args: argparse.Namespace, checkpoint: Path, out: Path, pairs: Sequence[Pair]) -> BuiltQuality:
    inputs = Inputs(checkpoint=checkpoint, recipe=args.recipe, speech=args.speech, noise=args.noise)
    start = time.monotonic()
    settings = Settings(target=args.target, inputs=inputs, outputs=Outputs(folder=out))
    with Stages(USUAL_S, tell=_say) as said:
        report = stages.build(settings, said).report
    return BuiltQuality(
        checkpoint=checkpoint.name,
        recipe=report.recipe,
        build_s=round(time.monotonic() - start, 1),
        n_pairs=len(pairs),
        files=report.files,
        int8_share={engine: found.int8_share for engine, found in report.coverage.items()},
        systems=quality_of(out, pairs),
    )


def mixed_pairs(folder: Path) -> Path:
    """Pairs for those who have none: pulled speech and noise, mixed with another seed than calibration's."""
    for side in ("clean", "noisy"):
        (folder / side).mkdir(parents=True)
    for i, clip in enumerate(mixtures(Corpus.open(assets.speech()), Corpus.open(assets.noise()), UNSEEN)):
        for side in ("clean", "noisy"):
            sf.write(folder / side / f"{i:03d}.flac", getattr(clip, side), SAMPLE_RATE_HZ)
    return folder


def quality_of(artifact: Path, pairs: Sequence[Pair]) -> tuple[SystemPart, ...]:
    """Means and paired differences of every engine and precision."""
    systems = systems_of([artifact])
    rows = evaluate(systems, pairs, DEFAULT_METRICS)
    for row in rows:
        if row.error:
            _say(f"{row.clip}, {row.system}: {row.error}")
    return summarise(rows, comparisons(systems))


def times(artifact: Path, official: Path | None = None) -> dict[str, Spread]:
    """System -> time of a frame, the engines taking turns with the official streaming model, by default the pulled."""
    opened = open_artifact(artifact)
    frames = load_golden(opened)["spectrum"]
    steps: dict[str, Callable[[Float32Array], None]] = {OFFICIAL: _official(official or assets.weights())}
    for engine in ENGINES:
        for precision in PRECISIONS:
            steps[f"{engine} {precision}"] = _step(open_engine(opened, engine, precision))
    taken: dict[str, list[int]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            for i in range(FRAMES_A_ROUND):
                start = time.perf_counter_ns()
                step(frames[i % len(frames)])
                taken[name].append(time.perf_counter_ns() - start)
    return {name: spread_us(np.array(ns) / 1e3) for name, ns in taken.items()}


def ratio(times: Mapping[str, Spread], system: str) -> float:
    """Of medians: the official streaming model is 1."""
    return times[system].p50 / times[OFFICIAL].p50


def _step(engine: Engine) -> Callable[[Float32Array], None]:
    enhanced = np.zeros((N_BINS, 2), np.float32)
    return lambda spectrum: engine.step(spectrum, enhanced)


def _official(path: Path) -> Callable[[Float32Array], None]:
    """The official streaming ONNX as its own script runs it, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    states = [np.zeros(i.shape, np.float32) for i in session.get_inputs()[1:]]

    def step(spectrum: Float32Array) -> None:
        states[:] = session.run(None, dict(zip(names, [spectrum[None, :, None], *states], strict=True)))[1:]

    return step


def markdown(found: Measured) -> str:
    """The table for the README."""
    lines = [
        f"Measured {found.date} on {found.machine.cpu} ({found.machine.os}), target {found.target}, one thread.",
        "",
        "| checkpoint | system | PESQ-WB | STOI | SI-SDR dB | ΔPESQ (95 %) | ΔSTOI | ΔSI-SDR dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for built in found.quality:
        for s in built.systems:
            means = (f"{s.means['pesq']:.3f}", f"{s.means['stoi']:.4f}", f"{s.means['sisdr']:.2f}")
            first = f"{built.checkpoint}, {built.recipe}, {s.n_clips} clips"
            lines.append(f"| {' | '.join([first, s.system, *means, *_differences(s.differences)])} |")
    lines += ["", "| system | frame p50 µs | p95 µs | official = 1 |", "|---|---|---|---|"]
    for system, us in found.times.items():
        lines.append(f"| {system} | {us.p50:.0f} | {us.p95:.0f} | {ratio(found.times, system):.3f} |")
    return "\n".join(lines) + "\n"


def _differences(d: Mapping[str, Difference]) -> list[str]:
    if not d:
        return ["", "", ""]
    p = d["pesq"]
    return [f"{p.mean:+.4f} ({p.low:+.4f} … {p.high:+.4f})", f"{d['stoi'].mean:+.4f}", f"{d['sisdr'].mean:+.2f}"]


PROGRAM: Final = Command("quant-bench", "Measure quality and frame time.", _arguments, _bench, takes_long=True)
_say = partial(command.say, PROGRAM.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Build, measure, write."""
    return command.run(command.parser_for(PROGRAM), argv)


if __name__ == "__main__":
    sys.exit(main())
