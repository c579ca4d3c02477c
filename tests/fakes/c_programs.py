"""C programs that judge the native engine: compiled here from tests/edge_runtime/native, under sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from places import INCLUDES, TESTS, engine_sources

HERE = TESTS / "edge_runtime" / "native"
FLAGS = ["-std=gnu11", "-O2", "-g", "-ffp-contract=off", "-fno-math-errno", *INCLUDES]
NO_VECTORS = "-DED_NO_VECTORS"
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiled(out: Path, source: str, *flags: str, compiler: str = "gcc") -> Path:
    sources = [HERE / source, *engine_sources()]
    subprocess.run([compiler, *FLAGS, *flags, *map(str, sources), "-o", str(out), "-lm"], check=True, timeout=300)
    return out


def output(*command: object) -> str:
    # The engine allocates nothing; the program that judges it leaves its files' memory to the end of the process.
    options = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, env=options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
