"""Python modules that the runtime needs and bookworm does not have: msgspec and soxr, compiled from their sources.

trixie has both. soxr is linked against Debian's own libsoxr. The headers of bookworm's Python and libsoxr come from its
packages, which mmdebstrap unpacks into a folder: nothing is installed, no root is needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_install
from quant.deploy.wheels import Target, run

SUITE: Final = "bookworm"
MIRROR: Final = "http://deb.debian.org/debian"  # the release alone: updates are not always whole for every processor
PYTHON: Final = "3.11"
HEADERS: Final = f"libpython{PYTHON}-dev,libsoxr-dev"
FLAGS: Final = ("-O2", "-g0", "-s", "-DNDEBUG", "-w", "-fno-strict-aliasing", "-shared")
LINK_FLAGS: Final = ("-Wl,-z,relro", "-Wl,-z,now")


class Source(NamedTuple):
    """A source archive of the registry."""

    name: str
    version: str
    sha256: str


MSGSPEC: Final = Source("msgspec", "0.22.0", "0a13624a4969159fe35d8c2a3d377b2b61bbd8585e327440d5e52725affcce38")
SOXR: Final = Source("soxr", "1.1.0", "9f228ae21c78fa9359ca98d8a5e8e91f30639e438e574133dace62c5b5309e44")


def fetch(folder: Path) -> None:
    """Both sources, unpacked in `folder`. Failure: the registry does not answer, or has other bytes."""
    wanted = folder / "sources.txt"
    wanted.write_text("".join(f"{s.name}=={s.version} --hash=sha256:{s.sha256}\n" for s in (MSGSPEC, SOXR)))
    options = ["download", "--quiet", "--no-deps", "--no-binary=:all:", "--require-hashes", "--dest", folder]
    run("pip", *options, "--requirement", wanted)
    for archive in sorted(folder.glob("*.tar.gz")):
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")


def headers(architecture: str, folder: Path, mirror: str = MIRROR) -> Path:
    """The root that holds them for a processor. Failure: mmdebstrap is not there, or refuses."""
    if shutil.which("mmdebstrap") is None:
        raise Failure("mmdebstrap is not installed", remedy="`sudo apt install mmdebstrap`")
    options = ["--quiet", "--variant=extract", f"--architectures={architecture}", f"--include={HEADERS}"]
    done = subprocess.run(["mmdebstrap", *options, SUITE, str(folder), mirror], capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E: ")] or ["no word"]
        raise Failure(f"mmdebstrap failed: {said[0]}", where=architecture, remedy="see that the mirror answers")
    return folder


def compile_modules(target: Target, multiarch: str, root: Path, sources: Path, into: Path) -> None:
    """msgspec and soxr in `into`, for that Python and processor. Failure: the compiler refuses."""
    suffix = f".cpython-{PYTHON.replace('.', '')}-{multiarch}.so"
    includes = _includes(root, multiarch, into.parent / "include")
    msgspec, soxr = (sources / f"{s.name}-{s.version}" / "src" for s in (MSGSPEC, SOXR))
    keep = shutil.ignore_patterns("*.c", "*.h", "*.cpp", "*.in", "*.pyi", "py.typed")
    for source, name in ((msgspec, "msgspec"), (soxr, "soxr")):
        shutil.copytree(source / name, into / name, ignore=keep)
    common = [*target.flags, *FLAGS, *LINK_FLAGS, *includes]
    run("ziglang", "cc", *common, "-fwrapv", "-o", into / f"msgspec/_core{suffix}", msgspec / "msgspec/_core.c", "-lm")
    nanobind = _nanobind()
    folders = (nanobind / "include", nanobind / "ext/robin_map/include", nanobind / "src", soxr)
    files = (nanobind / "src/nb_combined.cpp", soxr / "soxr_ext.cpp", soxr / "csoxr_version.cpp")
    library = (root / "usr/lib" / multiarch / "libsoxr.so.0").resolve()
    cxx = ["-std=c++17", "-DNB_COMPACT_ASSERTIONS", "-fvisibility=hidden", *(f"-I{folder}" for folder in folders)]
    run("ziglang", "c++", *common, *cxx, "-o", into / f"soxr/soxr_ext{suffix}", *files, library)


def _includes(root: Path, multiarch: str, folder: Path) -> list[str]:
    """Python's and soxr's headers alone: those of bookworm's C library would hide the compiler's own."""
    found = root / "usr/include"
    for name in (f"python{PYTHON}", f"{multiarch}/python{PYTHON}"):
        shutil.copytree(found / name, folder / name, dirs_exist_ok=True)
    shutil.copy(found / "soxr.h", folder)
    return [f"-I{folder / f'python{PYTHON}'}", f"-I{folder}"]


def _nanobind() -> Path:
    from importlib.util import find_spec

    spec = find_spec("nanobind")
    if spec is None or spec.origin is None:
        raise Failure("nanobind is not installed", where=sys.executable, remedy=how_to_install("deb"))
    return Path(spec.origin).parent
