"""`make wheels`: the package for aarch64, armv7l and x86-64, cross-compiled here in seconds.

    python -m quant.deploy.wheels [--out dist] [--json]       # in the project's folder

One wheel is built, then it gets each target's engine, LADSPA plugin and name. zig compiles and links against glibc 2.17
of 2012, so the wheels install on every system that pip calls manylinux2014; auditwheel has the last word.
Needs the extra `wheels`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from edge_runtime import command
from edge_runtime.command import Answer, Command
from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_install
from edge_runtime.whole_file import written_whole

TOP: Final = Path(__file__).parents[2]
GLIBC: Final = "2.17"
PACKAGES: Final = ("boards", "calibration", "edge_runtime", "quant")
FILES: Final = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")
LIBRARY: Final = "edge_runtime/native/libedge_denoise.so"
PLUGIN: Final = "edge_runtime/native/ladspa_edge_denoise.so"
# The same sources and tools give the same bytes: neither when nor under what umask they were made is in a wheel.
FILES_DATE: Final = "1580601600"  # 2020-02-02, as other builders of wheels have it; s since 1970
NOT_ZIGS: Final = ("-Wl,-z,noseparate-code",)  # flags for the linker that zig does not know
LIBRARY_MODE, FILE_MODE = 0o755, 0o644


@dataclass(frozen=True)
class Target:
    """`triple`, `cpu`: as zig names them; that processor is the least, faster kernels are chosen at run time.
    `most_bytes`: of the stripped library."""

    machine: str
    triple: str
    cpu: str
    most_bytes: int

    @property
    def platforms(self) -> str:
        """Platform tags: the present name and the one that old pips know."""
        return f"manylinux_{GLIBC.replace('.', '_')}_{self.machine}.manylinux2014_{self.machine}"

    @property
    def flags(self) -> tuple[str, ...]:
        """What makes zig compile for it, the oldest glibc that the wheel's name says, and any address."""
        return ("-target", f"{self.triple}.{GLIBC}", f"-mcpu={self.cpu}", "-fPIC")


# The only bounds there are. Made with zig 0.17 they have 211, 214 and 327 KB; the rest is what compilers differ in.
TARGETS: Final = (
    Target("aarch64", "aarch64-linux-gnu", "cortex_a53", 216 * 1024),
    Target("armv7l", "arm-linux-gnueabihf", "generic+v7a+vfp3d16", 232 * 1024),
    Target("x86_64", "x86_64-linux-gnu", "baseline", 328 * 1024),
)


@dataclass(frozen=True)
class Wheel:
    """What was made."""

    path: Path
    bytes: int
    library_bytes: int
    platform: str  # the oldest that auditwheel finds it consistent with


def build(out: Path) -> list[Wheel]:
    """Every target's wheel in `out`. Failure: a tool is missing or refuses; not in the project's folder."""
    require_sources()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tell("building the package")
        tree = unpacked(folder)
        made = []
        for target in TARGETS:
            tell(f"compiling for {target.machine}")
            n_bytes = compile_engine(target, tree / LIBRARY, tree / PLUGIN)
            made.append((pack(target, tree, folder / target.machine), n_bytes))
        tell("auditing")
        wheels = [
            Wheel(out / path.name, path.stat().st_size, n_bytes, audit(target, path))
            for (path, n_bytes), target in zip(made, TARGETS, strict=True)
        ]
        out.mkdir(parents=True, exist_ok=True)
        for path, _ in made:
            with written_whole(out / path.name) as part:
                part.write_bytes(path.read_bytes())
    return wheels


def require_sources() -> None:
    """Failure: they are not here, as with an installed package, which has no setup.py."""
    if importlib.util.find_spec("setup") is None:
        raise Failure("the sources are not here", where=Path.cwd(), remedy="run it in the project's folder")


def compile_engine(target: Target, library: Path, plugin: Path) -> int:
    """The engine and the LADSPA plugin for a processor; bytes of the first. Failure: the sources are not here, or it is
    larger than it may be."""
    require_sources()
    from setup import FLAGS, LINK_FLAGS, plugin_sources, sources

    # clang unrolls more than gcc: a third more code, 2 % fewer instructions.
    flags = [*FLAGS, "-fno-unroll-loops", *(flag for flag in LINK_FLAGS if flag not in NOT_ZIGS)]
    flags += hardened(target)
    compile_shared(target, flags, plugin_sources(), plugin, "-lm", "-ldl")
    n_bytes = compile_shared(target, flags, sources(), library, "-lm")
    if n_bytes > target.most_bytes:
        raise Failure(f"the library has {n_bytes:,} bytes, over {target.most_bytes:,}", where=target.machine)
    return n_bytes


