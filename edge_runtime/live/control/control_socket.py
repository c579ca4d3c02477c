"""The local control socket: one line of JSON in, one line of JSON out, for the owner of the process alone.

    {"command": "status"}
    {"command": "set", "strength": 0.7, "limit_db": 12, "gate_dbfs": null}      absent: as it is; null: off
    {"command": "bypass", "on": true}                                           without "on": the other way
    {"command": "reset"}                                                        the denoiser forgets
    {"command": "spectra", "seen": 0}                                           "spectra" too, of hops not yet seen

    {"ok": true, "status": {...}}      {"ok": false, "error": "one line"}

The socket's file is 0600 and the peer's user is asked of the kernel (SO_PEERCRED): the same user or root. A message has
at most MAX_BYTES; what is not understood is refused in one line. Nothing here touches the audio thread: settings are
one object, replaced whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.folders import named_folder
from edge_runtime.live.control import controls
from edge_runtime.live.control.controls import Settings
from edge_runtime.live.control.systemd import runtime_folder
from edge_runtime.live.status import Status

MAX_BYTES: Final = 4096
_SOCKET: Final = "edge-denoise.sock"
_RUN: Final = Path("/run")
_IDLE_S: Final = 5.0  # for a whole message
_MAX_CLIENTS: Final = 4  # at a time; others wait
_LOCK_TRIES: Final = 100
_LOCK_PAUSE_S: Final = 0.01
_STACK_BYTES: Final = 512 * 1024
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


class StatusCommand(msgspec.Struct, tag_field="command", tag="status", forbid_unknown_fields=True):
    """What the stream is doing."""


class SetCommand(msgspec.Struct, tag_field="command", tag="set", forbid_unknown_fields=True):
    """New settings; UNSET leaves one as it is, None switches it off."""

    strength: float | msgspec.UnsetType = msgspec.UNSET
    limit_db: float | msgspec.UnsetType | None = msgspec.UNSET
    gate_dbfs: float | msgspec.UnsetType | None = msgspec.UNSET


class BypassCommand(msgspec.Struct, tag_field="command", tag="bypass", forbid_unknown_fields=True):
    """On, off, or the other way."""

    on: bool | Literal["toggle"] = "toggle"


class ResetCommand(msgspec.Struct, tag_field="command", tag="reset", forbid_unknown_fields=True):
    """The denoiser forgets what it heard."""


class SpectraCommand(msgspec.Struct, tag_field="command", tag="spectra", forbid_unknown_fields=True):
    """A picture of the hops after the first `seen`, and the status."""

    seen: int = 0


class Answer(msgspec.Struct):
    """What comes back: the status, or why there is none."""

    ok: bool
    status: dict[str, Any] = {}
    spectra: dict[str, Any] = {}
    error: str = ""


Message = StatusCommand | SetCommand | BypassCommand | ResetCommand | SpectraCommand
_DECODER: Final = msgspec.json.Decoder(Message)
_ANSWERS: Final = msgspec.json.Decoder(Answer)


def apply(message: Message, status: Status) -> None:
    """Do what a message says. ValueError: a value out of range."""
    if isinstance(message, BypassCommand):
        on = message.on
        status.change(lambda now: now._replace(bypass=not now.bypass if on == "toggle" else on))
    elif isinstance(message, ResetCommand):
        status.wants_reset = True
    elif isinstance(message, SetCommand):
        status.change(partial(_with, message))


def _with(message: SetCommand, now: Settings) -> Settings:
    settings = now._replace(
        strength=_given(message.strength, now.strength, 1.0),
        limit_db=_given(message.limit_db, now.limit_db, inf),
        gate_dbfs=_given(message.gate_dbfs, now.gate_dbfs, -inf),
    )
    controls.check(settings)
    return settings


def _given(value: float | msgspec.UnsetType | None, now: float, off: float) -> float:
    return now if isinstance(value, msgspec.UnsetType) else off if value is None else value


def answer(line: bytes, status: Status) -> bytes:
    """The reply to one line; never an exception."""
    try:
        message = _DECODER.decode(line)
        apply(message, status)
    except (msgspec.MsgspecError, ValueError, UnicodeDecodeError, RecursionError) as error:
        return _line({"ok": False, "error": " ".join(str(error).split())})
    picture = {"spectra": status.heard.since(message.seen)} if isinstance(message, SpectraCommand) else {}
    return _line({"ok": True, "status": status.snapshot(), **picture})


def default_path() -> Path:
    """Where `live` listens: the service's or the user's run-time folder. Failure: there is none that may be written."""
    for folder in (runtime_folder(), *_users_folders()):
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return folder / _SOCKET
    raise Failure("no XDG_RUNTIME_DIR for the control socket", remedy="name one with --socket PATH")


def _users_folders() -> Iterator[Path]:
    """Run-time folders of this user."""
    if folder := named_folder("XDG_RUNTIME_DIR"):
        yield folder
    yield Path(f"/run/user/{os.getuid()}")


def listening_path() -> Path:
    """Where a stream of this user listens, or a service: of the user, or (root may ask it) of the machine.

    Failure: several services do, one a sound card.
    """
    places = [folder / place for folder in (*_users_folders(), _RUN) for place in (_SOCKET, f"edge-denoise/{_SOCKET}")]
    if heard := next((path for path in places if os.path.exists(path) and not _is_left(path)), None):
        return heard
    services = [path for path in sorted(_RUN.glob(f"edge-denoise/*/{_SOCKET}")) if not _is_left(path)]
    if len(services) > 1:
        named = ", ".join(map(str, services))
        raise Failure(f"{len(services)} services listen", remedy=f"name one with --socket: {named}")
    return services[0] if services else default_path()


class ControlServer:
    """Listens while it is open, in threads made at once: where memory is locked, making one takes milliseconds."""

    def __init__(self, path: Path, status: Status) -> None:
        """Failure: another process listens there, or the socket cannot be made."""
        self.path = path
        self._status = status
        self._socket = _listen(path)
        self._made = _identity(path)
        self._is_open = True
        before_bytes = threading.stack_size(_STACK_BYTES)
        for _ in range(_MAX_CLIENTS):
            threading.Thread(target=self._accept, name="control", daemon=True).start()
        threading.stack_size(before_bytes)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._is_open = False
        if _identity(self.path) == self._made:  # not another's, which came when somebody had removed this one
            self.path.unlink(missing_ok=True)
        self._socket.close()

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return  # closed
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                client.settimeout(_IDLE_S)
                if not _is_ours(client):
                    client.sendall(_line({"ok": False, "error": "this socket is another user's"}))
                    return
                _converse(client, lambda line: answer(line, self._status))
        except OSError:
            pass  # it left, or said nothing for too long


def ask(path: Path, message: dict[str, Any]) -> dict[str, Any]:
    """One message, one reply. Failure: nobody listens, it is refused, or the reply is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_IDLE_S)
            connection.connect(os.fspath(path))
            connection.sendall(_line(message))
            reply = connection.makefile("rb").readline(1 << 20)
    except PermissionError as error:
        raise Failure("is another user's", where=path, remedy=f"ask as {_owner(path)}, or as root: sudo") from error
    except OSError as error:
        remedy = "start `edge-denoise live`, or name its --socket"
        raise Failure(f"nobody answers ({error.strerror or error})", where=path, remedy=remedy) from error
    if not reply:
        raise Failure("it ended before it answered", where=path, remedy="start `edge-denoise live` again")
    try:
        answered = _ANSWERS.decode(reply)
    except msgspec.MsgspecError as error:
        raise Failure("the reply is no stream's", where=path, remedy="is it another program's socket?") from error
    if not answered.ok:
        raise Failure(f"refused: {answered.error}", where=path)
    return {"ok": True, "status": answered.status, "spectra": answered.spectra}


