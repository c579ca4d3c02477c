"""`edge-denoise`: what the board's user types. A command parses, calls once, answers; it imports what is heavy itself.

options  what several commands share
file     file, pipe
live     live, ctl
bench    bench, verify
board    devices, doctor, latency
install  install, uninstall
"""

from __future__ import annotations

from functools import partial
from typing import Final

from edge_runtime import command
from edge_runtime.cli import bench, board, file, install, live
from edge_runtime.cli.options import PROG, try_packages

DESCRIPTION: Final = "Remove noise from speech, with the model that is built in or one of `quant build`."
COMMANDS: Final = tuple(
    command.after(partial(try_packages, "numpy", "msgspec"), each)  # the others are tried where they are used
    for each in (
        *(file.FILE, live.LIVE, live.CTL, file.PIPE),
        *(install.INSTALL, install.UNINSTALL),
        *(bench.VERIFY, bench.BENCH),
        *(board.DEVICES, board.DOCTOR, board.LATENCY),
    )
)


main = partial(command.main, PROG, DESCRIPTION, COMMANDS)
