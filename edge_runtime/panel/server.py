"""The page and what it asks for. Nothing here touches sound: all goes through `live`'s control socket.

GET  /         the page
GET  /state    status, spectra since ?seen=N, temperature; 503 and one line while no `live` answers
POST /control  a message of the control socket, as JSON
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.machine import hottest_mc
from edge_runtime.panel.guard import Guard

Ask = Callable[[dict[str, Any]], dict[str, Any]]
MAX_BYTES: Final = 4096
_LINGER_S: Final = 1.0
_COUNT: Final = re.compile(r"[0-9]{1,15}")
COMMANDS: Final = ("set", "bypass", "reset")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def application(guard: Guard, to_live: Ask) -> Any:
    """A WSGI application."""
    import bottle

    app = bottle.Bottle()
    page = files("edge_runtime.panel").joinpath("page.html").read_text("utf-8")

    def refuse(status: int, line: str) -> Any:
        return bottle.HTTPResponse(f"{line}\n", status, {**_HEADERS, "Content-Type": "text/plain; charset=utf-8"})

    @app.hook("before_request")  # type: ignore[untyped-decorator]
    def check() -> None:
        sent = bottle.request.environ.get  # as it came: the headers that bottle decodes must be UTF-8
        token = sent("HTTP_X_TOKEN") or bottle.request.query.get("token") or ""
        line = guard.refusal(sent("HTTP_HOST", ""), sent("HTTP_ORIGIN"), token)
        if line:
            raise refuse(403, line)

    @app.hook("after_request")  # type: ignore[untyped-decorator]
    def protect() -> None:
        bottle.response.headers.update(_HEADERS)

    @app.get("/")  # type: ignore[untyped-decorator]
    def show() -> str:
        return page

    @app.get("/state")  # type: ignore[untyped-decorator]
    def state() -> Any:
        seen = bottle.request.query.get("seen", "0")
        return _answered(refuse, lambda: _state(to_live, int(seen) if _COUNT.fullmatch(seen) else 0))

    @app.post("/control")  # type: ignore[untyped-decorator]
    def control() -> Any:
        return _steered(refuse, to_live, bottle.request.environ)

    app.default_error_handler = lambda error: f"{error.status_line}\n"
    return app


def _steered(refuse: Callable[[int, str], Any], to_live: Ask, environ: dict[str, Any]) -> Any:
    """The length is looked at before a byte is read: what is not read is kept nowhere."""
    stated = environ.get("CONTENT_LENGTH") or "0"
    if not _COUNT.fullmatch(stated) or int(stated) > MAX_BYTES or "HTTP_TRANSFER_ENCODING" in environ:
        return refuse(413, f"a message has at most {MAX_BYTES} bytes, and says how many")
    try:
        message = msgspec.json.decode(environ["wsgi.input"].read(int(stated)))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return refuse(400, "a message is a line of JSON")
    except OSError:
        return refuse(408, "the message did not come")
    if not isinstance(message, dict) or message.get("command") not in COMMANDS:
        return refuse(400, f"a command is one of {', '.join(COMMANDS)}")
    return _answered(refuse, lambda: to_live(message)["status"])


def _answered(refuse: Callable[[int, str], Any], answer: Callable[[], dict[str, Any]]) -> Any:
    try:
        return answer()
    except Failure as failure:
        return refuse(503, str(failure))


def _state(to_live: Ask, n_seen: int) -> dict[str, Any]:
    shown = to_live({"command": "spectra", "seen": n_seen})
    heat_mc = hottest_mc()
    return {
        "status": shown["status"],
        "spectra": shown["spectra"],
        "temperature_c": None if heat_mc is None else round(heat_mc / 1000, 1),
    }


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who has left, or says nothing for so long, is no news."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def finish(self) -> None:
        """Who is refused while it still sends would lose the answer to a connection that is reset: what comes in the
        next second is let go by."""
        super().finish()
        end_s = time.monotonic() + _LINGER_S
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_LINGER_S)
            while time.monotonic() < end_s and self.connection.recv(1 << 16):
                pass

    def log_message(self, *_args: Any) -> None:
        """Ten requests a second are no news."""


def open_server(guard: Guard, to_live: Ask) -> WSGIServer:
    """Listening; `serve_forever` serves. Failure: the address or the port cannot be had."""

    class _OfFamily(_Server):
        address_family = 10 if ":" in guard.address else 2  # AF_INET6, AF_INET

    app = application(guard, to_live)
    try:
        return make_server(guard.address, guard.port, app, _OfFamily, _Quiet)
    except OSError as error:
        what = f"cannot listen on {guard.address} port {guard.port} ({error.strerror or error})"
        raise Failure(what, remedy="name another with --port, or an address of this machine with --listen") from error
