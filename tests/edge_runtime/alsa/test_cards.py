"""Cards by name on machines that are made up: what lies in /proc/asound."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.alsa.cards import capable, is_card, number_note, stable_name
from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK

CARDS = """\
 0 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0
                      vc4-hdmi-0
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.3, full speed
10 [ArrayUAC10     ]: USB-Audio - ReSpeaker 4 Mic Array (UAC1.0)
                      SEEED ReSpeaker 4 Mic Array (UAC1.0) at usb-0000:01:00.0-1.4, high speed
"""
PCMS = """\
00-00: MAI PCM i2s-hifi-0 : MAI PCM i2s-hifi-0 : playback 1
01-00: USB Audio : USB Audio : playback 1 : capture 1
10-00: USB Audio : USB Audio : playback 1 : capture 1
10-01: USB Audio #1 : USB Audio #1 : capture 1
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/asound").mkdir(parents=True)
    (tmp_path / "proc/asound/cards").write_text(CARDS)
    (tmp_path / "proc/asound/pcm").write_text(PCMS)
    return tmp_path


NAMES = [
    ("hw:1", "hw:CARD=Device"),
    ("hw:1,0", "hw:CARD=Device,DEV=0"),
    ("plughw:1,0", "plughw:CARD=Device,DEV=0"),
    ("plughw:10,1,3", "plughw:CARD=ArrayUAC10,DEV=1,SUBDEV=3"),
    ("plughw:CARD=1,DEV=0", "plughw:CARD=Device,DEV=0"),
    ("sysdefault:1", "sysdefault:CARD=Device"),
    ("default:CARD=0", "default:CARD=vc4hdmi0"),
    ("hw:7,0", "hw:CARD=<NAME>,DEV=0"),
    ("hw:CARD=Device,DEV=0", None),
    ("hw:Device,0", None),
    ("hw:Device", None),
    ("default", None),
    ("pipewire:NODE=52", None),
    ("hw", None),
    ("", None),
]


@pytest.mark.parametrize(("device", "name"), NAMES)
def test_a_card_by_number_has_a_name_that_stays(root, device, name):
    assert stable_name(device, root) == name
    note = number_note("--capture", device, root)
    assert (note is None) == (name is None)
    assert note is None or note.endswith(f"; its name stays: --capture {name}")


def test_the_cards_that_can_are_listed_by_name(root):
    named = ["plughw:CARD=Device,DEV=0", "plughw:CARD=ArrayUAC10,DEV=0"]
    assert capable(CAPTURE, root) == [*named, "plughw:CARD=ArrayUAC10,DEV=1"]
    assert capable(PLAYBACK, root) == ["plughw:CARD=vc4hdmi0,DEV=0", *named]


def test_no_cards_are_none(tmp_path):
    assert capable(CAPTURE, tmp_path) == []
    assert stable_name("hw:0", tmp_path) == "hw:CARD=<NAME>"


@pytest.mark.parametrize("device", ["hw", "hw:1", "plughw:CARD=Mic,DEV=0", "sysdefault:CARD=Mic", "default:CARD=Mic"])
def test_a_name_of_a_card_is_told_from_a_definition(device):
    assert is_card(device)
    assert not any(map(is_card, ("default", "pipewire", "microphone", "pulse")))
