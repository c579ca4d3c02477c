"""A working folder for `quant` with good weights and sounds; the law that bad input is one line and leaves nothing."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from toy_artifact import toy

from calibration.mixing import Mix
from calibration.ranges import Provenance, Ranges, TapRange
from quant.cli import main
from quant.inputs import assets
from quant.network.gtcrn import param_shapes

GOOD = {"target": "host", "checkpoint": "good.pt", "speech": "speech", "noise": "noise"}


@functools.cache
def weights() -> bytes:
    """A checkpoint of this network that no training made."""
    draw = torch.Generator().manual_seed(0)
    return saved({name: torch.rand(shape, generator=draw) / 9 + 0.01 for name, shape in param_shapes().items()})


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def lay_out() -> None:
    """What is good, in the working folder."""
    Path("good.pt").write_bytes(weights())
    draw = np.random.default_rng(0)
    record("speech", draw.normal(0, 0.1, 96_000) * np.sin(np.arange(96_000) / 3000) ** 2)
    record("noise", draw.normal(0, 0.1, 96_000))
    Path("out").mkdir()


def record(folder: str, samples: np.ndarray) -> None:
    """A folder with one recording, a.wav."""
    Path(folder).mkdir()
    soundfile.write(f"{folder}/a.wav", samples.astype(np.float32), 16_000, "FLOAT")


def nothing_is_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("weights", "speech", "noise"):
        monkeypatch.setattr(assets, kind, functools.partial(pytest.fail, f"{kind} would be pulled"))


def write_ranges(
    name: str, checkpoint_sha256: str = hashlib.sha256(weights()).hexdigest(), taps: Sequence[str] = ("sfe",)
) -> None:
    """Ranges of these taps alone, of the good weights if not of others."""
    provenance = Provenance("min_max", Mix(), "0" * 64, "0" * 64, checkpoint_sha256)
    Ranges({tap: TapRange(-1.0, 1.0, 9, -1.0, 1.0) for tap in taps}, provenance).save(name)


def copy_artifact(name: str, changes: Mapping[str, Callable[[bytes], bytes | None]] = {}, *, resealed: bool = False):
    """A good artifact with some of its files changed or (None) lost; resealed: its manifest says so, too."""
    folder = Path(name)
    shutil.copytree(toy().directory, folder)
    for file, change in changes.items():
        data = change((folder / file).read_bytes())
        (folder / file).unlink() if data is None else (folder / file).write_bytes(data)
        if resealed:
            index = json.loads((folder / "manifest.json").read_text())
            index["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            (folder / "manifest.json").write_text(json.dumps(index))


def build(*more: str, command: str = "build", out: str = "out/a", **changes: str) -> list[str]:
    """A good command line but for the changes."""
    options = [f"--{name}={value}" for name, value in (GOOD | changes).items()]
    return [command, *options, *(["--out", out] if command == "build" else []), *more]


def tree() -> dict[str, bytes | None]:
    """Every file and folder of the working folder that a test may have touched."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def refuses(argv: Sequence[str], status: int, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Progress may come before the line; nothing is pulled, for what a row does not name is not there."""
    before = tree()
    assert main(argv) == status
    assert message in only_error(capfd.readouterr().err)
    assert tree() == before


def only_error(err: str) -> str:
    """The last line of standard error, after no more than progress."""
    *progress, error = err.splitlines()
    assert error.startswith("quant: error: ")
    assert "please report" not in error
    assert all(re.match("quant: (?!error)", line) for line in progress)
    return error
