"""Sound cards by name. Their numbers change with what is plugged in, and when; their names do not.

/proc/asound/cards   " 1 [Device         ]: USB-Audio - USB PnP Sound Device"
/proc/asound/pcm     "01-00: USB Audio : USB Audio : playback 1 : capture 1"
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from edge_runtime.alsa.pcm import Direction

ROOT: Final = Path("/")
ELSEWHERE: Final = Path("/nonexistent")  # another machine: its cards are not known here
_CARD: Final = re.compile(r"^ *(\d+) \[(\S+) *\]:", re.MULTILINE)
_PCM: Final = re.compile(r"^(\d+)-(\d+):(.*)", re.MULTILINE)
# hw:1  plughw:1,0  hw:1,0,3  hw:CARD=1,DEV=0  sysdefault:CARD=1: whatever goes before, the card comes first.
_NUMBERED: Final = re.compile(r"(\w+):(?:CARD=)?(\d+)(?:,(?:DEV=)?(\d+))?(?:,(?:SUBDEV=)?(\d+))?")
_CONVERTER: Final = re.compile(r"(?:plughw|sysdefault|default|pipewire|pulse)(?::|$)")
_OF_A_CARD: Final = re.compile(r"(?:plug)?hw(?::|$)|\w+:CARD=")


def cards(root: Path = ROOT) -> dict[int, str]:
    """Number -> name of every card."""
    return {int(number): name for number, name in _CARD.findall(_text(root / "proc/asound/cards"))}


def capable(direction: Direction, root: Path = ROOT) -> list[str]:
    """Every card's device that captures, or plays, by a name that stays: "plughw:CARD=Device,DEV=0"."""
    names = cards(root)
    found = _PCM.findall(_text(root / "proc/asound/pcm"))
    return [
        f"plughw:CARD={names[int(card)]},DEV={int(number)}"
        for card, number, can in found
        if f": {direction} " in can and int(card) in names
    ]


def stable_name(device: str, root: Path = ROOT) -> str | None:
    """The same device by its card's name, "<NAME>" where the card is not here; None: it goes by no number."""
    numbered = _NUMBERED.fullmatch(device)
    if numbered is None:
        return None
    plugin, card, *rest = numbered.groups()
    name = cards(root).get(int(card), "<NAME>")
    parts = [f"{key}={value}" for key, value in zip(("DEV", "SUBDEV"), rest, strict=True) if value is not None]
    return f"{plugin}:{','.join([f'CARD={name}', *parts])}"


def number_note(option: str, device: str, root: Path = ROOT) -> str | None:
    """The line for somebody who names a card by its number; None: nobody does."""
    name = stable_name(device, root)
    if name is None:
        return None
    return f"{option} {device}: a card's number changes with what is plugged in; its name stays: {option} {name}"


def mixes_channels(device: str) -> bool:
    """Whether fewer channels than the microphone's are made by mixing them, silent ones too: ALSA's `plug`, servers."""
    return _CONVERTER.match(device) is not None


def is_card(device: str) -> bool:
    """Whether the name means a card itself rather than a server or a definition."""
    return _OF_A_CARD.match(device) is not None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
