"""`quant deploy`: an artifact and the runtime in one bundle, over ssh, proven on the board before it becomes current.

here     the artifact is checked -> the board's Python is asked what it is -> its wheels -> one bundle
there    SHA-256 -> unpack -> environment -> golden vectors -> switch -> service   (edge_runtime/install/receive.py)
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import boards
from boards import Board
from edge_runtime.alsa.cards import ELSEWHERE, number_note
from edge_runtime.errors import Failure
from edge_runtime.install import DEFAULT_ROOT
from edge_runtime.install import bundle as packing
from edge_runtime.install.receive import ID_CHARACTERS
from edge_runtime.install.service import users_unit
from edge_runtime.manifest import open_artifact
from edge_runtime.quiet import Progress
from edge_runtime.quoting import below_home
from quant.artifact import bundle, signing
from quant.artifact.signing import Seal
from quant.deploy import board_python
from quant.deploy.board_python import BoardPython
from quant.deploy.ssh import Address, Remote, receiving

UNIT: Final = "edge-denoise.service"
ROOM: Final = 6  # times the bundle: itself, unpacked, and installed, where wheels are compressed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for.

    bundle   a release that is made already; else one is made of `artifact`, wheels and unit
    key      the public key that must have signed the release; `sign`: the private key to sign it with
    number   of a release that is made here; 0 is none
    root     a folder there, from the home directory if it is relative
    """

    address: Address
    target: str
    artifact: Path
    wheels: Path = Path("dist")
    with_deps: bool = False
    extras: tuple[str, ...] = ()
    unit: Path | None = None
    service: bool = False
    capture: str | None = None
    playback: str | None = None
    bundle: Path | None = None
    key: Path | None = None
    sign: Path | None = None
    number: int = 0
    allow_older: bool = False
    python: str = "python3"
    root: str = DEFAULT_ROOT

    def __post_init__(self) -> None:
        if self.service and self.unit is not None:
            raise Failure("--service writes a unit, --unit brings one", remedy="give one of both")
        if not self.service and (self.capture or self.playback):
            raise Failure("--capture and --playback are for the unit", remedy="give --service too")
        if self.bundle is not None and (self.service or self.unit or self.with_deps or self.number):
            raise Failure("--bundle brings its wheels, units and number", remedy="give them to `quant bundle`")


