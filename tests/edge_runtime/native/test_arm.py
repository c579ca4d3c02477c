"""Real aarch64 code of every engine, on emulated Pi processors: every model reaches its golden vectors.

ONNX Runtime and LiteRT come as their wheels, the native engine is cross-compiled and must be exact.
Needs Debian's `mmdebstrap`, `qemu-user-static`, `gcc-aarch64-linux-gnu` and root, about a minute and 250 MB.
Instructions that a Cortex-A53 or A72 does not have would trap here. ONNX Runtime reads /proc/cpuinfo, so the root
gets that of a Pi 4.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from arm_root import BINFMT, COMPILER, FLAGS, write_cpu_files
from places import INCLUDES, engine_sources

import edge_runtime
from edge_runtime.quiet import silent
from quant.build import stages
from quant.build.settings import Outputs, Settings

pytestmark = [pytest.mark.slow, pytest.mark.qemu]

DEBIAN_PACKAGES = "python3,libsndfile1,libgomp1,libc-bin,coreutils,bash,dash,libstdc++6"
ENGINES = ("onnxruntime==1.32.0", "ai-edge-litert==2.3.0", "backports.strenum")
WHEELS = ("numpy", *ENGINES, "soundfile", "soxr", "msgspec", "tqdm")
PLATFORMS = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
CHECK = """
import json
from edge_runtime import open_artifact
from edge_runtime.engines.golden import check_golden
print(json.dumps([row._asdict() for row in check_golden(open_artifact("/opt/artifact"))]))
"""


@pytest.fixture(scope="module")
def arm_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian arm64 root with the runtime, its wheels and an artifact."""
    if not shutil.which("mmdebstrap") or not shutil.which(COMPILER) or not BINFMT.exists() or os.geteuid() != 0:
        pytest.skip(
            "needs root, mmdebstrap, a registered qemu-aarch64 and a cross compiler "
            "(packages mmdebstrap, qemu-user-static, gcc-aarch64-linux-gnu)"
        )
    root = tmp_path_factory.mktemp("arm") / "root"
    options = ["--variant=extract", "--architectures=arm64", f"--include={DEBIAN_PACKAGES}", "--quiet"]
    subprocess.run(["mmdebstrap", *options, "bookworm", str(root)], check=True)
    platforms = [part for p in PLATFORMS for part in ("--platform", p)]
    abis = ["--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none"]
    wheels = ["--quiet", "--no-compile", f"--target={root}/opt/wheels", "--only-binary=:all:"]
    subprocess.run([sys.executable, "-m", "pip", "install", *wheels, *abis, *platforms, *WHEELS], check=True)
    here = Path(edge_runtime.__file__).parent
    shutil.copytree(here, root / "opt/project/edge_runtime", ignore=shutil.ignore_patterns("*.so"))
    library = root / "opt/project/edge_runtime/native/libedge_denoise.so"
    subprocess.run(
        [COMPILER, *FLAGS, *INCLUDES, "-shared", "-fPIC", *engine_sources(), "-o", str(library), "-lm"], check=True
    )
    stages.build(Settings(target="rpi4", outputs=Outputs(folder=root / "opt/artifact")), silent)
    write_cpu_files(root)
    return root


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76"])
def test_every_model_reaches_its_golden_vectors(arm_root: Path, cpu: str):
    environment = {"QEMU_CPU": cpu, "PYTHONPATH": "/opt/project:/opt/wheels", "PATH": os.environ["PATH"]}
    command = ["chroot", str(arm_root), "/usr/bin/python3", "-c", CHECK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    rows = json.loads(done.stdout)
    ran = {(row["engine"], row["precision"]) for row in rows}
    assert ran == {(engine, p) for engine in ("native", "onnx", "tflite") for p in ("fp32", "int8")}
    assert [(row["engine"], row["precision"]) for row in rows if row["exact"]] == [("native", "int8")]
    assert all(row["ok"] for row in rows), rows
