"""Folders of speech or noise that nothing can be measured on: each row brings its recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from quant_desk import build, record, refuses

LOUD = np.random.default_rng(1).normal(0, 0.1, 96_000)
BAD = [
    ("missing", None, "there: no such folder; name a folder of recordings"),
    ("empty", {}, "there: no recordings in it"),
    ("no audio", {"a.txt": b"no audio"}, "there: no recordings in it"),
    ("short", LOUD[:1600], "there: holds only 0.1 s of audio; at least 5 s are needed"),
    ("unreadable", {"a.wav": b"not sound"}, "there/a.wav: cannot be read as sound"),
    ("NaN", LOUD * np.nan, "there/a.wav: holds NaN or infinite samples"),
    ("silent", LOUD * 0, "there/a.wav: is silent; remove the file"),
]


def put(content: np.ndarray | dict[str, bytes] | None) -> None:
    if isinstance(content, np.ndarray):
        record("there", content)
    elif content is not None:
        Path("there").mkdir()
        for name, data in content.items():
            Path("there", name).write_bytes(data)


@pytest.mark.parametrize("kind", ["speech", "noise"])
@pytest.mark.parametrize(("content", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_sounds_are_one_line_and_leave_nothing(desk, capfd, kind, content, message):
    put(content)
    refuses(build(command="plan" if kind == "noise" else "build", **{kind: "there"}), 1, message, capfd)


def test_a_file_is_no_folder_of_sounds(desk, capfd):
    refuses(build(speech="speech/a.wav"), 1, "speech/a.wav: not a folder; name a folder of recordings", capfd)
