"""What the rig of the emulated machine calls enough: a table of what a guest may report, without a machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parent / "aarch64_vm"))

import guest
import run

SOUND = {"compared_s": 50.0, "max_difference_lsb": 1.0, "n_beyond_1_lsb": 0, "snr_db": 70.0}
LIVE = {
    "live": {"status": 0, "complaint": "", "printed": {"xruns": {"capture": 0, "playback": 0}}},
    "captured": SOUND,
    "sound": SOUND,
}
UNIT = {"MainPID": "70", "NRestarts": "0", "ActiveState": "active"}
AGAIN = {"MainPID": "99", "NRestarts": "1", "ActiveState": "active"}
GAP = {"longest_gap_s": 4.0}
SERVICE = {
    "started": {"complaint": ""},
    "before": UNIT,
    "after": AGAIN,
    "restarted_s": 3.0,
    "sound": GAP,
    "kept": {"after": {"strength": 0.75}, "after_restart": {"strength": 1.0}},
}

STOPPED = {"xruns": {"capture": 0, "playback": 0}, "drift_ppm": -1006.9}
ENDED = {"status": 0, "complaint": "", "printed": {}}
UNPLUG = {"noticed_s": 0.2, "waiting_for": "hw:0", "again_s": 2.8, "live": ENDED}
DRIFT = {"shifted": [{"status": 0, "complaint": ""}] * 2, "live": {"printed": STOPPED}}

REPORTS = [
    ("all is well", {"live": LIVE, "service": SERVICE}, []),
    ("an underrun", {"live": LIVE | {"live": LIVE["live"] | {"printed": {"xruns": {"playback": 1, "capture": 0}}}}},
     ["no xrun"]),
    ("no counts at all", {"live": LIVE | {"live": LIVE["live"] | {"printed": []}}}, ["no xrun"]),
    ("other sound", {"live": LIVE | {"sound": SOUND | {"max_difference_lsb": 1.5}}},
     ["it played the sound of the file path"]),
    ("other samples in", {"live": LIVE | {"captured": SOUND | {"max_difference_lsb": 2.0}}},
     ["it captured what was fed"]),
    ("too little sound", {"live": LIVE | {"sound": SOUND | {"compared_s": 0.5}}},
     ["it played the sound of the file path"]),
    ("not restarted", {"service": SERVICE | {"after": UNIT}}, ["it is restarted after kill -9"]),
    ("one process", {"service": SERVICE | {"after": AGAIN | {"MainPID": "70"}}}, ["it is restarted after kill -9"]),
    ("silent ever after", {"service": SERVICE | {"sound": {"longest_gap_s": None}}}, ["sound goes on"]),
    (
        "forgot its settings, and then its options",
        {"service": SERVICE | {"kept": {"after": None, "after_restart": {"strength": 0.75}}}},
        ["it is set as it was", "the unit's options hold after a restart"],
    ),
    ("pulled out and put back", {"unplug": UNPLUG, "drift": DRIFT}, []),
    ("never noticed", {"unplug": UNPLUG | {"noticed_s": None}}, ["a card pulled out is waited for"]),
    ("never back", {"unplug": UNPLUG | {"again_s": None}}, ["it resumes by itself"]),
    ("no clock was off", {"drift": DRIFT | {"live": {"printed": STOPPED | {"drift_ppm": 0}}}}, ["the ratio is found"]),
    ("died of it", {"drift": DRIFT | {"live": {"printed": None}}}, ["no xrun with clocks apart", "the ratio is found"]),
    ("broke", {"broke": "Traceback\nKeyError: 'x'"}, ["the guest ran to its end"]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "found", "failed"), REPORTS)
def test_a_report_is_judged(case: str, found: dict, failed: list[str]) -> None:
    assert [what for what, holds, _ in run.verdicts(found) if not holds] == failed


def sound_files(tmp_path: Path, late: int, change: int = 0) -> dict:
    """`heard` begins `late` samples of silence later than `wanted`, and one sample in its middle is changed."""
    sound = (3000 * np.random.default_rng(0).normal(0, 1, 16_000)).clip(-9000, 9000).astype(np.int16)
    wanted = np.concatenate((np.zeros(4000, np.int16), sound))
    heard = np.concatenate((np.zeros(late, np.int16), wanted))
    heard[late + 12_000] += change
    soundfile.write(tmp_path / "wanted.wav", wanted, 16_000)
    soundfile.write(tmp_path / "heard.wav", heard, 16_000)
    return guest.compare(tmp_path / "heard.wav", tmp_path / "wanted.wav")


@pytest.mark.parametrize("late", [0, 1, 517])
def test_sound_is_compared_after_alignment(tmp_path: Path, late: int) -> None:
    found = sound_files(tmp_path, late)
    assert (found["shift_samples"], found["n_beyond_1_lsb"], found["max_difference_lsb"]) == (late, 0, 0)
    assert found["compared_s"] == pytest.approx(1.0, abs=0.01)


def test_one_wrong_sample_is_seen(tmp_path: Path) -> None:
    found = sound_files(tmp_path, 300, change=5)
    assert (found["n_beyond_1_lsb"], found["max_difference_lsb"]) == (1, 5)


def test_a_gap_in_sound_is_measured(tmp_path: Path) -> None:
    tenths = np.repeat([0, 1, 1, 0, 0, 0, 1, 1, 0, 0], 1600)
    soundfile.write(tmp_path / "a.wav", 0.1 * tenths, 16_000)
    found = guest.silences(tmp_path / "a.wav")
    assert found["loud_s"] == pytest.approx(0.4)
    assert found["longest_gap_s"] == pytest.approx(0.4)
    assert found["last_sound_before_end_s"] == pytest.approx(0.2)
