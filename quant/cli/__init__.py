"""`quant`: what the one who builds types. A command parses, calls once, answers; it imports what is heavy itself.

options   options that several commands share
output    how tables are laid out
inputs    pull, boards, networks
build     plan, build, ablate
train     qat, train
evaluate  eval
budget    budget
report    report, card, view
release   verify, keygen, sign, bundle, unpack
deploy    deploy
viewer    the programs that `view` can start
demo      `make demo`
bench     `make bench`
"""

from __future__ import annotations

from functools import partial
from typing import Final

from edge_runtime import command
from edge_runtime.command import Program
from quant.cli import budget, build, deploy, evaluate, inputs, release, report, train
from quant.cli.output import PROG


def _try_packages(*names: str) -> None:
    from edge_runtime.engines import trial

    trial.packages(*names)


_TRIED: Final = ("numpy", "msgspec")
_SOUND: Final = ("soundfile", "soxr")
_TRIED_TOO: Final = {  # what a command imports itself; engines and metrics have processes of their own
    "eval": _SOUND,
    "plan": ("torch",),
    **dict.fromkeys(("build", "qat", "train", "ablate"), (*_SOUND, "torch")),
}
PROGRAM: Final = Program(
    PROG,
    "Compile a checkpoint of GTCRN or UL-UNAS into an int8 denoiser for a board.",
    {
        title: tuple(
            command.after(partial(_try_packages, *_TRIED, *_TRIED_TOO.get(each.name, ())), each) for each in group
        )
        for title, group in {
            "start": (build.BUILD, inputs.BOARDS, inputs.NETWORKS, inputs.PULL),
            "choose what is in 8 bits": (build.PLAN, build.ABLATE, budget.BUDGET),
            "train": (train.QAT, train.TRAIN),
            "measure and show": (evaluate.EVAL, report.REPORT, report.CARD, report.VIEW),
            "ship": (deploy.DEPLOY, release.BUNDLE, release.UNPACK),
            "trust": (release.VERIFY, release.KEYGEN, release.SIGN),
        }.items()
    },
    examples=("quant build --target rpi4", "quant eval build/rpi4 --pairs DIR"),
    page="README.md",
)
COMMANDS: Final = PROGRAM.commands

main = partial(command.main, PROGRAM)
