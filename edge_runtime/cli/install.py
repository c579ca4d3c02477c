"""`edge-denoise install` and `uninstall`: shows what it will do, asks, does it, and can take it back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.cli import options
from edge_runtime.command import Answer, Command, number
from edge_runtime.errors import Failure

if TYPE_CHECKING:
    from edge_runtime.install.edits import Edit
    from edge_runtime.install.receipt import Place
    from edge_runtime.manifest import Artifact

_HEARD: Final = ("channels", "band", "input_gain_db", "highpass")  # options of `live` that a service has as well
_ONLY_FOR: Final = {
    "source": "virtual_mic",
    "alsa_source": "virtual_mic",
    "strength": "virtual_mic",
    "capture": "service",
    "playback": "service",
    **dict.fromkeys(_HEARD, "service"),
}


def _install_arguments(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    options.model(parser)
    parser.add_argument("--source", metavar="NODE", help="PipeWire node to denoise; default: the default microphone")
    parser.add_argument("--alsa-source", metavar="PCM", help="ALSA device to denoise; default: default")
    strength = "of the virtual microphone, 0 (as it is) to 1 (wholly denoised); default: 1"
    parser.add_argument("--strength", type=number(0, 1), metavar="X", help=strength)
    parser.add_argument("--capture", metavar="PCM", help="the service's ALSA input; default: default")
    parser.add_argument("--playback", metavar="PCM", help="the service's ALSA output; default: default")
    parser.add_argument("--channels", metavar="C", help=f"the service's: {options.CHANNELS}")
    parser.add_argument("--band", choices=("full", "speech"), help="the service's: as `live` has it")
    options.microphone_as_typed(parser)
    _add_how(parser)


def _uninstall_arguments(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    _add_how(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--virtual-mic", action="store_true", help="for this user: plugin, PipeWire and ALSA files")
    what.add_argument("--service", action="store_true", help="for the machine: a systemd unit of `edge-denoise live`")


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, metavar="DIR", help="instead of the home folder, or of / for the service")
    parser.add_argument("--dry-run", action="store_true", help="show it, do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="also replace or remove what was changed since")


def _install(args: argparse.Namespace) -> Answer:
    """Failure: see `edits.plan_install` and `edits.install`; nothing is half-written."""
    from edge_runtime.install import service, virtual_mic
    from edge_runtime.install.edits import install, plan_install
    from edge_runtime.install.receipt import load_receipt
    from edge_runtime.manifest import open_artifact

    for option, what in _ONLY_FOR.items():
        if getattr(args, option) is not None and not getattr(args, what):
            names = [f"--{name.replace('_', '-')}" for name in (option, what)]
            raise Failure(f"{names[0]} is for {names[1]}", remedy="leave it out")
    options.note_numbers(args, "alsa_source", "capture", "playback")
    place = _place(args)
    artifact = open_artifact(args.model)
    if args.virtual_mic:
        changes = virtual_mic.changes(
            place.root,
            artifact,
            args.source,
            args.alsa_source or "default",
            1.0 if args.strength is None else args.strength,
        )
    else:
        own = None if args.model is None else artifact.directory
        devices = args.capture or "default", args.playback or "default"
        changes = service.changes(place.root, own, *devices, _heard(args))
    old = load_receipt(place)
    edits, made = plan_install(place, changes, old, force=args.force)
    next_step = virtual_mic.next_step() if args.virtual_mic else service.NEXT_STEP
    return _asked(args, edits, next_step, lambda: install(edits, made, old, place), artifact)


def _heard(args: argparse.Namespace) -> list[str]:
    """Options of `live` as they were typed. Failure: no such channels."""
    from edge_runtime.live.channels import Channels, count_of

    if args.channels is not None:
        Channels.parse(args.channels, count_of(args.capture or "default") if args.channels == "all" else None)
    given = {name: getattr(args, name) for name in _HEARD}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]


def _uninstall(args: argparse.Namespace) -> Answer:
    """Failure: nothing is installed, or something was changed since."""
    from edge_runtime.install.edits import plan_uninstall, uninstall
    from edge_runtime.install.receipt import load_receipt

    place = _place(args)
    receipt = load_receipt(place)
    if receipt is None:
        raise Failure("nothing is installed here", where=(place.root / place.receipt).parent)
    edits = plan_uninstall(place, receipt, force=args.force)
    next_step = "`systemctl --user restart pipewire`" if args.virtual_mic else "`systemctl daemon-reload`"
    return _asked(args, edits, next_step, lambda: uninstall(edits, receipt, place))


def _place(args: argparse.Namespace) -> Place:
    from edge_runtime.folders import PIPEWIRE_FILE
    from edge_runtime.install import service, virtual_mic
    from edge_runtime.install.receipt import Place

    root = _default_root(args) if args.root is None else args.root.absolute()
    if args.virtual_mic:
        return Place(root, virtual_mic.RECEIPT, virtual_mic.FILES, PIPEWIRE_FILE)
    return Place(root, service.RECEIPT, service.FILES)


def _default_root(args: argparse.Namespace) -> Path:
    from edge_runtime.folders import home_folder

    if not args.virtual_mic:
        return Path("/")
    home = home_folder()
    if not home.is_absolute():
        raise Failure(f"HOME is {str(home)!r}, not the path of a home folder", remedy="set it, or give --root DIR")
    return home


def _asked(
    args: argparse.Namespace,
    edits: Sequence[Edit],
    next_step: str,
    make: Callable[[], object],
    artifact: Artifact | None = None,
) -> Answer:
    """The edits; once they were shown they are made, if that is wanted."""
    from edge_runtime.install.edits import edit_lines, edit_record

    def then() -> None:
        if _agreed(args):
            make()

    value = {"dry_run": args.dry_run, "edits": [edit_record(edit) for edit in edits], "next": next_step}
    lines = [*(line for edit in edits for line in edit_lines(edit)), f"next: {next_step}"]
    if artifact is not None:
        value["model"] = artifact.name
        lines.insert(0, options.model_line(artifact))
    return Answer(value, lines, then=then)


def _agreed(args: argparse.Namespace) -> bool:
    """Whether to make the edits. Failure: nobody can be asked, or the answer is no."""
    if args.dry_run or args.yes:
        return not args.dry_run
    if not sys.stdin.isatty():
        raise Failure("nothing was changed", remedy="pass --yes to do it, or --dry-run to only look")
    print("do this? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was changed")
    return True


INSTALL: Final = Command(
    "install",
    "set up a virtual microphone or a service",
    _install_arguments,
    _install,
    examples=(
        "edge-denoise install --virtual-mic",
        "edge-denoise install --service --model build/rpi4 --dry-run",
    ),
    page="guide/virtual-mic.md",
)
UNINSTALL: Final = Command(
    "uninstall",
    "take back what install did",
    _uninstall_arguments,
    _uninstall,
    examples=(
        "edge-denoise uninstall --virtual-mic",
        "edge-denoise uninstall --service --yes",
    ),
    page="guide/virtual-mic.md",
)
