"""`edge-denoise devices` on devices that are made up: what is listed, proposed, and said when nothing is there."""

from __future__ import annotations

import json

import pytest

from edge_runtime.alsa import device
from edge_runtime.alsa.device import Capabilities, PcmDevice
from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK, Direction
from edge_runtime.cli import main
from edge_runtime.doctor.devices import Row, check_any, devices, lines, pipewire_nodes, proposal, report
from edge_runtime.doctor.host import Host
from edge_runtime.errors import Failure

BOTH = (CAPTURE, PLAYBACK)
CAN = Capabilities((48_000, 16_000), (8_000, 48_000), ("S32_LE", "S16_LE"), (1, 2), (16, 4096), (32, 8192))
MICROPHONE = PcmDevice("hw:CARD=Mic,DEV=0", "USB Mic", (CAPTURE,))
HDMI = PcmDevice("hw:CARD=vc4hdmi,DEV=0", "vc4-hdmi", (PLAYBACK,))
DEFAULT = PcmDevice("default", "Default", BOTH)
DMIX = PcmDevice("dmix:CARD=Mic,DEV=0", "USB Mic", (PLAYBACK,))
DSNOOPED = PcmDevice("default:CARD=Device", "USB Mic", BOTH)
SYSTEM = PcmDevice("sysdefault:CARD=Device", "USB Mic", BOTH)
PLUG = PcmDevice("plughw:CARD=Mic,DEV=0", "USB Mic", (CAPTURE,))
NODES = [
    {"info": {"props": {"media.class": "Audio/Source", "node.name": "alsa_in.mic", "node.description": "My mic"}}},
    {"info": {"props": {"media.class": "Audio/Sink", "node.name": "alsa_out"}}},
    {"info": {"props": {"media.class": "Video/Source", "node.name": "camera"}}},
    {"info": {"props": {"media.class": "Audio/Sink"}}},
    {"info": None},
    "odd",
]


def ask_of(busy: str = "-"):
    def ask(name: str, direction: Direction) -> Capabilities:
        if name.startswith(busy):
            raise Failure(f"{direction} cannot be opened (Device or resource busy)", where=name, remedy="stop it")
        return CAN

    return ask


def quiet_host(dump: str | None = None) -> Host:
    return Host(program=lambda command: dump)


PROPOSALS = [
    ("a server's choice first", [MICROPHONE, HDMI, DEFAULT], "-", "default", "default"),
    ("cards by name when it is away", [MICROPHONE, PLUG, HDMI, DEFAULT], "default", PLUG.name, HDMI.name),
    ("never through dsnoop", [DSNOOPED, SYSTEM, PLUG, MICROPHONE], "-", PLUG.name, SYSTEM.name),
    ("never through dsnoop, were it first", [DSNOOPED, SYSTEM], "-", SYSTEM.name, SYSTEM.name),
    (
        "a card as it is when the converter fails",
        [DSNOOPED, MICROPHONE, PLUG],
        "plughw:",
        MICROPHONE.name,
        DSNOOPED.name,
    ),
    ("through the converter when the card is busy", [PLUG, MICROPHONE], "hw:", PLUG.name, None),
    ("one direction only", [HDMI], "-", None, HDMI.name),
    ("nothing", [], "-", None, None),
]


@pytest.mark.parametrize(("case", "listed", "busy", "capture", "playback"), PROPOSALS)
def test_what_to_try_first(case, listed, busy, capture, playback) -> None:
    rows = devices(listed, quiet_host(), ask=ask_of(busy))
    assert (proposal(rows, CAPTURE), proposal(rows, PLAYBACK)) == (capture, playback)


def test_a_row_has_what_the_device_can_do() -> None:
    (row,) = devices([MICROPHONE], quiet_host(), ask=ask_of())
    assert row == Row("hw:CARD=Mic,DEV=0", "capture", "USB Mic", [16_000, 48_000], ["S32_LE", "S16_LE"], [1, 2], "")
    first, second, last = lines(report([row]))
    assert first == "capture   hw:CARD=Mic,DEV=0  USB Mic"
    assert second.strip() == "1 to 2 channels, S32_LE S16_LE, 16000 48000 Hz"
    assert last == "try: edge-denoise live --capture hw:CARD=Mic,DEV=0"


def test_a_busy_device_is_listed_with_its_remedy() -> None:
    (row,) = devices([MICROPHONE], quiet_host(), ask=ask_of("hw:"))
    assert row.rates_hz is None
    assert row.problem == "cannot be opened (Device or resource busy); stop it"


def test_a_row_does_not_send_its_reader_to_itself() -> None:
    def ask(name: str, direction: Direction) -> Capabilities:
        what = f"{direction} cannot be opened (No such file or directory)"
        raise Failure(what, where=name, remedy="`edge-denoise devices` lists the names")

    (row,) = devices([MICROPHONE], quiet_host(), ask=ask)
    assert row.problem == "cannot be opened (No such file or directory)"


def test_one_channel_is_no_channels() -> None:
    mono = CAN._replace(n_channels_range=(1, 1))
    (row,) = devices([MICROPHONE], quiet_host(), ask=lambda name, direction: mono)
    assert lines(report([row]))[1].strip() == "1 channel, S32_LE S16_LE, 16000 48000 Hz"


def test_other_views_of_a_card_are_hidden_unless_asked_for() -> None:
    assert devices([DMIX], quiet_host(), ask=ask_of()) == []
    assert [row.name for row in devices([DMIX], quiet_host(), every=True, ask=ask_of())] == [DMIX.name]


def test_the_nodes_of_pipewire_have_names_that_its_plugin_takes() -> None:
    found = list(pipewire_nodes(quiet_host(json.dumps(NODES))))
    assert found == [
        PcmDevice("pipewire:NODE=alsa_in.mic", "PipeWire: My mic", (CAPTURE,)),
        PcmDevice("pipewire:NODE=alsa_out", "PipeWire: alsa_out", (PLAYBACK,)),
    ]


@pytest.mark.parametrize("dump", [None, "", "garbage", "{}", "[1, null]"])
def test_no_pipewire_is_no_nodes(dump: str | None) -> None:
    assert list(pipewire_nodes(quiet_host(dump))) == []


@pytest.mark.parametrize(("listed", "what"), [([], "no sound devices"), ([MICROPHONE], "none of 1 sound devices")])
def test_nothing_that_opens_is_a_failure_with_a_remedy(listed, what) -> None:
    with pytest.raises(Failure, match=rf"{what}.*; plug a sound card in"):
        check_any(devices(listed, quiet_host(), ask=ask_of("hw:")))


def test_the_command_prints_json_before_it_fails(monkeypatch, capsys) -> None:
    monkeypatch.setattr(device, "list_devices", list)
    monkeypatch.setattr("edge_runtime.doctor.host.run_program", lambda command: None)
    monkeypatch.setattr("edge_runtime.doctor.devices.pipewire_nodes", lambda host: ())
    assert main(["devices", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"devices": [], "capture": None, "playback": None}
    assert printed.err.count("\n") == 1
    assert "plug a sound card in" in printed.err
