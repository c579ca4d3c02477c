"""What libasound prints reaches the person: as a table of what it printed, and through the real one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from real_alsa import needs_libasound

from edge_runtime.alsa import words
from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK

CORRUPTED = """\
ALSA lib conf.c:2007:(_snd_config_load_with_include) _toplevel_:3:0:Unexpected char
ALSA lib conf.c:4096:(config_file_open) /home/p i/.asoundrc may be old or corrupted: consider to remove or fix it
ALSA lib conf.c:4018:(snd_config_hooks_call) function snd_config_hook_load returned error: Invalid argument
"""
NO_CARD = """\
ALSA lib confmisc.c:855:(parse_card) cannot find card '0'
ALSA lib conf.c:5180:(_snd_config_evaluate) function snd_func_card_inum returned error: No such file or directory
ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM default
"""
UNLOADABLE = (
    "ALSA lib dlmisc.c:337:(snd_dlobj_cache_get0) Cannot open shared library libasound_module_pcm_{0}.so "
    "(/usr/lib/libasound_module_pcm_{0}.so: undefined symbol: pw_core)\n"
)
CARD = "ALSA lib confmisc.c:165:(snd_config_get_card) Cannot get card index for"
UNKNOWN = "ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM"
HERE = "cards that can: plughw:CARD=Mic,DEV=0"
DEFINITION = "mend its definition, in ~/.asoundrc or /etc/asound.conf"
NAMES = "`edge-denoise devices` lists the names"
PLUGIN = "mend or install that plugin (Debian: apt install "
PRINTED = [
    # what it printed, its number, the device, how the cause begins, how the remedy begins
    (CORRUPTED, errno.EINVAL, "default", "/home/p i/.asoundrc, line 3: Unexpected char", "mend /home/p i/.asoundrc"),
    (UNLOADABLE.format("pipewire"), errno.ENXIO, "pipewire", "Cannot open shared", f"{PLUGIN}pipewire-alsa)"),
    (UNLOADABLE.format("jack"), errno.ENXIO, "j", "Cannot open shared library", f"{PLUGIN}libasound2-plugins)"),
    (NO_CARD, errno.ENOENT, "default", "cannot find card '0'", HERE),
    (f"{CARD} Foo\n", errno.ENODEV, "plughw:CARD=Foo", "", HERE),
    (f"{CARD} 9\n", errno.ENOENT, "mic", "Cannot get card index for 9", HERE),
    (f"{UNKNOWN} typo\n", errno.ENOENT, "typo", "", "`edge-denoise devices` lists the names"),
    (f"{UNKNOWN} gone\n", errno.ENOENT, "mic", "Unknown PCM gone", DEFINITION),
    (f"{UNKNOWN} tyop\n", errno.ENOENT, "plug:tyop", "Unknown PCM tyop", "`edge-denoise devices` lists the names"),
    ("ALSA lib conf.c:1:(f) Unknown parameters CARD=x\n", errno.EINVAL, "default:CARD=x", "Unknown parameters", NAMES),
    ("ALSA lib conf.c:1:(f) Parse arguments error: no\n", errno.EINVAL, "plughw:CARD=", "Parse arguments", NAMES),
    ("ALSA lib conf.c:1:(f) Unknown parameters x\n", errno.EINVAL, "mic", "Unknown parameters x", DEFINITION),
    ("ALSA lib conf.c:1:(f) [error.core] Unknown field foo\n", errno.EINVAL, "mic", "Unknown field foo", DEFINITION),
    ("ALSA lib pulse.c:242:(c) PulseAudio: refused\n\n", errno.ECONNREFUSED, "pulse", "PulseAudio: refused",
     "start the sound server (PipeWire or PulseAudio)"),
    ("jack server is not running\nCannot connect\n", errno.EBUSY, "hw:0", "", "another program holds it: stop"),
    ("", errno.EACCES, "hw:0", "", "join the audio group: sudo usermod -aG audio $USER"),
    ("", errno.EINVAL, "hw:0", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("printed", "number", "device", "cause", "remedy"), PRINTED)
def test_what_was_printed_becomes_a_cause_and_a_remedy(monkeypatch, printed, number, device, cause, remedy):
    monkeypatch.setattr(words, "capable", lambda direction: ["plughw:CARD=Mic,DEV=0"] if direction is CAPTURE else [])
    found = words.cause(printed, device)
    assert found.startswith(cause) if cause else found == ""
    assert (words.remedy(printed, number, device, CAPTURE) or "").startswith(remedy)
    if remedy == HERE:
        assert words.remedy(printed, number, device, PLAYBACK) == "no card here can: plug one in"


DEFINED = """
pcm.mic {{ type plug slave.pcm "hw:29" }}
pcm.plugin {{ type nonesuch }}
pcm.filter {{ type ladspa slave.pcm null path "/nowhere" plugins [ {{ label foo }} ] }}
pcm.slave {{ type plug slave.pcm "gone" }}
pcm.typo {{ typ hw }}
"""
OPEN = """
import json, sys
from edge_runtime.alsa import device
from edge_runtime.doctor import checks, sound
from edge_runtime.errors import Failure
said = {}
def ask(key, call):
    try:
        said[key] = str(call())
    except Failure as failure:
        said[key] = str(failure)
for name in sys.argv[1:]:
    ask(name, lambda: device.open_pcm(name, device.CAPTURE).close())
ask("list", lambda: [one.name for one in device.list_devices()])
said["doctor"] = [row.status for row in checks.examine([("libasound", sound.libasound)])]
print(json.dumps(said))
"""


def opened(folder: Path, text: str, *names: str) -> dict:
    (folder / ".asoundrc").write_text(text.format(folder=folder))
    environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("ALSA_CONFIG_PATH", None)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, *names], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@needs_libasound
def test_libasound_says_what_is_wrong_with_a_definition(tmp_path):
    said = opened(tmp_path, DEFINED, "null", "mic", "plugin", "filter", "slave", "typo")
    assert said["null"] == "None"
    assert said["mic"].startswith(
        "mic: capture cannot be opened (No such file or directory: Cannot get card index for 29)"
    )
    assert "Cannot open shared library libasound_module_pcm_nonesuch.so (" in said["plugin"]
    assert said["plugin"].endswith(f"; {PLUGIN}libasound2-plugins)")
    assert (
        "(No such file or directory: Unable to find or load plugin 'foo' ID 0, path '/nowhere'); mend" in said["filter"]
    )
    assert f"(No such file or directory: Unknown PCM gone); {DEFINITION}" in said["slave"]
    assert f"type is not defined); {DEFINITION}" in said["typo"]
    assert "'null'" in said["list"]
    assert said["doctor"] == ["ok"]


UNREADABLE = [
    ("pcm.!default {{ type hw\n card 0\n", "{file}, line 3: Unexpected char"),
    ("pcm.!default }}\n", "{file}, line 1: "),
    ("<{folder}/gone>\n", "Cannot access file {folder}/gone"),
]


@needs_libasound
@pytest.mark.parametrize(("text", "cause"), UNREADABLE)
def test_libasound_names_the_file_that_it_cannot_read(tmp_path, text, cause):
    said, file = opened(tmp_path, text, "null"), tmp_path / ".asoundrc"
    for line in (said["null"], said["list"]):
        assert cause.format(file=file, folder=tmp_path) in line
        assert line.endswith(f"; mend {file}, or move it away")
    assert said["doctor"] == ["fail"]
