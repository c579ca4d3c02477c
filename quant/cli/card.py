"""`quant card | view`: parses, calls once, prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from edge_runtime import command
from edge_runtime.command import Command
from edge_runtime.errors import Failure
from quant.cli.output import print_json, say

VIEWERS: Final = ("netron", "model-explorer")
_DEFAULT_PORT: Final = 8080


def _add_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")
    parser.add_argument("--eval", type=Path, metavar="FILE", help="what `quant eval DIR --json` printed")
    parser.add_argument("--dataset", default="", metavar="NAME", help="what the pairs of --eval are, in words")
    place = "default: DIR/README.md, and the manifest is made to agree"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=place)


def _card(args: argparse.Namespace) -> int:
    from edge_runtime.files.sound_file import written_whole
    from edge_runtime.manifest import open_artifact
    from quant.report import card, measured, schema

    if args.dataset and args.eval is None:
        raise Failure("goes with --eval", where="--dataset", remedy="leave it out")
    artifact = open_artifact(args.directory)
    systems = measured.quality(args.eval).systems if args.eval is not None else ()
    text = card.render(artifact.manifest, schema.read_from(artifact), systems, args.dataset)
    out = args.out or artifact.path(card.FILE)
    if args.out is None:
        card.write(artifact, text)
    else:
        with written_whole(args.out) as part:
            part.write_text(text, "utf-8")
    if args.json:
        return print_json({"card": str(out), "n_systems": len(systems)})
    print(f"{out}: {len(systems)} systems measured")
    return command.DONE


def _add_view(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")
    parser.add_argument("--engine", choices=("onnx", "tflite"), default="tflite", help="default: tflite")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="default: int8")
    parser.add_argument("--viewer", choices=VIEWERS, help="default: the first that is installed")
    parser.add_argument("--port", type=int, default=_DEFAULT_PORT, metavar="N", help=f"default: {_DEFAULT_PORT}")
    parser.add_argument("--no-browser", action="store_true", help="serve only, open no browser")


def _view(args: argparse.Namespace) -> int:
    from edge_runtime.manifest import open_artifact
    from quant.cli import viewer as view

    artifact = open_artifact(args.directory)
    entry = artifact.model(args.engine, args.precision)
    artifact.check(entry.file)
    viewer = view.choose(args.viewer)
    path = artifact.path(entry.file)
    if args.json:
        print_json({"file": str(path), "viewer": viewer.package, "url": f"http://{view.LOCALHOST}:{args.port}"})
    say(f"{path} at http://{view.LOCALHOST}:{args.port}; Ctrl-C ends it")
    viewer.show(path, args.port, not args.no_browser)
    return command.DONE


COMMANDS: Final = (
    Command("card", "write an artifact's model card, with what an evaluation measured", _add_card, _card),
    Command("view", "show the graph of a model in Netron or Model Explorer", _add_view, _view),
)
