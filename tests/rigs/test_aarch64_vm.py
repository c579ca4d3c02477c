"""Live denoising between real `hw:` devices, on an emulated arm64 machine under systemd: see tests/rigs/aarch64_vm.

The machine's clock counts its instructions, a nanosecond each: a busy host makes it slower to watch, not late.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "aarch64_vm"))

import run
import vm

from edge_runtime.quiet import silent
from quant.build import stages
from quant.build.settings import Outputs, Settings

pytestmark = [pytest.mark.slow, pytest.mark.qemu]


@pytest.mark.parametrize("part", ["tools", "live", "unplug", "drift", "service"])
def test_on_a_real_loopback_card(vm_folder: Path, artifact: Path, part: str) -> None:
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
    stages.build(Settings(target="rpi4", outputs=Outputs(folder=folder)), silent)
    return folder
