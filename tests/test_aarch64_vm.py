"""Live denoising between real `hw:` devices, on an emulated arm64 machine under systemd: see tests/rigs/aarch64_vm.

Minutes on an idle machine; on a busy one the emulated processor cannot keep up with sound, and xruns are its fault.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "rigs" / "aarch64_vm"))

import run
import vm

from edge_runtime.cli import COMMANDS
from quant import build

pytestmark = [pytest.mark.slow, pytest.mark.qemu]


@pytest.mark.parametrize("part", ["tools", "live", "service"])
def test_on_a_real_loopback_card(vm_folder: Path, artifact: Path, part: str) -> None:
    if part == "service" and "install" not in {command.name for command in COMMANDS}:
        pytest.skip("edge-denoise has no `install`")
    found, verdicts = run.run(vm_folder, artifact, [part], seconds=60)
    assert verdicts
    assert [verdict for verdict in verdicts if not verdict[1]] == [], found


@pytest.fixture(scope="module")
def vm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := vm.missing():
        pytest.skip(missing)
    return tmp_path_factory.mktemp("vm")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "rpi4"
    build.build(build.Settings("rpi4", out=folder), lambda message: None)
    return folder
