"""`quant qat | train`: parses, calls once, answers."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command, number, whole
from quant.cli.options import network_name, window, window_name
from quant.cli.output import Stages

if TYPE_CHECKING:
    from quant.training.runs import Job


# Stage -> seconds on an idle core; the steps of a run speak for themselves.
USUAL_S: Final = {"reading the weights": 0.3, "calibrating the start": 21.0, "step ": None}
_MAX_SEED: Final = 2**32 - 1
_count, _part = whole(1, 10**9), number(0, 1)


def _device(text: str) -> str:
    """As PyTorch names it."""
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", text):  # Settings.device, without PyTorch's import
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not a device: cpu or cuda")


def _qat_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--share-teacher",
        type=_part,
        default=0.5,
        metavar="X",
        help="of the loss that compares with the float model, not with clean speech (default: 0.5)",
    )
    parser.add_argument(
        "--blend",
        type=_part,
        default=1.0,
        metavar="X",
        help="of the result, how far it goes from the calibrated start to the trained network; with --resume, a run "
        "that is done is blended anew (default: 1)",
    )
    parser.add_argument(
        "--float-gates",
        action="store_true",
        help="do not round the gates of recurrent layers with a float state: 0.6 of the time for UL-UNAS; the native "
        "engine does not round them either, ONNX and TFLite do",
    )
    parser.add_argument(
        "--log-floor",
        type=number(-12, 0),
        metavar="X",
        help="of a network that hears logarithms of magnitudes: in float, too, no bin counts for less (-4: the last of "
        "16 bits; default: the recipe's, in 8 bits alone)",
    )
    parser.add_argument("--recipe", metavar="R", help="id or .toml file (default: the network's own)")
    _add_checkpoint(parser)
    _add_common(parser)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from-scratch", action="store_true", help="start from random weights, not a checkpoint")
    _add_checkpoint(start)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="sizes",
        help="another network of the family, from scratch: channels=12, dpgrnn=1, dilations=1,2,5 ...",
    )
    parser.set_defaults(share_teacher=0.0)  # the float network would be its own teacher
    _add_common(parser)


def _add_checkpoint(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="default: the pulled official weights")


def _add_common(parser: argparse.ArgumentParser) -> None:
    network_name(parser)
    window(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="the run: result, curves, state")
    add("--speech", type=Path, metavar="DIR", help="clean speech (default: the pulled one, too little)")
    add("--noise", type=Path, metavar="DIR", help="noise (default: the pulled one)")
    add("--steps", type=_count, default=1000, metavar="N", help="default: 1000")
    add("--batch", type=whole(1, 4096), default=8, metavar="N", help="clips a step and process (default: 8)")
    add("--clip-ms", type=whole(100, 600_000, "ms"), default=3000, metavar="MS", help="of a clip (default: 3000)")
    add("--most-snr-db", type=number(-5, 120), default=20, metavar="DB", help="of mixtures, -5 and more (default: 20)")
    add("--share-clean", type=number(0, 0.9), default=0.1, metavar="X", help="of clips without noise (default: 0.1)")
    add("--learning-rate", type=number(1e-9, 1), default=1e-4, metavar="X", help="peak (default: 1e-4)")
    add("--validate-every", type=_count, default=50, metavar="N", help="steps (default: 50)")
    add("--patience", type=_count, default=8, metavar="N", help="validations without a gain (default: 8)")
    add(
        "--keep",
        choices=("best", "last"),
        default="best",
        help="weights: of the best validation, or of the last step (default: best)",
    )
    add("--seed", type=whole(0, _MAX_SEED), default=0, metavar="N", help="default: 0")
    add("--device", type=_device, default="cpu", metavar="D", help="cpu or cuda (default: cpu)")
    add("--workers", type=whole(0, 256), default=1, metavar="N", help="processes that mix sounds (default: 1)")
    add("--attribution", default="", metavar="TEXT", help="whose weights and sounds these are")
    add("--resume", action="store_true", help="go on with the run in --out")


def _qat(args: argparse.Namespace) -> Answer:
    """Train, and say where the result is."""
    from dataclasses import replace

    from quant.training.runs import qat

    asked = {"recipe": args.recipe, "blend": args.blend, "log_floor": args.log_floor}
    job = replace(_job(args), rounds_gates=not args.float_gates, **asked)
    with Stages(USUAL_S) as said:
        return _done(qat(job, said))


def _train(args: argparse.Namespace) -> Answer:
    """Train the float network, and say where the checkpoint is."""
    from dataclasses import replace

    from quant.network import registry, sizes
    from quant.training.runs import train

    job = _job(args)
    if args.sizes:
        job = replace(job, config=sizes.parse(args.sizes, registry.load(args.network)))
    with Stages(USUAL_S) as said:
        return _done(train(job, said, from_scratch=args.from_scratch))


def _job(args: argparse.Namespace) -> Job:
    from dataclasses import replace

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
    mix = replace(
        TRAINING_MIX,
        n_clips=args.batch,
        clip_ms=args.clip_ms,
        share_clean=args.share_clean,
        snr_db=(TRAINING_MIX.snr_db[0], args.most_snr_db),
    )
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
        window=window_name(args),
        network=args.network,
    )


def _done(path: Path) -> Answer:
    import json  # no `--help` waits for them
    import shlex

    history = json.loads((path.parent / "history.json").read_text("utf-8"))
    built = f"build/{path.parent.name or 'mine'}"
    lines = [
        f"{path}: trained; the curves: {path.parent}/curves.png",
        f"compile: quant build --target rpi4 --checkpoint {shlex.quote(str(path))} --out {shlex.quote(built)}",
        f"measure: quant eval {shlex.quote(built)} --pairs DIR",
    ]
    return Answer({"out": str(path), "history": history}, lines)


QAT: Final = Command(
    "qat",
    "train a checkpoint under 8-bit rounding, into a file to build from",
    _qat_arguments,
    _qat,
    examples=(
        "quant qat --checkpoint my.tar --speech DIR --noise DIR --out run --steps 300 --blend 0.5",
        "quant qat --checkpoint my.tar --speech DIR --noise DIR --out run --steps 300 --blend 0.5 --resume",
    ),
    page="guide/train.md",
    takes_long=True,
)
TRAIN: Final = Command(
    "train",
    "train the float network, from a checkpoint or from scratch",
    _train_arguments,
    _train,
    examples=(
        "quant train --checkpoint my.tar --speech DIR --noise DIR --out run",
        "quant train --from-scratch --set channels=12 --speech DIR --noise DIR --out small",
    ),
    page="guide/train.md",
    takes_long=True,
)
