"""The subcommands that look at the machine: `devices`, `doctor`, `latency`. Parses, calls once, prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import command
from edge_runtime.cli.output import print_result
from edge_runtime.command import Command

if TYPE_CHECKING:
    from edge_runtime.doctor.checks import Check
    from edge_runtime.doctor.host import Host


def _devices_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also converters and other views of the same card")


def _devices(args: argparse.Namespace) -> int:
    from edge_runtime.alsa.device import list_devices
    from edge_runtime.doctor.devices import check_any, devices, lines, report
    from edge_runtime.doctor.host import Host

    rows = devices(list_devices(), Host(), every=args.all)
    print_result(args, report(rows), lines)
    check_any(rows)
    return command.DONE


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="DIR", help="check this model through every engine here")
    parser.add_argument("--capture", metavar="DEVICE", help="check this device for recording")
    parser.add_argument("--playback", metavar="DEVICE", help="check this device for playing")


def _doctor(args: argparse.Namespace) -> int:
    from edge_runtime.doctor.checks import examine, line, report, total
    from edge_runtime.doctor.host import Host

    rows = []
    for row in examine(_checks(Host(), args)):
        rows.append(row)
        if not args.json:  # said as they come: a check may take long
            print(line(row), flush=True)
    found = report(rows)
    print(json.dumps(found, indent=2) if args.json else total(rows))
    return command.FAILED if found["status"] == "fail" else command.DONE


def _checks(host: Host, args: argparse.Namespace) -> Iterator[tuple[str, Check]]:
    """Every check in the order of the report; one that imports much is imported when it is reached."""
    from edge_runtime.alsa.device import CAPTURE, PLAYBACK
    from edge_runtime.doctor import machine, model, rights, sound

    yield "processor", lambda: machine.processor(host)
    yield "kernels", model.kernels
    yield "governor", lambda: machine.governor(host)
    yield "temperature", lambda: machine.temperature(host)
    yield "throttling", lambda: machine.throttling(host)
    yield "load", lambda: machine.load(host)
    yield "memory", lambda: machine.memory(host)
    yield "disk", lambda: machine.disk(host, Path.cwd())
    yield "clock", lambda: machine.clock(host, Path(__file__))
    yield "real-time priority", lambda: rights.priority(host)
    yield "locked memory", lambda: rights.locked_memory(host)
    yield "sound card", lambda: rights.sound_card(host)
    yield "sound server", lambda: rights.sound_server(host)
    yield "libasound", sound.libasound
    if args.capture is not None:
        yield "capture", lambda: [sound.device(args.capture, CAPTURE)]
    if args.playback is not None:
        yield "playback", lambda: [sound.device(args.playback, PLAYBACK)]
    yield "engines", model.engines
    if args.model is not None:
        yield "model", lambda: model.model(args.model)


def _latency_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--capture", required=True, metavar="DEVICE", help="where the sound comes back")
    parser.add_argument("--playback", required=True, metavar="DEVICE", help="where it is played; aloud!")
    parser.add_argument("--rate", type=_whole("Hz", 8000, 192_000), metavar="HZ", help="default: the device's")
    parser.add_argument("--period-ms", type=float, default=16.0, metavar="MS", help="default: 16, as `live`")
    parser.add_argument("--periods", type=_whole("periods", 2, 64), default=4, metavar="N", help="default: 4")
    parser.add_argument("--margin-ms", type=float, default=12.0, metavar="MS", help="default: 12, as `live`")
    parser.add_argument("--repeats", type=_whole("repeats", 1, 100), default=5, metavar="N", help="default: 5")


def _latency(args: argparse.Namespace) -> int:
    from edge_runtime.alsa.device import Wish
    from edge_runtime.doctor.latency import AlsaDuplex, lines, measure
    from edge_runtime.live.realtime import AUDIO_PRIORITY, set_priority

    wish = Wish(args.rate, period_ms=args.period_ms, n_periods=args.periods)
    with AlsaDuplex(args.capture, args.playback, wish, args.margin_ms) as duplex:
        set_priority(AUDIO_PRIORITY)  # where it is not permitted, an xrun says so soon enough
        found = measure(duplex, args.repeats)
    print_result(args, found, lines)
    return command.DONE


def _whole(unit: str, least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {unit} from {least} to {most}")
        return int(text)

    return number


DEVICES: Final = Command("devices", "list sound devices and what they can do", _devices_arguments, _devices)
DOCTOR: Final = Command("doctor", "check this machine, and say what helps", _doctor_arguments, _doctor)
LATENCY: Final = Command("latency", "measure the round trip from playback to capture", _latency_arguments, _latency)
