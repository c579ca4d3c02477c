"""What doctor says of a microphone: made-up sounds, and the virtual one on made-up machines."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fake_sound import FakeDevice, World, noise

from edge_runtime.doctor.host import Host
from edge_runtime.doctor.microphone import LISTEN_S, listen, rows
from edge_runtime.doctor.virtual_mic import virtual_mic
from edge_runtime.errors import Failure
from edge_runtime.folders import pipewire_file

RATE_HZ = 16_000


def sound(*channels: tuple[float, float]) -> np.ndarray:
    """(n_channels, n): noise of so many dBFS (-inf: none) on an offset of so much of full scale."""
    made = np.random.default_rng(1).normal(0, 1, (len(channels), 2 * RATE_HZ))
    made = (made - made.mean(1, keepdims=True)) / made.std(1, keepdims=True)
    levels, offsets = np.array(channels).T[:, :, None]
    return (made * 10 ** (levels / 20) + offsets).astype(np.float32)


OFF = float("-inf")
HEARD = [
    # what, channels of (dBFS, offset): rows of (status, found, how the remedy begins)
    ("a good one", [(-30.0, 0.0)],
     [("ok", "channel 1 -30.0 dBFS", ""), ("ok", "peaks at -1", ""), ("ok", "none to speak of", "")]),
    ("both of two", [(-30.0, 0.0), (-32.0, 0.0)],
     [("ok", "left -30.0 dBFS, right -32.0 dBFS", ""), ("ok", "peaks at -1", ""), ("ok", "none to speak of", "")]),
    ("left slot empty", [(OFF, 0.0), (-25.7, 0.0)],
     [("warn", "left silent, right -25.7 dBFS", "`live` leaves it out; --channels 2 says so for good"),
      ("ok", "peaks at -1", ""), ("ok", "none to speak of", "")]),
    ("right slot stuck", [(-25.7, 0.0), (OFF, 0.2)],
     [("warn", "left -25.7 dBFS, right silent", "`live` leaves it out; --channels 1 says so for good"),
      ("ok", "peaks at -1", ""), ("ok", "none to speak of", "")]),
    ("muted", [(OFF, 0.0), (OFF, 0.0)], [("warn", "silent", "is it muted (`alsamixer`, F4)?")]),
    ("an array", [(-40.0, 0.0)] * 5 + [(OFF, 0.0)],
     [("ok", "channel 6 silent; `live` takes 1, as others may hold the loudspeaker", ""),
      ("ok", "peaks at -2", ""), ("ok", "none to speak of", "")]),
    ("offset", [(-30.0, 0.03)],
     [("ok", "channel 1 -30.0 dBFS", ""), ("ok", "peaks at -1", ""),
      ("warn", "offset -30 dBFS", "`live` takes it off; --highpass 60 does so from the first sample on")]),
    ("offset below", [(-30.0, -0.03)],
     [("ok", "", ""), ("ok", "", ""), ("warn", "offset -30 dBFS", "`live` takes it off")]),
    ("quiet", [(-65.0, 0.0)],
     [("ok", "channel 1 -65.0 dBFS", ""),
      ("warn", "peaks at -5", "speak while it listens; if they stay there, add gain: `alsamixer`, F4, else --input-ga"),
      ("ok", "none to speak of", "")]),
    ("quiet on an offset", [(-65.0, 0.03)], [("ok", "", ""), ("warn", "peaks at -5", ""), ("warn", "offset -30", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "channels", "wanted"), HEARD, ids=[row[0] for row in HEARD])
def test_a_microphone_is_judged_by_what_it_gives(what, channels, wanted):
    found = list(rows(sound(*channels)))
    assert [row.check for row in found] == ["capture channels", "capture level", "capture offset"][: len(wanted)]
    for row, (status, text, remedy) in zip(found, wanted, strict=True):
        assert row.status == status
        assert text in row.found
        assert row.remedy.startswith(remedy)
        assert bool(row.remedy) == (status != "ok")


def test_clipping_is_told():
    loud = np.clip(sound((-3.0, 0.0)), -1, 1)
    level = list(rows(loud))[1]
    assert level.status == "warn"
    assert level.found.startswith("peaks at 0 dBFS, ")
    assert level.remedy == "less gain: `alsamixer`, F4"


@pytest.mark.parametrize(("rate_hz", "name"), [(16_000, "S16_LE"), (48_000, "S32_LE"), (44_100, "S24_3LE")])
def test_two_seconds_are_heard_of_any_device(rate_hz, name):
    world = World()
    device = FakeDevice(world, rate_hz, name, 2, sound=noise(2, rate_hz=rate_hz))
    world.naps = [(1.0, 0.3)]  # an overrun
    heard = listen("hw:CARD=Mic", open_pcm=lambda _name, direction, wish: device.open(direction, wish))
    assert heard.shape[0] == 2
    assert heard.shape[1] / rate_hz == pytest.approx(LISTEN_S, abs=0.02)
    assert np.std(heard, axis=1) == pytest.approx([0.1, 0.1], rel=0.05)


def test_a_microphone_that_is_pulled_out_is_a_failure():
    world = World()
    world.absent = [(1.0, 9.0)]
    device = FakeDevice(world, sound=noise())
    with pytest.raises(Failure, match="hw:0: capture stopped: disconnected"):
        listen("hw:0", open_pcm=lambda _name, direction, wish: device.open(direction, wish))


# --- the virtual one ----------------------------------------------------------------------------------------

NODE = json.dumps([{"info": {"props": {"node.name": "edge_denoise", "media.class": "Audio/Source"}}}])
OTHERS = json.dumps([{"info": {"props": {"node.name": "alsa_input"}}}, {"info": None}, 3])
SAID = "mod.rt: fine\nmod.filter-chain: failed to load plugin '/x/edge_denoise.so': undefined symbol\nother\n"


def host(root: Path, plugin: str | None, dump: str | None, journal: str | None = None) -> Host:
    if plugin is not None:
        path = pipewire_file(root)
        path.parent.mkdir(parents=True)
        path.write_text(f"nodes = [ {{ type = ladspa name = d plugin = {json.dumps(plugin)} label = x }} ]\n")
    answers = {"pw-dump": dump, "journalctl": journal}
    return Host(root=root, home=root, program=lambda command: answers[command[0]])


def compiled() -> str:
    spec = find_spec("edge_runtime.native.ladspa_edge_denoise")
    if spec is None or spec.origin is None:
        pytest.skip("the plugin is not compiled here")
    return spec.origin


def test_a_virtual_microphone_that_is_not_installed_is_not_spoken_of(tmp_path):
    assert list(virtual_mic(host(tmp_path, None, OTHERS))) == []


def test_a_plugin_that_is_gone_or_cannot_be_loaded_is_named_with_the_reason(tmp_path):
    (row,) = virtual_mic(host(tmp_path / "gone", str(tmp_path / "p i.so"), NODE))
    assert (row.status, row.found) == ("fail", f"installed, but its plugin {tmp_path}/p i.so is gone")
    (tmp_path / "p i.so").write_bytes(b"\x7fELF")
    (row,) = virtual_mic(host(tmp_path / "broken", str(tmp_path / "p i.so"), NODE))
    assert row.status == "fail"
    assert row.found.startswith("installed, but its plugin cannot be loaded: OSError: ")
    assert "file too short" in row.found
    assert row.remedy == "`edge-denoise install --virtual-mic`, then `systemctl --user restart pipewire`"


NODES = [
    (NODE, None, "ok", "PipeWire has the node edge_denoise", ""),
    (None, None, "warn", "installed; PipeWire does not answer", "`systemctl --user restart pipewire`"),
    (OTHERS, None, "warn", "installed, but PipeWire has no node edge_denoise", "`systemctl --user restart pipewire`"),
    (OTHERS, "all is well", "warn", "installed, but PipeWire has no node edge_denoise", "`systemctl --user restart"),
    (OTHERS, SAID, "warn", "has no node edge_denoise; it says: mod.filter-chain: failed to load plugin",
     "`edge-denoise install --virtual-mic`"),
]  # fmt: skip


@pytest.mark.parametrize(("dump", "journal", "status", "found", "remedy"), NODES)
def test_a_node_that_pipewire_has_not_made_comes_with_its_journals_line(tmp_path, dump, journal, status, found, remedy):
    (row,) = virtual_mic(host(tmp_path, compiled(), dump, journal))
    assert row.status == status
    assert found in row.found
    assert row.remedy.startswith(remedy)
