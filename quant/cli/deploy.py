"""`quant deploy`: parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.command import Answer, Command, whole
from edge_runtime.errors import Failure
from edge_runtime.install import DEFAULT_ROOT
from quant.cli.options import network_name, port
from quant.cli.output import Stages, say, table

if TYPE_CHECKING:
    from quant.deploy.release import Settings

EXTRAS: Final = ("onnx", "litert", "tflite")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", metavar="USER@BOARD", help="as for ssh")
    parser.add_argument("--target", metavar="BOARD", help="a board of `quant boards`, or a .toml file")
    network_name(parser)
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: where `build` puts it, built if not there")
    wheels = "where the runtime's wheels are; default: dist, where `make wheels` leaves them"
    parser.add_argument("--wheels", type=Path, default=Path("dist"), metavar="DIR|FILE", help=wheels)
    needed = "download what the runtime needs there, NumPy and others, and bring it along: the board asks no network"
    parser.add_argument("--with-deps", action="store_true", help=needed)
    extra = "an engine, or ALSA, to install as well; default: the native engine alone, which the runtime brings"
    parser.add_argument("--extra", action="append", default=[], choices=EXTRAS, help=extra)
    service = parser.add_mutually_exclusive_group()
    service.add_argument("--service", action="store_true", help="run `edge-denoise live` as a systemd unit of the user")
    service.add_argument("--unit", type=Path, metavar="FILE", help="bring a user unit of your own")
    parser.add_argument("--capture", metavar="PCM", help="for --service; default: the board's")
    parser.add_argument("--playback", metavar="PCM", help="for --service; default: the board's")
    made = "a release made by `quant bundle`, instead of one made here of artifact, wheels and unit"
    parser.add_argument("--bundle", type=Path, metavar="FILE", help=made)
    key = "public key that must have signed the release (--bundle, --sign); the board takes no other from then on"
    parser.add_argument("--key", type=Path, metavar="PUB", help=key)
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign the release with this private key")
    parser.add_argument("--number", type=whole(1, 2**31), default=0, metavar="N", help="of the release; default: none")
    older = "also a release that is older than what was current there, by its number or because it was replaced"
    parser.add_argument("--allow-older", action="store_true", help=older)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    what.add_argument("--rollback", action="store_true", help="make the release before the current one current again")
    parser.add_argument("--port", type=port, metavar="N", help="default: ssh's")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="private key; default: ssh's")
    parser.add_argument("--ssh-option", action="append", default=[], metavar="NAME=VALUE", help="as for ssh -o")
    parser.add_argument("--python", default="python3", metavar="NAME", help="the Python there; default: python3")
    root = f"folder there, from the home directory; default: {DEFAULT_ROOT}"
    parser.add_argument("--root", default=DEFAULT_ROOT, metavar="DIR", help=root)


def _run(args: argparse.Namespace) -> Answer:
    """Deploy, roll back, or say how it would be done."""
    from quant.deploy import release

    if args.target is None and not args.rollback:
        raise Failure("--target is missing", remedy="name a board of `quant boards`")
    settings = _settings(args)
    if args.rollback:
        return _told(args, release.rollback(settings, say))
    if args.dry_run:
        commands = release.dry_run(settings)
        return Answer({"commands": commands}, commands)
    if args.model is None and args.bundle is None and not settings.artifact.exists():
        from quant.build import settings as build_settings
        from quant.build import stages
        from quant.cli.build import USUAL_S
        from quant.inputs.source import Inputs

        say(f"{settings.artifact}: not there yet, building it")
        inputs = Inputs(network=args.network)
        with Stages(USUAL_S) as said:
            stages.build(build_settings.Settings(target=args.target, inputs=inputs), said)
    return _told(args, release.deploy(settings, say))


def _settings(args: argparse.Namespace) -> Settings:
    from quant.deploy.release import Settings
    from quant.deploy.ssh import Address
    from quant.network.registry import built_folder

    address = Address(args.destination, args.port, args.identity, tuple(args.ssh_option))
    target = args.target or ""
    artifact = args.model if args.model is not None else built_folder(target, args.network)
    return Settings(
        address=address,
        target=target,
        artifact=artifact,
        wheels=args.wheels,
        with_deps=args.with_deps,
        extras=tuple(args.extra),
        unit=args.unit,
        service=args.service,
        capture=args.capture,
        playback=args.playback,
        bundle=args.bundle,
        key=args.key,
        sign=args.sign,
        number=args.number,
        allow_older=args.allow_older,
        python=args.python,
        root=args.root,
    )


def _told(args: argparse.Namespace, told: dict[str, Any]) -> Answer:
    return Answer(told, _lines(args.destination, told))


def _lines(destination: str, told: dict[str, Any]) -> Iterator[str]:
    """The steps; what the golden vectors said, by engine; of doctor what is not well."""
    details = {name: step["detail"] for name, step in told["steps"].items()}
    rows = [(name, f"{step['s']:.1f}", _in_words(step["detail"])) for name, step in told["steps"].items()]
    yield from table(("step", "s", ""), rows)
    if golden := _rows(details.get("verify"), "golden"):
        yield from table(("engine", "precision", ""), [(r["engine"], r["precision"], _verdict(r)) for r in golden])
    checks = [row for row in _rows(details.get("doctor"), "rows") if row["status"] != "ok"]
    if checks:
        columns = ("status", "check", "found", "remedy")
        yield from table(columns, [[str(row[column]) for column in columns] for row in checks])
    kept = f"; {told['previous']} is kept for --rollback" if told["previous"] else ""
    yield f"{destination}: {told['current']} is current{kept}"


def _rows(detail: Any, name: str) -> list[dict[str, Any]]:
    """Of what an older runtime there may tell in another way."""
    rows = detail.get(name) if isinstance(detail, dict) else None
    return [row for row in rows or () if isinstance(row, dict)]


def _verdict(row: dict[str, Any]) -> str:
    """As `quant verify` has it: an engine that died is no breach."""
    verdicts = {True: "ok", False: "BREACH", None: "not run: engine not installed"}
    return str(row.get("error") or verdicts[row["ok"]])


def _in_words(detail: Any) -> str:
    """On one line: rows are counted, and printed below."""
    if not isinstance(detail, dict):
        return ""
    if checks := _rows(detail, "rows"):
        return ", ".join(f"{sum(row['status'] == each for row in checks)} {each}" for each in ("ok", "warn", "fail"))
    if golden := _rows(detail, "golden"):
        return f"{sum(row['ok'] is True for row in golden)} of {len(golden)} models ok"
    return ", ".join(f"{key}: {_plainly(value)}" for key, value in detail.items() if value not in (None, []))


def _plainly(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


DEPLOY: Final = Command(
    "deploy",
    "put an artifact and the runtime on a board over ssh, proven there before it becomes current",
    _arguments,
    _run,
    examples=(
        "quant deploy pi@raspberrypi.local --target rpi4",
        "quant deploy pi@raspberrypi.local --target rpi4 --service --dry-run",
    ),
    page="guide/deploy.md",
    takes_long=True,
)