def deploy(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Make the artifact current on the board; what was done there, step by step.

    Failure: any step; then what was current before is current still.
    """
    board = boards.load(settings.target)
    if settings.bundle is None:
        check_artifact(settings)
        _note_numbers(settings, board, progress)
    with Remote(settings.address) as remote, tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "release.bundle"
        release = None if settings.bundle is None else _release(settings, path)  # before anybody is asked
        progress(f"connecting to {settings.address.destination}")
        python = board_python.parse(remote.run(f"{shlex.quote(settings.python)} -", board_python.PROBE), remote.name)
        progress(f"{python.architecture}, Python {python.python[0]}.{python.python[1]}: making the bundle")
        if release is None:
            bundle.write(contents(settings, board, python, path.parent), path, number=settings.number)
            release = _release(settings, path)
        sha256, seal = release
        n_bytes = path.stat().st_size
        if python.free_bytes < ROOM * n_bytes:
            what = f"{python.free_bytes / 2**20:.0f} MiB free, about {ROOM * n_bytes / 2**20:.0f} are needed"
            raise Failure(what, where=remote.name, remedy="make room there")
        progress(f"sending {n_bytes / 2**20:.1f} MiB")
        with _at_step("copy"):
            remote.send(path, incoming(settings, sha256))
        with _at_step("check"):
            remote.run(checking(settings, sha256))
        told = _follow(remote, installing(settings, sha256, seal), progress)
    return {"bytes": n_bytes, "sha256": sha256, **told}


def _release(settings: Settings, path: Path) -> tuple[str, Seal | None]:
    """The bundle that was brought, or made at `path`, as it then lies there; its SHA-256, and who vouches for it.

    What is checked is what lies in it, whatever became of the files that it was made of.
    Failure: the artifact in it is not as built, for another board, or the signature does not fit.
    """
    with packing.snapshot(settings.bundle or path) as taken:
        data = b"".join(taken.blocks())
        seal = _seal(settings, settings.bundle or path, data)
        packing.unpack(taken, path.parent / "seen", lambda folder: _check_inside(settings, folder / "artifact"))
        path.write_bytes(data)
    return taken.sha256, seal


def _seal(settings: Settings, path: Path, data: bytes) -> Seal | None:
    if settings.sign is not None:
        seal = signing.seal(data, settings.sign)
        _check_pair(settings, seal.key)
        return seal
    return signing.seal_of(path, data, settings.key) if settings.key is not None else None


def _check_inside(settings: Settings, artifact: Path) -> None:
    try:
        check_artifact(replace(settings, artifact=artifact))
    except Failure as failure:
        raise Failure(failure.reason, where=settings.bundle or settings.artifact, remedy=failure.remedy) from None


def rollback(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Make the release before the current one current again. Failure: none is kept, or it does not work."""
    with Remote(settings.address) as remote:
        progress(f"connecting to {settings.address.destination}")
        with _at_step("find"):
            current = shlex.quote(f"{settings.root}/current")
            remote.run(f"test -e {current} || {{ echo nothing is deployed here >&2; false; }}")
        return _follow(remote, rolling_back(settings), progress)


def dry_run(settings: Settings) -> list[str]:
    """The commands of a deployment, with what the board's TOML says of its Python; nothing is run and nobody asked."""
    board = boards.load(settings.target)
    if settings.bundle is None:
        check_artifact(settings)
        made = _bundling(settings, board)
    else:
        made = shlex.join(["cp", str(settings.bundle), "release.bundle"])
    ssh = shlex.join(settings.address.ssh("CONTROL"))
    return [
        f"{ssh} {shlex.quote(f'{settings.python} -')}    # asks for machine, C library and version",
        f"{made}    # its SHA-256 starts with ID",
        f"{ssh} {shlex.quote(receiving(incoming(settings, 'ID')))} <release.bundle",
        f"{ssh} {shlex.quote(checking(settings, 'SHA256').replace('SHA256.bundle', 'ID.bundle'))}",
        f"{ssh} {shlex.quote(installing(settings, 'ID'))}",
    ]


def _bundling(settings: Settings, board: Board) -> str:
    wheels = [str(board_python.own_wheel(settings.wheels, board_python.assumed(board)))]
    words = ["quant", "bundle", str(settings.artifact)]
    for wheel in [*wheels, *(["EACH_IT_NEEDS"] if settings.with_deps else [])]:
        words += ["--wheel", wheel]
    if settings.unit or settings.service:
        words += ["--unit", str(settings.unit or UNIT)]
    return shlex.join([*words, "-o", "release.bundle"])


def check_artifact(settings: Settings) -> None:
    """Failure unless the artifact is whole, for this board, and, if a key is given, in signed hands."""
    artifact = open_artifact(settings.artifact)
    artifact.check_whole()
    if settings.key is not None and settings.bundle is None:
        signing.verify(settings.artifact, settings.key)
        _check_signs(settings)
    built_for, wanted = artifact.manifest.board, Path(settings.target).stem
    if built_for != wanted:
        remedy = f"build it with `quant build --target {shlex.quote(settings.target)}`, or name another with --model"
        raise Failure(f"built for {built_for}, not for {wanted}", where=settings.artifact, remedy=remedy)


def _check_signs(settings: Settings) -> None:
    """Failure unless the release that is made here will be signed, by the key that was named as far as can be seen
    without a passphrase."""
    if settings.sign is None:
        remedy = "sign the release with --sign, or bring a signed one with --bundle"
        raise Failure("--key vouches for the artifact alone, not for wheels and unit", remedy=remedy)
    if (public := signing.public_of(settings.sign)).exists():
        _check_pair(settings, signing.raw_key(public))


def _check_pair(settings: Settings, signer: bytes) -> None:
    if settings.key is not None and signing.raw_key(settings.key) != signer:
        raise Failure("--key and --sign are not of one pair", where=settings.sign, remedy="name the two of one pair")


def contents(settings: Settings, board: Board, python: BoardPython, scratch: Path) -> dict[str, bytes]:
    """The members of the bundle."""
    wheel = board_python.own_wheel(settings.wheels, python)
    needed: list[Path] = []
    if settings.with_deps:
        (scratch / "wheels").mkdir()
        needed = board_python.download(wheel, settings.extras, python, scratch / "wheels")
    units = [settings.unit] if settings.unit is not None else []
    if settings.service:
        (scratch / UNIT).write_text(unit_text(settings, board))
        units = [scratch / UNIT]
    return bundle.members(settings.artifact, [wheel, *needed], units)


def unit_text(settings: Settings, board: Board) -> str:
    """A unit of the user's own systemd: it needs no root, and follows what `current` names."""
    current = f"{settings.root}/current"
    capture, playback = settings.capture or board.alsa.capture, settings.playback or board.alsa.playback
    program, model = below_home(f"{current}/venv/bin/edge-denoise"), below_home(f"{current}/artifact")
    return users_unit(program, model, capture, playback)


def _note_numbers(settings: Settings, board: Board, progress: Progress) -> None:
    """A line for each device of the unit that goes by its card's number. The board's cards are not known here."""
    for option, given, default in (
        ("--capture", settings.capture, board.alsa.capture),
        ("--playback", settings.playback, board.alsa.playback),
    ):
        if settings.service and (note := number_note(option, given or default, ELSEWHERE)):
            progress(f"note: {note}")


def incoming(settings: Settings, sha256: str) -> str:
    """Where the bundle goes there."""
    return f"{settings.root}/incoming/{sha256[:ID_CHARACTERS]}.bundle"


def checking(settings: Settings, sha256: str) -> str:
    """The shell's command that fails unless the bundle arrived as it was sent."""
    line = f"{sha256}  {incoming(settings, sha256)}"
    return f"printf '%s\\n' {shlex.quote(line)} | sha256sum -c - >/dev/null"


def installing(settings: Settings, sha256: str, seal: Seal | None = None) -> str:
    """The command that puts it in place: the bundle itself; or, where a key is trusted, the release that is current."""
    words = ["--bundle", incoming(settings, sha256), "--root", settings.root]
    words += [part for extra in settings.extras for part in ("--extra", extra)]
    words += ["--key", seal.key.hex(), "--signature", seal.signature.hex()] if seal else []
    words += ["--allow-older"] if settings.allow_older else []
    trusted, current = (shlex.quote(f"{settings.root}/{name}") for name in ("trusted", "current"))
    by = f"$(test -e {trusted} && echo {current} || echo {shlex.quote(incoming(settings, sha256))})"
    return f'{shlex.quote(settings.python)} "{by}" install {shlex.join(words)}'


def rolling_back(settings: Settings) -> str:
    """The same program, as the current release left it there."""
    return shlex.join([settings.python, f"{settings.root}/current", "rollback", "--root", settings.root])


def _follow(remote: Remote, command: str, progress: Progress) -> dict[str, Any]:
    """Tell each step as it begins; what the board said at last. Failure: with the step, and what is current."""
    steps, last, ending = {}, {}, None
    try:
        for line in remote.lines(command):
            if not line.startswith("{"):
                continue  # a login script's greeting
            last = json.loads(line)
            if last.get("done") is False:
                progress(f"{remote.name}: {last['step']}")
            elif last.get("done"):
                steps[last["step"]] = {"s": last["s"], "detail": last["detail"]}
    except Failure as failure:
        ending = failure
    if last.get("ok"):
        return {"current": last["current"], "previous": last["previous"], "steps": steps}
    if last.get("ok") is False:
        still = f"{last['current']} is current as before" if last["current"] else "nothing is current, as before"
        raise Failure(f"step {last['step']}: {last['error']}; {still}", where=remote.name)
    raise Failure(
        f"step {last.get('step', 'start')}: {ending or 'it ended without a word'}",
        remedy="run it again: a release becomes current at the last step only",
    )


@contextmanager
def _at_step(step: str) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        raise Failure(f"step {step}: {failure}") from None
