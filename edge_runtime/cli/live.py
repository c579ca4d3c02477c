"""`edge-denoise live` and `edge-denoise ctl`: what is typed."""

from __future__ import annotations

import argparse
import os
import signal
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from edge_runtime.cli import options
from edge_runtime.command import Answer, Command, number, or_word, whole
from edge_runtime.errors import Failure

if TYPE_CHECKING:
    from edge_runtime.live.control.controls import Settings
    from edge_runtime.live.loop import LivePlan

_FORMATS: Final = ("FLOAT_LE", "S32_LE", "S24_LE", "S24_3LE", "S16_LE")


def _live_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group
    options.engine(group("what denoises"))
    _add_devices(group("devices"))
    _add_buffers(group("delay"))
    sound = group("what is heard")
    options.microphone(sound)
    _add_controls(sound)
    sound.add_argument("--bypass", action="store_true", help="start in bypass")
    _add_run(group("the run"))


def _add_devices(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    named = "ALSA device by name, as plughw:CARD=Device (see `edge-denoise devices`); default: default"
    add("--capture", default="default", metavar="DEV", help=named)
    add("--playback", default="default", metavar="DEV", help=named)
    add(
        "--rate",
        type=whole(4000, 192_000, "Hz"),
        metavar="HZ",
        help="of both devices; default: 16000, 48000 with --band full",
    )
    options.band(group)
    add("--format", choices=_FORMATS, help="of both devices; default: the finest they have")
    opened = "to open; default: the fewest, two of a mixer"
    add("--capture-channels", type=whole(1, 64, "channels"), metavar="N", help=opened)
    add("--channels", default="auto", metavar="C", help=options.CHANNELS)
    add("--wait", action="store_true", help="wait for devices that are not there yet")


def _add_buffers(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--period-ms", type=number(1, 200, "ms"), default=16.0, metavar="MS", help="default: 16, one hop")
    add("--periods", type=whole(2, 32, "periods"), default=4, metavar="N", help="of a buffer; default: 4")
    reserve = "sound that playback holds in reserve; default: 12"
    add("--margin-ms", type=number(0, 500, "ms"), default=12.0, metavar="MS", help=reserve)
    unheard = "devices run so long on silence before they are heard; default: 300"
    add("--settle-ms", type=number(0, 10_000, "ms"), default=300.0, metavar="MS", help=unheard)
    add("--ordinary", action="store_true", help="ask for neither real-time priority nor locked memory")


def _add_controls(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--strength", type=number(0, 1), metavar="X", help="0 (dry) to 1 (wholly denoised)")
    add("--limit-db", type=or_word("off", inf, number(0, 200, "dB")), metavar="DB", help="remove no more, or off")
    add("--gate-dbfs", type=or_word("off", -inf, number(-120, 0, "dBFS")), metavar="DB", help="silent below, or off")


def _add_run(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--tee", type=Path, metavar="PREFIX", help="record PREFIX-raw.wav and PREFIX-clean.wav")
    add("--seconds", type=number(0, 1e9, "s"), metavar="S", help="stop after so much sound")
    _add_socket(group, "where `ctl` is heard, or off; default: in the user's run-time folder")


def _add_socket(parser: argparse._ActionsContainer, text: str) -> None:
    parser.add_argument("--socket", metavar="PATH", help=text)


def _live(args: argparse.Namespace) -> Answer:
    """Denoise from one device to another until told to stop."""
    from edge_runtime.live.control.kept_settings import Keeper, service_file
    from edge_runtime.live.session import denoisers_of, run_live
    from edge_runtime.live.sound.library import sound_library
    from edge_runtime.live.status import Status
    from edge_runtime.live.view import plain_line

    sound_library()  # without it a service would wait for a microphone, and fail when it comes
    options.note_numbers(args, "capture", "playback")
    keeper = Keeper(service_file(), _settings(args))
    artifact = options.opened(args)
    status = Status(keeper.first, artifact.name)
    last = run_live(
        _plan(args),
        denoisers_of(artifact, args.engine, args.precision, args.threads),
        status,
        keeper,
        socket_path=_socket_path(args.socket),
        tee_prefix=args.tee,
        as_json=args.json,
        in_real_time=not args.ordinary,
    )
    is_unheard = last["waiting_for"] or (status.stopped_by and not status.n_hops)
    unheard = (lambda: _end_unheard(status.stopped_by)) if is_unheard else None
    return Answer(last, [plain_line(last)], then=unheard, one_line=True)


def _plan(args: argparse.Namespace) -> LivePlan:
    from dataclasses import replace

    from edge_runtime.alsa.pcm import Wish
    from edge_runtime.live.channels import Channels, count_of
    from edge_runtime.live.loop import LivePlan
    from edge_runtime.live.sound.front import FrontSettings

    n_opened = args.capture_channels or (count_of(args.capture) if args.channels == "all" else None)
    channels = Channels.parse(args.channels, n_opened)
    rate_hz = args.rate or (48_000 if args.band == "full" else None)
    sound = Wish(rate_hz, args.format, period_ms=args.period_ms, n_periods=args.periods)
    return LivePlan(
        capture=args.capture,
        playback=args.playback,
        channels=channels,
        capture_wish=replace(sound, n_channels=args.capture_channels, n_channels_near=channels.n_near(args.capture)),
        playback_wish=sound,
        band=args.band,
        front=FrontSettings(highpass_hz=args.highpass, gain_db=args.input_gain_db),
        margin_ms=args.margin_ms,
        settle_ms=args.settle_ms,
        waits=args.wait,
        seconds=args.seconds,
    )


def _settings(args: argparse.Namespace) -> Settings:
    from edge_runtime.live.control.controls import Settings

    given = {name: getattr(args, name) for name in ("strength", "limit_db", "gate_dbfs")}
    return Settings(bypass=args.bypass, **{name: value for name, value in given.items() if value is not None})


def _end_unheard(number: int) -> NoReturn:
    """A stream that still waited when it was stopped, or began, did not do what it was asked to: it ends as the signal
    would have ended it. For systemd, which sends SIGTERM, that is a clean stop."""
    if number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    raise KeyboardInterrupt


def _socket_path(given: str | None) -> Path | None:
    """As given; else the usual place, or none with a note: sound is worth more than a control nobody may ever use."""
    from edge_runtime.live.control.control_socket import default_path

    if given is not None:
        return None if given == "off" else Path(given)
    try:
        return default_path()
    except Failure as failure:
        options.say(f"note: `ctl` will not reach this stream: {failure}")
        return None


def _ctl_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("status", "set", "bypass", "reset"))
    parser.add_argument("value", nargs="?", choices=("on", "off", "toggle"), help="of bypass; default: toggle")
    _add_controls(parser)
    _add_socket(parser, "of the stream; default: in the user's run-time folder")


def _ctl(args: argparse.Namespace) -> Answer:
    """One message to a running stream."""
    from edge_runtime.live.control.control_socket import ask, listening_path
    from edge_runtime.live.view import plain_line

    message = _message(args)
    path = Path(args.socket) if args.socket else listening_path()
    status = ask(path, message)["status"]
    try:
        return Answer(status, [plain_line(status)])
    except (KeyError, TypeError) as error:
        raise Failure(f"a stream of another version, without {error}", where=path, remedy="restart it") from None


def _message(args: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(args, name) for name in ("strength", "limit_db", "gate_dbfs")}
    given = {name: None if abs(value) == inf else value for name, value in given.items() if value is not None}
    _check_action(args, given)
    if args.action == "set":
        return {"command": "set", **given}
    if args.action == "bypass":
        return {"command": "bypass", "on": {"on": True, "off": False}.get(args.value, "toggle")}
    return {"command": args.action}


def _check_action(args: argparse.Namespace, given: dict[str, Any]) -> None:
    """Failure: a word or an option that this action would not look at, or none where it needs one."""
    named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if args.action == "set" and not given:
        raise Failure("`ctl set` sets nothing", remedy="give --strength, --limit-db or --gate-dbfs")
    if args.action != "set" and given:
        raise Failure(f"{named}: `ctl {args.action}` sets nothing", remedy=f"`ctl set {named} ...`")
    if args.action != "bypass" and args.value is not None:
        raise Failure(f"`ctl {args.action}` takes no {args.value!r}", remedy=f"`ctl bypass {args.value}`")


LIVE: Final = Command(
    "live",
    "denoise from one sound device to another",
    _live_arguments,
    _live,
    examples=(
        "edge-denoise live",
        "edge-denoise live --capture plughw:CARD=Device --strength 0.8 --tee take1",
    ),
    page="guide/live.md",
)
CTL: Final = Command(
    "ctl",
    "ask or steer a running `live`",
    _ctl_arguments,
    _ctl,
    examples=(
        "edge-denoise ctl status",
        "edge-denoise ctl set --strength 0.8 --limit-db 20",
    ),
    page="guide/live.md",
)
