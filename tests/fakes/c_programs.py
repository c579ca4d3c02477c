"""C programs that judge the native engine: compiled here from tests/edge_runtime/native, under sanitizers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from places import INCLUDES, TESTS, engine_sources

HERE = TESTS / "edge_runtime" / "native"
FLAGS = ["-std=gnu11", "-O2", "-g", "-ffp-contract=off", "-fno-math-errno", *INCLUDES]
NO_VECTORS = "-DED_NO_VECTORS"
WITH_SCALAR = "-DED_SCALAR"  # the kernels for processors without vectors beside those with
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiled(out: Path, source: str, *flags: str, compiler: str = "gcc") -> Path:
    """An executable of a program here and the whole engine."""
    return linked(out, source, engine_sources(), *flags, compiler=compiler)


def linked(out: Path, source: str, engine: Iterable[str | Path], *flags: str, compiler: str = "gcc") -> Path:
    """An executable of a program here and some files of the engine, sources or objects."""
    command = [compiler, *FLAGS, *flags, str(HERE / source), *map(str, engine), "-o", str(out), "-lm"]
    subprocess.run(command, check=True, timeout=600)
    return out


def sanitized_engine(folder: Path) -> list[Path]:
    """Objects of the engine under both sanitizers, with every kernel set of this processor; half a minute."""
    objects = []
    for source in map(Path, engine_sources()):
        objects.append(folder / f"{source.stem}.o")
        command = ["gcc", *FLAGS, "-O1", WITH_SCALAR, *SANITIZED, "-c", str(source), "-o", str(objects[-1])]
        subprocess.run(command, check=True, timeout=600)
    return objects


def linked_fuzzer(out: Path, engine: Iterable[Path]) -> Path:
    """The fuzzer; it brings the engine's loop and the list of kernel sets itself."""
    others = [path for path in engine if path.stem not in ("ed_engine", "ed_isas")]
    return linked(out, "fuzz.c", others, WITH_SCALAR, *SANITIZED)


def written(folder: Path, rows: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Files of these names and bytes."""
    paths = []
    for name, data in rows:
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    return paths


def output(*command: object) -> str:
    """What it prints; AssertionError with the end of it where it fails."""
    # The engine allocates nothing; the program that judges it leaves its files' memory to the end of the process.
    options = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, env=options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
