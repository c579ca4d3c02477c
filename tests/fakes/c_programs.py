"""C programs that judge the native engine: compiled here from tests/edge_runtime/native, under sanitizers."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from places import INCLUDES, TESTS, engine_sources

HERE = TESTS / "edge_runtime" / "native"
FLAGS = ["-std=gnu11", "-O2", "-g", "-ffp-contract=off", "-fno-math-errno", *INCLUDES]
# The engine as the Makefile of a C project compiles it, option by option, so that objects of its tests serve here.
ENGINE = ["-std=c99", "-ffp-contract=off", "-fno-math-errno"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
NO_VECTORS = "-DED_NO_VECTORS"
WITH_SCALAR = "-DED_SCALAR"  # the kernels for processors without vectors beside those with
# -O0: what is judged is every access of the source, not how fast it is. What is inlined is instrumented once a copy,
# and runs no faster. Together five sixths of the compiler's time.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SANITIZED = ["-O0", "-g", "-fno-inline", "-DINLINE=inline", *SANITIZERS]
FUZZED = ["-O1", "-g", "-fno-var-tracking", "-fno-inline", "-DINLINE=inline", *SANITIZERS]  # runs for minutes and more
GCC = ("gcc",)


def compiled(out: Path, source: str, *flags: str, compiler: Sequence[str] = GCC) -> Path:
    """An executable of a program here and the whole engine."""
    folder = out.with_name(f"{out.name}-objects")
    folder.mkdir()
    return linked(out, source, objects(folder, *flags, compiler=compiler), *flags, compiler=compiler)


def objects(folder: Path, *flags: str, compiler: Sequence[str] = GCC) -> list[Path]:
    """The engine's, in this folder; compiled without a warning."""
    made, command = [], [*compiler, *ENGINE, *WARNINGS, *flags, *INCLUDES]
    sources = engine_sources()
    for source in map(Path, random.sample(sources, len(sources))):  # two workers that wait for each other's share them
        made.append(folder / f"{source.stem}.o")
        subprocess.run([*command, "-c", str(source), "-o", str(made[-1])], check=True, timeout=600)
    return made


def linked(out: Path, source: str, engine: Iterable[Path], *flags: str, compiler: Sequence[str] = GCC) -> Path:
    """An executable of a program here, optimized whatever the flags say, and some objects of the engine."""
    command = [*compiler, *flags, *FLAGS, str(HERE / source), *map(str, engine), "-o", str(out), "-lm"]
    subprocess.run(command, check=True, timeout=600)
    return out


def sanitized_engine(
    folder: Path, compiler: Sequence[str] = GCC, flags: Sequence[str] = tuple(SANITIZED)
) -> list[Path]:
    """Objects of the engine under both sanitizers, with every kernel set of this processor."""
    return objects(folder, WITH_SCALAR, *flags, compiler=compiler)


def linked_fuzzer(out: Path, engine: Iterable[Path], flags: Sequence[str] = tuple(SANITIZED)) -> Path:
    """The fuzzer; it brings the engine's loop and the list of kernel sets itself."""
    others = [path for path in engine if path.stem not in ("ed_engine", "ed_isas")]
    return linked(out, "fuzz.c", others, WITH_SCALAR, *flags)


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
    others = os.environ.get("ASAN_OPTIONS", "")
    options = os.environ | {"ASAN_OPTIONS": f"{others}:detect_leaks=0"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, env=options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
