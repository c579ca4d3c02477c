"""The arguments of `quant qat` and `quant train`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import command
from edge_runtime.command import Command
from quant.cli.output import print_json, say

if TYPE_CHECKING:
    from quant.training.runs import Job


def _qat_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--share-teacher",
        type=float,
        default=0.5,
        metavar="X",
        help="of the loss that compares with the float model, not with clean speech (default: 0.5)",
    )
    parser.add_argument(
        "--blend",
        type=float,
        default=1.0,
        metavar="X",
        help="of the result, how far it goes from the calibrated start to the trained network; with --resume, a run "
        "that is done is blended anew (default: 1)",
    )
    parser.add_argument("--recipe", default="static", metavar="R", help="id or .toml file (default: static)")
    _add_common(parser)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from-scratch", action="store_true", help="start from random weights, not a checkpoint")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="sizes",
        help="another network, from scratch: channels=12, dpgrnn=1, dilations=1,2,5 ...",
    )
    parser.set_defaults(share_teacher=0.0)  # the float network would be its own teacher
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run: result, curves, state")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="default: the pulled official weights")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech (default: the pulled one, too little)")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise (default: the pulled one)")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="clips a step and process (default: 8)")
    parser.add_argument("--clip-ms", type=int, default=3000, metavar="MS", help="length of a clip (default: 3000)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, metavar="X", help="peak (default: 1e-4)")
    parser.add_argument("--validate-every", type=int, default=50, metavar="N", help="steps (default: 50)")
    parser.add_argument("--patience", type=int, default=8, metavar="N", help="validations without a gain (default: 8)")
    parser.add_argument(
        "--keep",
        choices=("best", "last"),
        default="best",
        help="weights: of the best validation, or of the last step (default: best)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu or cuda (default: cpu)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that mix sounds (default: 1)")
    parser.add_argument("--attribution", default="", metavar="TEXT", help="whose weights and sounds these are")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")


def _qat(args: argparse.Namespace) -> int:
    """Train, and say where the result is."""
    from quant.training.runs import qat

    return _done(args, qat(replace(_job(args), recipe=args.recipe, blend=args.blend), say))


def _train(args: argparse.Namespace) -> int:
    """Train the float network, and say where the checkpoint is."""
    from quant.network import sizes
    from quant.training.runs import train

    job = _job(args)
    if args.sizes:
        job = replace(job, config=sizes.parse(args.sizes))
    return _done(args, train(job, say, from_scratch=args.from_scratch))


def _job(args: argparse.Namespace) -> Job:
    from quant.training.runs import TRAINING_MIX, Job
    from quant.training.trainer import Settings

    settings = Settings(
        steps=args.steps,
        learning_rate=args.learning_rate,
        share_teacher=args.share_teacher,
        validate_every=args.validate_every,
        patience=args.patience,
        seed=args.seed,
        n_workers=args.workers,
        device=args.device,
    )
    mix = replace(TRAINING_MIX, n_clips=args.batch, clip_ms=args.clip_ms)
    return Job(
        out=args.out,
        checkpoint=args.checkpoint,
        speech=args.speech,
        noise=args.noise,
        mix=mix,
        settings=settings,
        resume=args.resume,
        keeps_last=args.keep == "last",
        attribution=args.attribution,
    )


def _done(args: argparse.Namespace, path: Path) -> int:
    if args.json:
        history = json.loads((path.parent / "history.json").read_text())
        return print_json({"out": str(path), "history": history})
    print(f"{path}: compile it with `quant build --target BOARD --checkpoint {path}`")
    return command.DONE


QAT: Final = Command("qat", "train a checkpoint under 8-bit rounding, into a file to build from", _qat_arguments, _qat)
TRAIN: Final = Command("train", "train the float network, from a checkpoint or from scratch", _train_arguments, _train)
