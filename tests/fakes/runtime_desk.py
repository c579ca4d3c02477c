"""A working folder for `edge-denoise`, and the law that bad input is one line and leaves nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr  # noqa: F401  what is imported is not tried out in a process of its own
from toy_artifact import toy

from edge_runtime.cli import main


def lay_out() -> None:
    """MODEL, in.wav of one second, out/."""
    Path("MODEL").symlink_to(toy().directory)
    Path("out").mkdir()
    soundfile.write("in.wav", noise(), 16_000)


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (16_000, 1)).astype(np.float32)


def file(source: str = "in.wav", target: str = "out/a.wav", model: str = "MODEL", *options: str) -> list[str]:
    return ["file", source, target, "--model", model, *options]


def bench(model: str = "MODEL", *options: str) -> list[str]:
    return ["bench", "--model", model, *options]


def tree() -> dict[str, bytes]:
    """Every file of the working folder that a test may have touched."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refuses(argv: Sequence[str], status: int, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = tree()
    assert main(argv) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"edge-denoise: error: [^\n]+\n", err)
    assert message in err
    assert tree() == before
