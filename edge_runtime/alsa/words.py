"""libasound's own words, and what helps: which file and line it cannot read, which plugin it cannot load.

ALSA lib conf.c:2007:(_snd_config_load_with_include) _toplevel_:3:0:Unexpected char
ALSA lib conf.c:4096:(config_file_open) /home/pi/.asoundrc may be old or corrupted: consider to remove or fix it
"""

from __future__ import annotations

import errno
import re
from typing import Final

from edge_runtime.alsa.cards import capable, is_card
from edge_runtime.alsa.pcm import Direction

_LINE: Final = re.compile(r"^ALSA lib [^:\n]+:\d+:\(\w*\) (?:\[[\w.]+\] )?(.+)$", re.MULTILINE)
_UNREADABLE: Final = re.compile(r"(/.*) may be old or corrupted")
_PLACE: Final = re.compile(r"_toplevel_:(\d+):\d+:(.*)")
_NO_LIBRARY: Final = re.compile(r"Cannot open shared library (\S+)")
_NO_SUCH_CARD: Final = ("Cannot get card index for", "open '/dev/snd/")  # no more than the number that comes back
_MISTYPED: Final = ("Unknown parameter", "Parse arguments error")  # behind the colon of a name
_PACKAGES: Final = {"pipewire": "pipewire-alsa"}
_PLUGGED: Final = "plug it in, or choose another: `edge-denoise devices` lists them"
_REMEDIES: Final = {
    errno.ENOENT: "`edge-denoise devices` lists the names",
    errno.ENODEV: _PLUGGED,
    errno.ENXIO: _PLUGGED,
    errno.EBUSY: "another program holds it: stop that one, or go through the sound server",
    errno.EACCES: "join the audio group: sudo usermod -aG audio $USER, then log in again",
    errno.EPERM: "join the audio group: sudo usermod -aG audio $USER, then log in again",
    errno.ECONNREFUSED: "start the sound server (PipeWire or PulseAudio)",
    errno.EHOSTDOWN: "start the sound server (PipeWire or PulseAudio)",
}


def cause(printed: str, device: str) -> str:
    """Its first words that are news, "" for none; of an unreadable file its name, the line, and what is wrong there."""
    empty = (f"Unknown PCM {device}", *(_NO_SUCH_CARD if is_card(device) else ()))
    lines = [line for line in _LINE.findall(printed) if not line.startswith(empty)]
    if not lines:
        return ""
    file = next((found[1] for line in lines if (found := _UNREADABLE.match(line))), None)
    place = _PLACE.fullmatch(lines[0])
    return f"{file}, line {place[1]}: {place[2]}" if file and place else lines[0]


def is_undefined(printed: str, number: int) -> bool:
    """Whether it can never be opened as things are: what it is made of is not defined, or wrongly."""
    first = next(iter(_LINE.findall(printed)), "")
    return number == errno.EINVAL or first.startswith("Unknown PCM")


def remedy(printed: str, number: int, device: str, direction: Direction) -> str | None:
    """By what it said, else by its error number and what there is here instead."""
    if found := _UNREADABLE.search(printed):
        return f"mend {found[1]}, or move it away"
    if found := _NO_LIBRARY.search(printed):
        package = next((package for kind, package in _PACKAGES.items() if kind in found[1]), "libasound2-plugins")
        return f"mend or install that plugin (Debian: apt install {package})"
    of_a_card = is_card(device) or "find card" in printed or "card index" in printed
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO) and of_a_card:
        here = ", ".join(capable(direction))
        return f"cards that can: {here}" if here else "no card here can: plug one in"
    if number in (errno.ENOENT, errno.EINVAL) and (own := cause(printed, device)):
        if ":" in device and (own.startswith(_MISTYPED) or own.removeprefix("Unknown PCM ") in device.split(":", 1)[1]):
            return _REMEDIES[errno.ENOENT]
        return "mend its definition, in ~/.asoundrc or /etc/asound.conf"
    return _REMEDIES.get(number)
