"""`quant`: what the one who builds types. A command parses, calls once, answers; it imports what is heavy itself.

options   options that several commands share
output    how tables are laid out
inputs    pull, boards
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
from quant.cli import budget, build, deploy, evaluate, inputs, release, report, train
from quant.cli.output import PROG

DESCRIPTION: Final = "Compile a GTCRN checkpoint into an int8 denoiser for a board."


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
COMMANDS: Final = tuple(
    command.after(partial(_try_packages, *_TRIED, *_TRIED_TOO.get(each.name, ())), each)
    for each in (
        inputs.PULL,
        inputs.BOARDS,
        build.PLAN,
        build.BUILD,
        release.VERIFY,
        train.QAT,
        train.TRAIN,
        evaluate.EVAL,
        build.ABLATE,
        report.REPORT,
        budget.BUDGET,
        release.KEYGEN,
        release.SIGN,
        release.BUNDLE,
        release.UNPACK,
        deploy.DEPLOY,
        report.CARD,
        report.VIEW,
    )
)


main = partial(command.main, PROG, DESCRIPTION, COMMANDS)
