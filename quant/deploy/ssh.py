"""The system's own ssh as the way to a board: one connection, never a prompt, every failure with its remedy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from edge_runtime.errors import Failure

CONNECTION_FAILED: Final = 255  # ssh's own status; any other is the command's
CONNECT_TIMEOUT_S: Final = 15
PERSIST_S: Final = 60
_BLOCK_BYTES: Final = 1 << 16
# A socket's path has 108 bytes: a zero, /qd-........, /c, and what ssh adds while it makes it.
_LONGEST_FOLDER_BYTES: Final = 108 - 1 - len("/qd-12345678") - len("/c") - len(".1234567890123456")
_LONG_BYTES: Final = 1 << 22  # smaller files are sent before a progress bar is read
# What ssh says -> what helps; the first that is found.
_REMEDIES: Final = (
    ("Permission denied", "put your public key there with ssh-copy-id, or name the private one with --identity"),
    ("Host key verification failed", "connect once with ssh by hand and compare the key's fingerprint"),
    ("REMOTE HOST IDENTIFICATION", "connect once with ssh by hand; if the board is new, `ssh-keygen -R HOST`"),
    ("Connection refused", "enable ssh there (raspi-config, Interface Options), or give another --port"),
    ("Could not resolve", "give its address, or NAME.local"),
    ("timed out", "see that the board is on and on this network"),
    ("No route to host", "see that the board is on and on this network"),
    ("Bad configuration option", "mend the --ssh-option"),
    ("not accessible", "name another --identity"),
)


@dataclass(frozen=True)
class Address:
    """Where a board is and how ssh gets in; `options` are those of ssh_config, as Name=value."""

    destination: str
    port: int | None = None
    identity: Path | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^\s-]\S*", self.destination):
            raise Failure(f"not a destination: {self.destination!r}", remedy="give it as user@board")

    def ssh(self, control: str) -> list[str]:
        """The ssh command line up to the remote command."""
        ours = [
            "BatchMode=yes",
            f"ConnectTimeout={CONNECT_TIMEOUT_S}",
            "ControlMaster=auto",
            f"ControlPath={control}",
            f"ControlPersist={PERSIST_S}",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
        ]
        named = [part for option in (*self.options, *ours) for part in ("-o", option)]  # ssh takes the first it meets
        port = ["-p", str(self.port)] if self.port is not None else []
        identity = ["-i", str(self.identity), "-o", "IdentitiesOnly=yes"] if self.identity is not None else []
        return ["ssh", *named, *port, *identity, "--", self.destination]


class Remote:
    """A board while it is connected: the first command opens the connection, the others share it."""

    def __init__(self, address: Address) -> None:
        if shutil.which("ssh") is None:
            raise Failure("no ssh here", remedy="install it (Debian: apt install openssh-client)")
        self.address = address
        self._folder = tempfile.TemporaryDirectory(prefix="qd-", dir=short_folder())
        self._ssh = address.ssh(f"{self._folder.name}/c")

    @property
    def name(self) -> str:
        """Whom messages name."""
        return self.address.destination

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        *ssh, dashes, destination = self._ssh
        subprocess.run([*ssh, "-O", "exit", dashes, destination], capture_output=True)
        self._folder.cleanup()

    def run(self, command: str, text: str = "") -> str:
        """Standard output of a shell's command that reads `text`. Failure: no connection, or the command failed."""
        done = subprocess.run([*self._ssh, command], input=text, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            raise self._failure(done.returncode, done.stderr)
        return done.stdout

    def lines(self, command: str) -> Iterator[str]:
        """Lines of standard output as they come. Failure at the end, if the command failed."""
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
            with subprocess.Popen([*self._ssh, command], text=True, errors="replace", **streams) as process:  # type: ignore[call-overload]
                yield from process.stdout
            if process.returncode != 0:
                errors.seek(0)
                raise self._failure(process.returncode, errors.read())

    def send(self, path: Path, to: str) -> None:
        """A file, through the same connection and with progress; `to` is there whole or not at all.

        Not scp: that needs an SFTP server there, which small systems leave out.
        """
        with path.open("rb") as file, tempfile.TemporaryFile("w+", errors="replace") as errors:
            argv = [*self._ssh, receiving(to)]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=errors, stderr=errors) as process:
                _pump(file, process.stdin, path.stat().st_size)
            if process.returncode != 0:
                errors.seek(0)
                raise self._failure(process.returncode, errors.read())

    def _failure(self, status: int, errors: str) -> Failure:
        """What ssh or the command said, on one line, and what helps."""
        lines = [line.strip().removeprefix(f"{self.name}: ") for line in errors.splitlines()]
        said = [line for line in lines if line and "Connection to" not in line]
        if status != CONNECTION_FAILED:
            return Failure(said[-1] if said else f"a command ended with status {status}", where=self.name)
        for sign, remedy in _REMEDIES:
            if line := next((line for line in said if sign in line), None):
                return Failure(line, where=self.name, remedy=remedy)
        return Failure(said[-1] if said else "the connection ended", where=self.name, remedy="try it with ssh by hand")


def short_folder(folders: Sequence[str] | None = None) -> str:
    """For ssh's socket: that of temporary files, else the usual ones. Failure: none is short enough."""
    folders = folders or (tempfile.gettempdir(), "/tmp", "/var/tmp")
    for folder in folders:
        if len(os.fsencode(folder)) <= _LONGEST_FOLDER_BYTES and os.access(folder, os.W_OK | os.X_OK):
            return folder
    what = f"ssh's socket has room in a folder of {_LONGEST_FOLDER_BYTES} bytes at most"
    raise Failure(what, where=folders[0], remedy="set TMPDIR to a folder with a shorter name")


def receiving(to: str) -> str:
    """The shell's command that writes its input to `to`, whole or not at all."""
    folder, part, whole = (shlex.quote(str(p)) for p in (Path(to).parent, f"{to}.part", to))
    return f"mkdir -p {folder} && cat >{part} && mv {part} {whole}"


def _pump(file: IO[bytes], pipe: IO[bytes] | None, n_bytes: int) -> None:
    """File to pipe, with a bar on a terminal; a far side that ends early tells why itself."""
    from tqdm import tqdm

    assert pipe is not None
    hidden = n_bytes < _LONG_BYTES or not sys.stderr.isatty()
    with tqdm(total=n_bytes, unit="B", unit_scale=True, leave=False, disable=hidden) as bar:
        with suppress(BrokenPipeError):
            while block := file.read(_BLOCK_BYTES):
                pipe.write(block)
                bar.update(len(block))
        with suppress(BrokenPipeError):
            pipe.close()
