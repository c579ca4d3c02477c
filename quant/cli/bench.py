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
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from msgspec import to_builtins

from calibration.corpus import Corpus
from calibration.mixing import Mix, mixtures
from edge_runtime import command, open_artifact
from edge_runtime.engines import ENGINES, open_engine
from edge_runtime.engines.golden import load_golden
from edge_runtime.machine import this_machine
from edge_runtime.quiet import silent
from edge_runtime.stft import N_BINS, SAMPLE_RATE_HZ, Float32Array
from edge_runtime.whole_file import written_whole
from quant.build import stages
from quant.build.settings import Outputs, Settings
from quant.inputs import assets
from quant.inputs.source import Inputs
from quant.quality.evaluate import comparisons, evaluate
from quant.quality.metrics import DEFAULT_METRICS
from quant.quality.pairs import Pair, find_pairs
from quant.quality.results import SystemPart
from quant.quality.summary import summarise
from quant.quality.systems import systems_of

PROG = "quant-bench"
PRECISIONS = ("fp32", "int8")
ROUNDS, FRAMES_A_ROUND = 20, 100
UNSEEN = Mix(n_clips=40, clip_ms=6000, seed=1, share_clean=0.0, share_noise_alone=0.0, level_dbfs=(-35, -20))


def main(argv: Sequence[str] | None = None) -> int:
    """Build, measure, write."""
    parser = command.Parser(prog=PROG, description="Measure quality and frame time.")
    parser.add_argument("--target", default="rpi4", metavar="BOARD")
    parser.add_argument("--checkpoint", type=Path, action="append", metavar="F", help="may be given more than once")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="for calibration")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="for calibration")
    parser.add_argument(
        "--pairs", type=Path, metavar="DIR", help="clean/ and noisy/; default: mixtures of pulled sounds"
    )
    parser.add_argument("--recipe", metavar="R", help="default: static, or a .trained file's own")
    parser.add_argument("--out", type=Path, default=Path(".bench"))
    command.add_debug(parser)
    parser.set_defaults(run=_bench)
    return command.run(parser, argv, PROG)


def _bench(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(args, Path(scratch))
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"bench-{date.today().isoformat()}"
    for suffix, text in ((".json", json.dumps(result, indent=1) + "\n"), (".md", markdown(result))):
        with written_whole(stem.with_suffix(suffix)) as part:
            part.write_text(text)
    print(markdown(result))
    print(f"in {stem}.md and {stem}.json")
    return command.DONE


def measure(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Build each checkpoint, evaluate it, and time the first."""
    checkpoints = args.checkpoint or [assets.weights()]
    pairs = find_pairs(args.pairs or mixed_pairs(scratch / "pairs"))
    quality, folders = [], []
    for path in checkpoints:
        out = scratch / path.stem
        start = time.monotonic()
        report = stages.build(
            Settings(
                target=args.target,
                inputs=Inputs(checkpoint=path, recipe=args.recipe, speech=args.speech, noise=args.noise),
                outputs=Outputs(folder=out),
            ),
            silent,
        ).report
        elapsed_s = time.monotonic() - start
        folders.append(out)
        summaries = quality_of(out, pairs)
        quality.append(
            {
                "checkpoint": path.name,
                "recipe": report.recipe,
                "build_s": round(elapsed_s, 1),
                "n_pairs": len(pairs),
                "files": to_builtins(report.files),
                "int8_share": {engine: found.int8_share for engine, found in report.coverage.items()},
                "systems": to_builtins(summaries),
            }
        )
    return {
        "date": date.today().isoformat(),
        "machine": to_builtins(this_machine()),
        "target": args.target,
        "quality": quality,
        "times": times(folders[0]),
    }


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
            print(f"{PROG}: {row.clip}, {row.system}: {row.error}", file=sys.stderr)
    return summarise(rows, comparisons(systems))


def times(artifact: Path) -> list[dict[str, Any]]:
    """Frame times in microseconds, the engines taking turns with the official streaming model."""
    opened = open_artifact(artifact)
    frames = load_golden(opened)["spectrum"]
    steps: dict[str, Callable[[Float32Array], None]] = {"official": _official(assets.weights())}
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
    base = float(np.median(taken["official"]))
    return [
        {
            "system": name,
            "p50_us": float(np.median(t)) / 1e3,
            "p95_us": float(np.percentile(t, 95)) / 1e3,
            "ratio": float(np.median(t)) / base,
        }
        for name, t in taken.items()
    ]


def _step(engine: Any) -> Callable[[Float32Array], None]:
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


def markdown(result: dict[str, Any]) -> str:
    """The table for the README."""
    machine = result["machine"]
    lines = [
        f"Measured {result['date']} on {machine['cpu']} ({machine['os']}), target {result['target']}, one thread.",
        "",
        "| checkpoint | system | PESQ-WB | STOI | SI-SDR dB | ΔPESQ (95 %) | ΔSTOI | ΔSI-SDR dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for quality in result["quality"]:
        for s in quality["systems"]:
            lines.append(
                f"| {quality['checkpoint']}, {quality['recipe']}, {s['n_clips']} clips | {s['system']} | "
                + " | ".join(
                    [
                        f"{s['means']['pesq']:.3f}",
                        f"{s['means']['stoi']:.4f}",
                        f"{s['means']['sisdr']:.2f}",
                        *_differences(s["differences"]),
                    ]
                )
                + " |"
            )
    lines += ["", "| system | frame p50 µs | p95 µs | official = 1 |", "|---|---|---|---|"]
    lines += [f"| {t['system']} | {t['p50_us']:.0f} | {t['p95_us']:.0f} | {t['ratio']:.3f} |" for t in result["times"]]
    return "\n".join(lines) + "\n"


def _differences(d: dict[str, dict[str, float]]) -> list[str]:
    if not d:
        return ["", "", ""]
    p = d["pesq"]
    return [
        f"{p['mean']:+.4f} ({p['low']:+.4f} … {p['high']:+.4f})",
        f"{d['stoi']['mean']:+.4f}",
        f"{d['sisdr']['mean']:+.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
