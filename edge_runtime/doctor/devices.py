"""`edge-denoise devices`: every sound device by the name that --capture and --playback take, and what it can do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from edge_runtime.alsa.device import Capabilities, PcmDevice, capabilities
from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK, Direction
from edge_runtime.doctor.host import Host
from edge_runtime.errors import Failure, counted

# Converters, test devices and the many views of one card that hw: and plughw: have already; --all lists them too.
HIDDEN: Final = (
    "null", "samplerate", "lavrate", "speex", "upmix", "vdownmix", "oss", "front", "rear", "center_lfe", "side",
    "surround", "iec958", "spdif", "dmix", "dsnoop", "usbstream", "modem", "phoneline",
)  # fmt: skip
# Which of several is proposed: a sound server's choice, by its name alone; then cards by theirs, through a converter or
# as they are. "default:CARD=" is neither: it goes through dmix or dsnoop, at their one rate.
SERVERS: Final = ("default", "pipewire", "pulse")
CARDS: Final = ("plughw:CARD=", "hw:CARD=", "sysdefault:CARD=")
CIRCULAR: Final = "`edge-denoise devices`"  # where these rows would send their reader
NODES: Final = {
    "Audio/Source": CAPTURE,
    "Audio/Source/Virtual": CAPTURE,
    "Audio/Sink": PLAYBACK,
    "Audio/Duplex": PLAYBACK,
}


class Row(msgspec.Struct, frozen=True):
    """One device in one direction. What it can do is None where it could not be opened; `problem` then says why."""

    name: str
    direction: str
    card: str
    rates_hz: list[int] | None
    formats: list[str] | None
    channels: list[int] | None
    problem: str = ""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Every device, and which to try first."""

    devices: list[Row]
    capture: str | None
    playback: str | None


Ask = Callable[[str, Direction], Capabilities]


def devices(listed: Sequence[PcmDevice], host: Host, *, every: bool = False, ask: Ask = capabilities) -> list[Row]:
    """A row for each device and direction: those that ALSA lists, and PipeWire's own."""
    shown = [device for device in listed if every or not device.name.startswith(HIDDEN)]
    return [_row(device, one, ask) for device in (*shown, *pipewire_nodes(host)) for one in device.directions]


def pipewire_nodes(host: Host) -> Iterator[PcmDevice]:
    """The sources and sinks of a running PipeWire, each by the name that its ALSA plugin takes."""
    dump = host.program(["pw-dump"])
    for entry in pipewire_objects(dump or "[]"):
        properties = (entry.get("info") or {}).get("props") or {}
        direction = NODES.get(properties.get("media.class", ""))
        if direction is not None and (name := properties.get("node.name")):
            description = str(properties.get("node.description") or name)
            yield PcmDevice(f"pipewire:NODE={name}", f"PipeWire: {description}", (direction,))


def proposal(rows: Iterable[Row], direction: Direction) -> str | None:
    """The device to try first."""
    names = [row.name for row in rows if row.direction == str(direction) and not row.problem]
    return min(names, key=_rank, default=None)


def _rank(name: str) -> int:
    if name in SERVERS:
        return SERVERS.index(name)
    return len(SERVERS) + next((i for i, start in enumerate(CARDS) if name.startswith(start)), len(CARDS))


def report(rows: list[Row]) -> Found:
    """The rows, and which to try first."""
    return Found(devices=rows, capture=proposal(rows, CAPTURE), playback=proposal(rows, PLAYBACK))


def lines(found: Found) -> list[str]:
    """The report for people: a device a line, its abilities or its problem below, then what to type."""
    listed = []
    for row in found.devices:
        listed.append(f"{row.direction:<8}  {row.name}  {row.card}".rstrip())
        listed.append(f"          {row.problem or _abilities(row)}")
    chosen = [f"--{side} {name}" for side, name in (("capture", found.capture), ("playback", found.playback)) if name]
    return [*listed, *([f"try: edge-denoise live {' '.join(chosen)}"] if chosen else [])]


def check_any(rows: list[Row]) -> None:
    """Failure when nothing can be opened."""
    if all(row.problem for row in rows):
        remedy = "plug a sound card in or start a sound server; `edge-denoise doctor` says more"
        raise Failure(f"none of {len(rows)} sound devices can be opened" if rows else "no sound devices", remedy=remedy)


def _row(device: PcmDevice, direction: Direction, ask: Ask) -> Row:
    try:
        can = ask(device.name, direction)
    except Failure as failure:
        problem = failure.what.removeprefix(f"{device.name}: ").removeprefix(f"{direction} ")
        if failure.remedy and CIRCULAR not in failure.remedy:
            problem += f"; {failure.remedy}"
        return Row(device.name, str(direction), device.description, None, None, None, problem)
    rates_hz = sorted(can.rates_hz) or list(can.rate_range_hz)
    return Row(device.name, str(direction), device.description, rates_hz, list(can.formats), list(can.n_channels_range))


def _abilities(row: Row) -> str:
    fewest, most = row.channels or [0, 0]
    channels = counted(fewest, "channel") if fewest == most else f"{fewest} to {most} channels"
    return f"{channels}, {' '.join(row.formats or [])}, {' '.join(map(str, row.rates_hz or []))} Hz"


def pipewire_objects(dump: str) -> list[dict[str, Any]]:
    """What `pw-dump` printed; nothing where it is no list of objects."""
    try:
        objects = json.loads(dump)
    except ValueError:
        return []
    return [one for one in objects if isinstance(one, dict)] if isinstance(objects, list) else []
