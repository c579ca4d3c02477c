"""`quant deploy --with-deps` to an sshd in an emulated arm64 Debian: real aarch64 wheels, the native engine exact.

Needs Debian's `mmdebstrap`, `qemu-user-static`, `gcc-aarch64-linux-gnu`, `openssh-client`, root, and the package
registry for the board's wheels; a minute or two and 250 MB.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import far_side
import pytest
from arm_root import BINFMT, COMPILER, compile_library, write_cpu_files
from far_side import Board

from edge_runtime.quiet import silent
from quant.build import stages
from quant.build.settings import Outputs, Settings
from quant.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.qemu]

PACKAGES = "python3,libsndfile1,libgomp1,libc-bin,coreutils,bash,dash,libstdc++6,openssh-server,passwd"
USERS = "root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """Debian 12 for arm64 with nothing of ours in it but a key."""
    if not shutil.which("mmdebstrap") or not shutil.which(COMPILER) or not BINFMT.exists() or os.geteuid() != 0:
        pytest.skip("needs root, mmdebstrap, a registered qemu-aarch64 and a cross compiler")
    root = tmp_path_factory.mktemp("deploy") / "root"
    options = ["--variant=extract", "--architectures=arm64", f"--include={PACKAGES}", "--quiet"]
    subprocess.run(["mmdebstrap", *options, "bookworm", str(root)], check=True)
    write_cpu_files(root)
    (root / "etc/passwd").write_text(USERS)
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for folder in ("run/sshd", "root", "tmp"):
        (root / folder).mkdir(exist_ok=True, parents=True)
    for device in ("null", "urandom", "zero"):
        if not (root / "dev" / device).exists():
            subprocess.run(["cp", "-a", f"/dev/{device}", str(root / "dev")], check=True)
    with far_side.sshd(root / "root", {"QEMU_CPU": "cortex-a72"}, chroot=root) as served:
        yield served


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for the Pi 4, and the runtime's wheel with the native engine compiled for it."""
    folder = tmp_path_factory.mktemp("desk")
    library = folder / "libedge_denoise.so"
    compile_library(library, "-s")
    far_side.wheel(folder, "manylinux_2_34_aarch64", library)
    stages.build(Settings(target="rpi4", outputs=Outputs(folder=folder / "rpi4")), silent)
    return folder


def test_a_pi_without_a_network_gets_everything_and_is_exact(board, desk, capfd):
    options = ["--target=rpi4", f"--model={desk / 'rpi4'}", f"--wheels={desk}", "--with-deps", "--json"]
    assert main(["deploy", *board.arguments, *options]) == 0, capfd.readouterr().err
    told = json.loads(capfd.readouterr().out)
    rows = {(row["engine"], row["precision"]): row for row in told["steps"]["verify"]["detail"]["golden"]}
    assert rows["native", "int8"]["exact"]
    assert rows["native", "int8"]["ok"]
    assert rows["native", "fp32"]["ok"]
    assert {rows[engine, "int8"]["ok"] for engine in ("onnx", "tflite")} == {None}
