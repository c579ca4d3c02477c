"""`edge-denoise panel`: a page for a running `live`. Parses, calls once, answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_runtime.command import Answer, Command, whole
from edge_runtime.errors import Failure


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--port", type=whole(1, 65_535), default=8765, metavar="N", help="default: 8765")
    add("--listen", default="127.0.0.1", metavar="ADDRESS", help="for other machines, by a token; default: 127.0.0.1")
    add("--socket", metavar="PATH", help="of the stream; default: in the user's run-time folder")


def _panel(args: argparse.Namespace) -> Answer:
    """Until Ctrl-C."""
    import secrets  # no `--help` waits for them

    from edge_runtime.extras import require
    from edge_runtime.folders import home_folder
    from edge_runtime.live.control.control_socket import listening_path
    from edge_runtime.panel.guard import Guard, is_loopback
    from edge_runtime.panel.server import open_server

    require("bottle")
    try:
        is_here = is_loopback(args.listen)
    except ValueError:
        remedy = "give an address of this machine, such as 192.168.1.20; `hostname -I` lists them"
        raise Failure(f"--listen is {args.listen!r}", remedy=remedy) from None
    if not is_here:
        require("segno")
    guard = Guard(address=args.listen, port=args.port, token="" if is_here else secrets.token_urlsafe(16))
    socket_path = (lambda: Path(args.socket)) if args.socket else listening_path
    server = open_server(guard, to_a_stream(socket_path, home_folder()))
    print(guard.link, flush=True)
    if guard.token and sys.stdout.isatty():
        import segno

        segno.make(guard.link).terminal(out=sys.stdout, compact=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()
    return Answer({}, ())


def to_a_stream(socket_path: Callable[[], Path], home: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Asks whichever `live` listens then. Failure: none does; a virtual microphone of this home folder is no `live`."""
    from edge_runtime.install import virtual_mic
    from edge_runtime.live.control.control_socket import ask

    def to_live(message: dict[str, Any]) -> dict[str, Any]:
        path = socket_path()
        if not path.exists() and virtual_mic.is_set_up(home):
            what = "no `live` runs here, and the virtual microphone is PipeWire's, out of a page's reach"
            raise Failure(what, remedy=f"steer it by {virtual_mic.STEERED}, or start `edge-denoise live`")
        return ask(path, message)

    return to_live


PANEL: Final = Command(
    "panel",
    "a page that shows and steers a running `live`",
    _arguments,
    _panel,
    examples=("edge-denoise panel", "edge-denoise panel --listen 192.168.1.20"),
    page="guide/panel.md",
)
