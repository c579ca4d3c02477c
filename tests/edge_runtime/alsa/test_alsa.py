"""The ALSA layer through the real libasound: its `null` and `file` PCMs need no sound card."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT
from real_alsa import needs_libasound

from edge_runtime.alsa import device as alsa
from edge_runtime.alsa.pcm import CAPTURE, FORMATS, PLAYBACK, Outcome, Wish
from edge_runtime.errors import Failure


@needs_libasound
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("direction", [CAPTURE, PLAYBACK], ids=str)
@pytest.mark.parametrize(("rate_hz", "period"), [(16_000, 256), (48_000, 768), (44_100, 706), (96_000, 1536)])
def test_a_device_is_opened_as_wished(name, direction, rate_hz, period):
    with alsa.open_pcm("null", direction, Wish(rate_hz, name, 3)) as pcm:
        config = pcm.config
        assert (config.rate_hz, config.sample_format.name, config.n_channels) == (rate_hz, name, 3)
        assert (config.period_pcm_frames, config.buffer_pcm_frames) == (period, 4 * period)
        block = pcm.new_block(period)
        assert block.nbytes == period * 3 * FORMATS[name].n_bytes
        assert pcm.start() is Outcome.DONE
        assert (pcm.read if direction is CAPTURE else pcm.write)(block) is Outcome.DONE
        assert pcm.n_transferred == period


@needs_libasound
def test_without_a_wish_a_device_runs_at_16_khz_mono_in_its_finest_format():
    with alsa.open_pcm("null", CAPTURE) as pcm:
        assert str(pcm.config) == "null: 1 x 16000 Hz, FLOAT_LE, periods 256 of 1024"


@needs_libasound
def test_a_buffer_holds_no_less_than_is_wished():
    with alsa.open_pcm("null", PLAYBACK, Wish(period_ms=4, n_periods=2, least_buffer_ms=100)) as pcm:
        assert (pcm.config.period_pcm_frames, pcm.config.buffer_pcm_frames) == (64, 1600)


@needs_libasound
def test_closing_twice_is_allowed():
    pcm = alsa.open_pcm("null", CAPTURE)
    pcm.close()
    pcm.close()


BAD = [
    ("nonesuch", Wish(), "nonesuch: capture cannot be opened (No such file or directory); `edge-denoise devices`"),
    ("hw:31", Wish(), "hw:31: capture cannot be opened (No such file or directory)"),
    ("null", Wish(sample_format="S20_3LE"), "null: capture has no S20_3LE samples; choose one of: FLOAT_LE"),
    ("null", Wish(n_channels=2**31), "null: capture has no 2147483648 channels (Invalid argument); it has 1 to"),
]


@needs_libasound
@pytest.mark.parametrize(("device", "wish", "message"), BAD, ids=[str(row[:2]) for row in BAD])
def test_what_cannot_be_opened_is_one_line(device, wish, message, capfd):
    with pytest.raises(Failure) as failure:
        alsa.open_pcm(device, CAPTURE, wish)
    assert str(failure.value).startswith(message)
    assert capfd.readouterr() == ("", "")  # libasound itself says nothing


@needs_libasound
def test_the_list_of_devices_names_null():
    devices = {device.name: device for device in alsa.list_devices()}
    assert devices["null"].directions == (CAPTURE, PLAYBACK)


@needs_libasound
def test_capabilities_of_null_are_everything():
    found = alsa.capabilities("null", PLAYBACK)
    assert found.formats == tuple(FORMATS)
    assert found.rates_hz == alsa.RATES_HZ
    assert found.n_channels_range[0] == 1


FILE_PCM = """
pcm.microphone {{ type file slave.pcm "null" file "/dev/null" infile "{noisy}" format "raw" }}
pcm.one_rate {{ type plug slave {{ pcm "null" rate 44100 format S16_LE channels 2 }} }}
"""

READ_ALL = """
import sys, numpy as np
from edge_runtime.alsa.device import open_pcm
from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK, Outcome, Wish
with open_pcm("microphone", CAPTURE, Wish(16000, "S16_LE", 1)) as pcm:
    block = pcm.new_block(256)
    pcm.start()
    for _ in range(4):
        assert pcm.read(block) is Outcome.DONE
        sys.stdout.buffer.write(block.tobytes())
with open_pcm("one_rate", PLAYBACK, Wish()) as pcm:
    print(pcm.config, file=sys.stderr)
"""


@needs_libasound
def test_a_file_as_microphone_is_read_byte_for_byte(tmp_path):
    noisy = np.random.default_rng(0).integers(-32768, 32767, 1024, np.int16)
    (tmp_path / "noisy.raw").write_bytes(noisy.tobytes())
    (tmp_path / "asound.conf").write_text(FILE_PCM.format(noisy=tmp_path / "noisy.raw"))
    path = f"/usr/share/alsa/alsa.conf:{tmp_path / 'asound.conf'}"
    environment = {**os.environ, "ALSA_CONFIG_PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", READ_ALL], env=environment, capture_output=True, check=True)
    assert done.stdout == noisy.tobytes()
    assert done.stderr.decode().startswith("one_rate: ")


def test_without_libasound_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("edge_runtime.alsa.library.LIBRARY", "libnonesuch.so.9")
    from edge_runtime.alsa.library import load_library

    load_library.cache_clear()
    try:
        with pytest.raises(Failure, match=r"ALSA needs libnonesuch.so.9, not found .*apt install libasound2"):
            load_library()
    finally:
        load_library.cache_clear()
