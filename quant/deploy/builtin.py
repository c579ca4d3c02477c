"""`make builtin`: the models that come with the runtime, made anew into edge_runtime/builtin.

    python -m quant.deploy.builtin [--out edge_runtime/builtin] [--json]

Of what `quant build` makes, that which a board needs to denoise and to test itself: native weights, int8 and float, the
first golden frames, the licence, a manifest.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Final

from edge_runtime import builtin, command
from edge_runtime.command import Answer, Command
from edge_runtime.quiet import Progress
from edge_runtime.stft import HOP_SAMPLES

if TYPE_CHECKING:
    from quant.build.contents import Made

TOP: Final = Path(__file__).parents[2]
BOARD: Final = "host"  # for whichever processor
# The network looks 32 frames back; after 16 every state has been written around, and a wrong kernel is heard in each.
N_GOLDEN_FRAMES: Final = 16
DECIDE: Final = ("edge-denoise", "numpy", "torch")  # a byte of these files; engines that only read others do not
LICENCE: Final = "LICENSE"


def make(progress: Progress) -> dict[str, bytes]:
    """File name -> bytes of the default model's folder."""
    import boards
    from quant.build.contents import Made
    from quant.build.models import Models, emit_engine, golden_vectors
    from quant.build.stages import quantize_with
    from quant.inputs.source import Inputs, read

    inputs = Inputs()
    source = read(inputs, progress)
    assert source.noisy is not None, "the default brings its own sounds"
    quantized = quantize_with(None, inputs, source, None, progress)
    progress("emitting native weights and golden vectors")
    models = Models(emit_engine(source.graph, quantized))
    noisy = source.noisy[0, : N_GOLDEN_FRAMES * HOP_SAMPLES]
    golden = golden_vectors(source.graph, quantized, noisy, bare=True)
    board = boards.load(BOARD)
    return _files(Made(board=board, source=source, quantized=quantized, models=models, noisy=noisy, golden=golden))


def _files(made: Made) -> dict[str, bytes]:
    from msgspec.structs import replace

    from quant.artifact.folder import index
    from quant.artifact.stable_bytes import npz_bytes
    from quant.build.contents import GOLDEN_FILE, entries, make_manifest

    files = {name: model.data for name, model in made.models.ours.items()}
    files |= {GOLDEN_FILE: npz_bytes(made.golden), LICENCE: _licence(made.source.attribution).encode()}
    manifest = make_manifest(made, dict(sorted(entries(files).items())))
    decided_by = {name: version(name) for name in DECIDE} | {"python": platform.python_version()}
    return files | index(replace(manifest, built_with=decided_by))


def _licence(attribution: str) -> str:
    """Whose the weights are, and the notice that goes with every copy of them."""
    ours = (TOP / "LICENSE").read_text("utf-8")
    whose = "Copyright (c) 2024 Rong Xiaobin\n"
    title, _, rest = ours.partition("\n\n")
    return f"{fill(attribution, 100)}\n\n{title}\n\n{whose}{rest}"


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Failure: something there is no artifact."""
    from quant.artifact.folder import whole_artifact

    with whole_artifact(folder, force=True) as part:
        for name, data in files.items():
            (part / name).write_bytes(data)


def _arguments(parser: argparse.ArgumentParser) -> None:
    there = builtin.folder_of(None).parent
    parser.add_argument("--out", type=Path, default=there, metavar="DIR", help="default: where the runtime has them")


def _run(args: argparse.Namespace) -> Answer:
    files, folder = make(tell), args.out / builtin.DEFAULT
    write(folder, files)
    sizes = {name: len(data) for name, data in files.items()}
    lines = [f"{folder / name}: {n_bytes:,} bytes" for name, n_bytes in sorted(sizes.items())]
    return Answer({"folder": str(folder), "bytes": sizes}, lines)


PROGRAM: Final = Command(
    "builtin", "Make the models anew that come with the runtime.", _arguments, _run, takes_long=True
)
tell = partial(command.say, PROGRAM.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command.run(command.parser_for(PROGRAM), argv)


if __name__ == "__main__":
    sys.exit(main())
