"""Python modules that the runtime needs and a release does not have, compiled from their sources: msgspec and soxr for
bookworm, msgspec for trixie's armhf, which has all but that.

soxr is linked against Debian's own libsoxr. The headers of a release's Python and libsoxr come from its packages, which
mmdebstrap unpacks into a folder: nothing is installed, no root is needed.
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

MIRROR: Final = "http://deb.debian.org/debian"  # the release alone: updates are not always whole for every processor
FLAGS: Final = ("-O2", "-g0", "-s", "-DNDEBUG", "-w", "-fno-strict-aliasing", "-shared")
LINK_FLAGS: Final = ("-Wl,-z,relro", "-Wl,-z,now")


class Source(NamedTuple):
    """A source archive of the registry."""

    name: str
    version: str
    sha256: str


class Release(NamedTuple):
    """A release of Debian, its Python, and which of the two modules it lacks."""

    suite: str
    python: str
    lacks: tuple[str, ...]

    @property
    def headers(self) -> str:
        """The packages that bring them."""
        return f"libpython{self.python}-dev" + (",libsoxr-dev" if "soxr" in self.lacks else "")


BOOKWORM: Final = Release("bookworm", "3.11", ("msgspec", "soxr"))
TRIXIE_OF_ARMHF: Final = Release("trixie", "3.13", ("msgspec",))
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


def releases(architecture: str) -> tuple[Release, ...]:
    """Those that lack something on a processor."""
    return (BOOKWORM, TRIXIE_OF_ARMHF) if architecture == "armhf" else (BOOKWORM,)


def headers(release: Release, architecture: str, folder: Path, mirror: str = MIRROR) -> Path:
    """The root that holds them for a processor. Failure: mmdebstrap is not there, or refuses."""
    if shutil.which("mmdebstrap") is None:
        raise Failure("mmdebstrap is not installed", remedy="`sudo apt install mmdebstrap`")
    options = ["--quiet", "--variant=extract", f"--architectures={architecture}", f"--include={release.headers}"]
    done = subprocess.run(["mmdebstrap", *options, release.suite, str(folder), mirror], capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E: ")] or ["no word"]
        raise Failure(f"mmdebstrap failed: {said[0]}", where=architecture, remedy="see that the mirror answers")
    return folder


def compile_modules(release: Release, target: Target, multiarch: str, root: Path, sources: Path, into: Path) -> None:
    """What that release lacks in `into`, for its Python and that processor. Failure: the compiler refuses."""
    suffix = f".cpython-{release.python.replace('.', '')}-{multiarch}.so"
    common = [*target.flags, *FLAGS, *LINK_FLAGS, *_includes(release, root, multiarch, into.parent / "include")]
    keep = shutil.ignore_patterns("*.c", "*.h", "*.cpp", "*.in", "*.pyi", "py.typed")
    for name, source in (("msgspec", MSGSPEC), ("soxr", SOXR)):
        if name in release.lacks:
            folder = sources / f"{source.name}-{source.version}" / "src"
            shutil.copytree(folder / name, into / name, ignore=keep)
            _COMPILED[name](common, folder, into / name, suffix, root / "usr/lib" / multiarch)
    shutil.rmtree(into.parent / "include")


def _msgspec(common: list[str], source: Path, into: Path, suffix: str, libraries: Path) -> None:
    run("ziglang", "cc", *common, "-fwrapv", "-o", into / f"_core{suffix}", source / "msgspec/_core.c", "-lm")


def _soxr(common: list[str], source: Path, into: Path, suffix: str, libraries: Path) -> None:
    nanobind = _nanobind()
    folders = (nanobind / "include", nanobind / "ext/robin_map/include", nanobind / "src", source)
    files = (nanobind / "src/nb_combined.cpp", source / "soxr_ext.cpp", source / "csoxr_version.cpp")
    library = (libraries / "libsoxr.so.0").resolve()
    cxx = ["-std=c++17", "-DNB_COMPACT_ASSERTIONS", "-fvisibility=hidden", *(f"-I{folder}" for folder in folders)]
    run("ziglang", "c++", *common, *cxx, "-o", into / f"soxr_ext{suffix}", *files, library)


_COMPILED: Final = {"msgspec": _msgspec, "soxr": _soxr}


def _includes(release: Release, root: Path, multiarch: str, folder: Path) -> list[str]:
    """Python's and soxr's headers alone: those of the release's C library would hide the compiler's own."""
    found, python = root / "usr/include", f"python{release.python}"
    for name in (python, f"{multiarch}/{python}"):
        shutil.copytree(found / name, folder / name, dirs_exist_ok=True)
    if "soxr" in release.lacks:
        shutil.copy(found / "soxr.h", folder)
    return [f"-I{folder / python}", f"-I{folder}"]


def _nanobind() -> Path:
    from importlib.util import find_spec

    spec = find_spec("nanobind")
    if spec is None or spec.origin is None:
        raise Failure("nanobind is not installed", where=sys.executable, remedy=how_to_install("deb"))
    return Path(spec.origin).parent
