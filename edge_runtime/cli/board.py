"""The subcommands that look at the machine: `devices`, `doctor`, `latency`. Parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.command import DONE, FAILED, Answer, Command, number, whole

if TYPE_CHECKING:
    from edge_runtime.doctor.checks import Check, Report
    from edge_runtime.doctor.host import Host


def _devices_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also converters and other views of the same card")


def _devices(args: argparse.Namespace) -> Answer:
    from edge_runtime.alsa.device import list_devices
    from edge_runtime.doctor.devices import check_any, devices, lines, report
    from edge_runtime.doctor.host import Host

    rows = devices(list_devices(), Host(), every=args.all)
    found = report(rows)
    return Answer(found, lines(found), then=lambda: check_any(rows))


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    checked = "check this model through every engine here; default: the one that is built in"
    parser.add_argument("--model", type=Path, metavar="DIR", help=checked)
    parser.add_argument("--capture", metavar="DEVICE", help="check this device, and listen to it for two seconds")
    parser.add_argument("--playback", metavar="DEVICE", help="check this device for playing")


def _doctor(args: argparse.Namespace) -> Answer:
    from edge_runtime.doctor.checks import Row, examine, line, report, total
    from edge_runtime.doctor.host import Host

    rows: list[Row] = []

    def lines() -> Iterator[str]:  # said as they come: a check may take long
        for row in examine(_checks(Host(), args)):
            rows.append(row)
            yield line(row)
        yield total(rows)

    def value() -> Report:
        rows.extend(examine(_checks(Host(), args)))
        return report(rows)

    return Answer(value, lines(), status=lambda: FAILED if report(rows).status == "fail" else DONE)


def _checks(host: Host, args: argparse.Namespace) -> Iterator[tuple[str, Check]]:
    """Every check in the order of the report; one that imports much is imported when it is reached."""
    from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK
    from edge_runtime.doctor import machine, model, rights, sound, virtual_mic

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
    yield "virtual microphone", lambda: virtual_mic.virtual_mic(host)
    yield "libasound", sound.libasound
    if args.capture is not None:
        yield "capture", lambda: sound.device(args.capture, CAPTURE)
    if args.playback is not None:
        yield "playback", lambda: sound.device(args.playback, PLAYBACK)
    yield "engines", model.engines
    yield "model", lambda: model.model(args.model)


def _latency_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--capture", required=True, metavar="DEVICE", help="where the sound comes back")
    add("--playback", required=True, metavar="DEVICE", help="where it is played; aloud!")
    add("--rate", type=whole(8000, 192_000, "Hz"), metavar="HZ", help="default: the device's")
    add("--period-ms", type=number(1, 200, "ms"), default=16.0, metavar="MS", help="default: 16, as `live`")
    add("--periods", type=whole(2, 64, "periods"), default=4, metavar="N", help="default: 4")
    add("--margin-ms", type=number(0, 500, "ms"), default=12.0, metavar="MS", help="default: 12, as `live`")
    add("--repeats", type=whole(1, 100, "repeats"), default=5, metavar="N", help="default: 5")


def _latency(args: argparse.Namespace) -> Answer:
    from edge_runtime.alsa.pcm import Wish
    from edge_runtime.doctor.latency import AlsaDuplex, lines, measure
    from edge_runtime.live.realtime import AUDIO_PRIORITY, at_priority

    wish = Wish(args.rate, period_ms=args.period_ms, n_periods=args.periods)
    with AlsaDuplex(args.capture, args.playback, wish, args.margin_ms) as duplex, at_priority(AUDIO_PRIORITY):
        found = measure(duplex, args.repeats)  # where no priority is permitted, an xrun says so soon enough
    return Answer(found, lines(found))


DEVICES: Final = Command(
    "devices",
    "list sound devices and what they can do",
    _devices_arguments,
    _devices,
    examples=(
        "edge-denoise devices",
        "edge-denoise devices --all",
    ),
    page="guide/live.md",
)
DOCTOR: Final = Command(
    "doctor",
    "check this machine, and say what helps",
    _doctor_arguments,
    _doctor,
    examples=(
        "edge-denoise doctor",
        "edge-denoise doctor --capture plughw:CARD=Device",
    ),
    page="guide/doctor.md",
    takes_long=True,
)
LATENCY: Final = Command(
    "latency",
    "measure the round trip from playback to capture",
    _latency_arguments,
    _latency,
    examples=(
        "edge-denoise latency --capture plughw:CARD=Device --playback plughw:CARD=Device",
        "edge-denoise latency --capture hw:1 --playback hw:0 --period-ms 8 --margin-ms 4",
    ),
    page="guide/live.md",
    takes_long=True,
)