def unpacked(folder: Path) -> Path:
    """The files of a wheel, without a library. Made from a copy, for setuptools' leavings get into the next wheel."""
    source = folder / "source"
    source.mkdir()
    for name in (*PACKAGES, *FILES):
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(TOP / name, source / name)
    # The library of this machine would be replaced anyway: without a compiler the package builds without it.
    run("build", "--wheel", "--no-isolation", "--outdir", folder, source, CC="false")
    (wheel,) = folder.glob("*.whl")
    run("wheel", "unpack", "--dest", folder / "unpacked", wheel)
    (tree,) = (folder / "unpacked").iterdir()
    return tree


def hardened(target: Target) -> list[str]:
    """Flags that guard and seal a library, as far as zig knows them for this target; setup.py says why."""
    from setup import hardening, probe

    zig = [sys.executable, "-m", "ziglang", "cc", *target.flags]
    for_compiler, for_linker = hardening(lambda compiles, links: probe(compiles, links, zig, [*zig, "-shared"]))
    return [*for_compiler, *for_linker]


def compile_shared(target: Target, flags: list[str], names: list[str], out: Path, *libraries: str) -> int:
    """Bytes of a shared library of C files."""
    files = [TOP / name for name in names]
    run("ziglang", "cc", *target.flags, *flags, "-shared", "-o", out, *files, *libraries)
    return out.stat().st_size


def pack(target: Target, tree: Path, out: Path) -> Path:
    """The unpacked wheel with the library of one target, under its name; `wheel pack` writes RECORD anew."""
    (info,) = tree.glob("*.dist-info/WHEEL")
    tags = "".join(f"Tag: py3-none-{platform}\n" for platform in target.platforms.split("."))
    kept = (line for line in info.read_text().splitlines() if line and not line.startswith("Tag:"))
    info.write_text("".join(f"{line}\n" for line in kept) + tags)
    out.mkdir()
    for path in tree.rglob("*"):
        if path.is_file():
            path.chmod(LIBRARY_MODE if path.suffix == ".so" else FILE_MODE)
    run("wheel", "pack", "--dest-dir", out, tree, SOURCE_DATE_EPOCH=FILES_DATE)
    (wheel,) = out.glob("*.whl")
    return wheel


def audit(target: Target, wheel: Path) -> str:
    """The platform of the library by the symbols it wants. Failure: a newer one than the wheel's name says."""
    words = " ".join(run("auditwheel", "show", wheel).split())
    found = re.search(r'consistent with the following platform tag: "(manylinux_(\d+)_(\d+)_(\w+))"', words)
    glibc = tuple(map(int, GLIBC.split(".")))
    if found is None or found[4] != target.machine or (int(found[2]), int(found[3])) > glibc:
        raise Failure(f"auditwheel says: {words[-200:]}", where=wheel.name, remedy="link against an older glibc")
    return found[1]


def run(module: str, *arguments: object, **environment: str) -> str:
    """Standard output of `python -m module`. Failure with the last line that it wrote."""
    line = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(line, cwd=TOP, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()
        raise Failure(f"{module} failed: {said[-1]}", remedy=how_to_install("wheels"))
    return done.stdout


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="default: dist")


def _run(args: argparse.Namespace) -> Answer:
    wheels = build(args.out)
    return Answer([{**vars(wheel), "path": str(wheel.path)} for wheel in wheels], map(_line, wheels))


def _line(wheel: Wheel) -> str:
    sizes = f"{wheel.bytes / 1024:.0f} KB, library {wheel.library_bytes / 1024:.0f} KB"
    return f"{wheel.path}: {sizes}, consistent with {wheel.platform}"


PROGRAM: Final = Command("wheels", "Cross-build the wheels of this package.", _arguments, _run, takes_long=True)
tell = partial(command.say, PROGRAM.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command.run(command.parser_for(PROGRAM), argv)


if __name__ == "__main__":
    sys.exit(main())
