"""A board for the tests: an sshd of this user on a high port, and a wheel of this package made without a compiler."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import edge_runtime

SSHD = "/usr/sbin/sshd"
PRIVILEGE_SEPARATION = Path("/run/sshd")  # sshd wants it when it runs as root
RUNTIME = ("numpy", "soundfile", "cffi", "pycparser", "soxr", "msgspec", "tqdm")
START_S = 60.0  # an emulated one on a busy machine


@dataclass(frozen=True)
class Board:
    """How `quant deploy` gets to it. `root`, `python`: there."""

    folder: Path
    port: int
    user: str
    root: str
    python: str

    @property
    def arguments(self) -> list[str]:
        known = f"UserKnownHostsFile={self.folder}/known_hosts"
        ssh = [f"--port={self.port}", f"--identity={self.folder}/user_key", f"--ssh-option={known}"]
        return [f"{self.user}@127.0.0.1", *ssh, f"--root={self.root}", f"--python={self.python}"]


@contextmanager
def sshd(folder: Path, environment: Mapping[str, str], chroot: Path | None = None) -> Iterator[Board]:
    """A server with keys of its own that lets only our key in; commands there see `environment`.

    With `chroot`, that system's own sshd and Python; `folder` lies in it.
    """
    port = free_port()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_bytes((folder / "user_key.pub").read_bytes())
    host = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(exist_ok=True, mode=0o755)
    variables = " ".join(f'{name}="{value}"' for name, value in environment.items())
    inside = folder if chroot is None else Path("/") / folder.relative_to(chroot)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {inside}/host_key\nAuthorizedKeysFile {inside}/authorized\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv {variables}\n"
    )
    enter = [] if chroot is None else ["chroot", str(chroot)]
    python = sys.executable if chroot is None else "/usr/bin/python3"
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([*enter, SSHD, "-D", "-e", "-f", str(inside / "sshd_config")], stderr=log)
        try:
            wait_for(port, server, folder / "sshd.log")
            yield Board(folder, port, getpass.getuser(), str(inside / "root"), python)
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path, limit_s: float = START_S) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"sshd did not start: {log.read_text()}")


def dependencies(folder: Path, names: tuple[str, ...]) -> Path:
    """A folder with links to installed packages: what a board has from its distribution."""
    folder.mkdir()
    for name in names:
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(metadata.distribution(name).locate_file(top))
    return folder


def wheel(folder: Path, platform: str, library: Path | None = None, broken: bool = False) -> Path:
    """The runtime as a wheel; `library`: the compiled engine for that platform; `broken`: its program fails."""
    version, root = edge_runtime.__version__, Path(edge_runtime.__file__).parent.parent
    path = folder / f"edge_denoise-{version}-py3-none-{platform}.whl"
    info = f"edge_denoise-{version}.dist-info"
    requires = [r for r in metadata.requires("edge-denoise") or [] if "extra ==" not in r]
    texts = {
        f"{info}/METADATA": "".join(
            f"{line}\n"
            for line in (
                "Metadata-Version: 2.1",
                "Name: edge-denoise",
                f"Version: {version}",
                *(f"Requires-Dist: {r}" for r in requires),
            )
        ),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{platform}\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedge-denoise = edge_runtime.cli:main\n",
    }
    sources = [path for part in ("edge_runtime", "boards") for path in sorted((root / part).rglob("*.*"))]
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in sources if p.suffix in (".py", ".toml")}
    if library is not None:
        files["edge_runtime/native/libedge_denoise.so"] = library.read_bytes()
    if broken:
        files["edge_runtime/engines/golden.py"] += b"\nraise SystemExit('golden.py: broken on purpose')\n"
    with zipfile.ZipFile(path, "w") as archive:
        names = [*files, *texts]
        for name, data in {**files, **{name: text.encode() for name, text in texts.items()}}.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*names, f"{info}/RECORD"]))
    return path


# What pip makes of one wheel whose needs are met, in a tenth of the time; as of a runtime that has no `doctor` yet,
# which is tried once.
QUICK_PIP = '''import pathlib, sys, sysconfig, zipfile
wheel, scripts = sys.argv[-1], pathlib.Path(sysconfig.get_path("scripts"))
zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib"))
program = scripts / "edge-denoise"
program.write_text(f"""#!{sys.executable}
import sys
if sys.argv[1:] == ["--help"]:
    sys.exit()
from edge_runtime.cli import main
sys.exit(main())
""")
program.chmod(0o755)
'''


def write_quick_pip(folder: Path) -> None:
    """Beside the board's packages, for `quick_pip`."""
    made = folder / "quick-pip"
    made.mkdir()
    (made / "__main__.py").write_text(QUICK_PIP)
    (made / "__init__.py").touch()


@contextmanager
def quick_pip(board: Board) -> Iterator[None]:
    """The board's `pip` is the quick one."""
    pip = board.folder / "packages" / "pip"
    real = pip.readlink()
    pip.unlink()
    pip.symlink_to(board.folder / "quick-pip")
    try:
        yield
    finally:
        pip.unlink()
        pip.symlink_to(real)
