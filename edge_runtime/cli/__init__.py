"""`edge-denoise`: what the board's user types. A command parses, calls once, answers; it imports what is heavy itself.

options  what several commands share
file     file, pipe
live     live, ctl
bench    bench, verify
panel    panel
board    devices, doctor, latency
install  install, uninstall
"""

from __future__ import annotations

from functools import partial
from typing import Final

from edge_runtime import command
from edge_runtime.cli import bench, board, file, install, live, panel
from edge_runtime.cli.options import PROG, try_packages
from edge_runtime.command import Program

_TRIES: Final = partial(try_packages, "numpy", "msgspec")  # the others are tried where they are used
PROGRAM: Final = Program(
    PROG,
    "Remove noise from speech, with the model that is built in or one of `quant build`.",
    {
        title: tuple(command.after(_TRIES, each) for each in group)
        for title, group in {
            "denoise": (file.FILE, live.LIVE, live.CTL, panel.PANEL, file.PIPE),
            "set up": (board.DEVICES, board.DOCTOR, install.INSTALL, install.UNINSTALL),
            "measure and check": (bench.BENCH, bench.VERIFY, board.LATENCY),
        }.items()
    },
    examples=("edge-denoise file noisy.wav clean.wav", "edge-denoise live"),
    page="README.md",
)
COMMANDS: Final = PROGRAM.commands

main = partial(command.main, PROGRAM)