def _owner(path: Path) -> str:
    """Whose socket it is, as far as it can be seen."""
    import pwd

    try:
        return pwd.getpwuid(path.lstat().st_uid).pw_name
    except (OSError, KeyError):
        return "that user"


def _converse(client: socket.socket, reply_to: Callable[[bytes], bytes]) -> None:
    pending, began_s = b"", 0.0
    while chunk := client.recv(MAX_BYTES):
        now_s = time.monotonic()
        began_s = began_s if pending else now_s
        if now_s - began_s > _IDLE_S:
            return  # a byte now and then must not keep others waiting
        pending += chunk
        while (end := pending.find(b"\n")) >= 0:
            line, pending = pending[:end], pending[end + 1 :]
            if len(line) > MAX_BYTES:
                break
            client.sendall(reply_to(line))
        else:
            if len(pending) <= MAX_BYTES:
                continue
        client.sendall(_line({"ok": False, "error": f"a message has at most {MAX_BYTES} bytes"}))
        return


def _listen(path: Path) -> socket.socket:
    with _alone(path.parent):
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)  # born 0600: no moment at which others could connect
        try:
            listening.bind(os.fspath(path))
            listening.listen(_MAX_CLIENTS)
        except OSError as error:
            listening.close()
            what = f"the control socket cannot be made ({error.strerror or error})"
            remedy = "name another with --socket PATH, or none with --socket off"
            raise Failure(what, where=path, remedy=remedy) from error
        finally:
            os.umask(before)
    return listening


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other stream begins to listen in this folder meanwhile: one that is bound and does not listen yet looks dead.
    A folder that cannot be locked, or that somebody keeps locked, is no reason to have no sound."""
    with ExitStack() as stack:
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            _lock(lock)
        yield


def _lock(file: int) -> None:
    """In a second, or never. OSError: it cannot be locked."""
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_LOCK_PAUSE_S)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_stale(path: Path) -> None:
    """A socket that a killed process left. Failure: somebody listens, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise Failure("exists and is no socket", where=path, remedy="name another with --socket PATH")
    if not _is_left(path):
        remedy = "give this one its own --socket PATH"
        raise Failure("another `edge-denoise live` listens here", where=path, remedy=remedy)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        what = f"was left by another and cannot be removed ({error.strerror})"
        raise Failure(what, where=path, remedy="name another with --socket PATH") from error


def _is_left(path: Path) -> bool:
    """Whether nobody listens there any more. Who is busy, or another user, does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _is_ours(client: socket.socket) -> bool:
    _, uid, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return uid in (0, os.geteuid())


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"
