"""`make deb`: dist/edge-denoise_VERSION_{amd64,arm64,armhf}.deb, each for bookworm and trixie, cross-compiled here.

    python -m quant.deploy.debian.package [--out dist] [--architecture A] [--maintainer "NAME <MAIL>"] [--json]

The same sources and tools give the same bytes. Needs the extra `deb`, Debian's dpkg-deb and mmdebstrap, and no root.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Final

from edge_runtime import __version__, builtin, command
from edge_runtime.command import Answer, Command
from edge_runtime.errors import Failure
from edge_runtime.extras import NAME, PACKAGED
from edge_runtime.install import service, virtual_mic
from edge_runtime.whole_file import written_whole
from quant.deploy.debian import modules, pages
from quant.deploy.wheels import FILES_DATE, LIBRARY, TARGETS, TOP, Target, compile_engine

FILES: Final = Path(__file__).parent / "files"
AUTHORS: Final = "The edge-denoise authors"  # as pyproject.toml names them
ROOM: Final = "usr/lib/edge-denoise"
LADSPA: Final = "usr/lib/ladspa/edge_denoise"
UNIT: Final = "usr/lib/systemd/system/edge-denoise@.service"
CHAIN: Final = "usr/share/pipewire/filter-chain/edge-denoise.conf"
DOC: Final = f"usr/share/doc/{NAME}"
_CHAIN_SAYS: Final = "A denoised microphone for every user: ln -s this file into /etc/pipewire/pipewire.conf.d/"
_DATE: Final = "Sun, 02 Feb 2020 09:20:00 +0000"  # FILES_DATE, as changelogs have it


@dataclass(frozen=True)
class Architecture:
    """`name`, `multiarch`: as Debian has them."""

    name: str
    multiarch: str
    target: Target


_BY_MACHINE: Final = {target.machine: target for target in TARGETS}
ARCHITECTURES: Final = (
    Architecture("amd64", "x86_64-linux-gnu", _BY_MACHINE["x86_64"]),
    Architecture("arm64", "aarch64-linux-gnu", _BY_MACHINE["aarch64"]),
    Architecture("armhf", "arm-linux-gnueabihf", _BY_MACHINE["armv7l"]),
)


@dataclass(frozen=True)
class Package:
    """What was made."""

    path: Path
    architecture: str
    bytes: int
    installed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Wish:
    """`names`: of architectures, none is all; `maintainer`: as Debian writes it; `mirror`: of the releases' headers."""

    maintainer: str
    names: Sequence[str] = ()
    mirror: str = modules.MIRROR


def maintainer_of(clone: Path) -> str:
    """The project's authors, by the mail of its last commit: SECURITY.md tells people to write there, too.

    Failure: `clone` is no clone of git."""
    asked = ["git", "-C", str(clone), "log", "-1", "--format=%ae", "--", "."]
    mail = ""  # as a clone of something else around it leaves it
    with suppress(OSError):
        mail = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if not mail:
        remedy = "give --maintainer 'NAME <MAIL>' (`make deb ARGS=...`)"
        raise Failure("no clone of git, so nobody is known to maintain the package", where=clone, remedy=remedy)
    return f"{AUTHORS} <{mail}>"


def build(out: Path, wish: Wish) -> list[Package]:
    """The packages in `out`. Failure: a tool is missing or refuses."""
    if shutil.which("dpkg-deb") is None:
        raise Failure("dpkg-deb is not installed", remedy="`sudo apt install dpkg`")
    made = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        tell("fetching the sources of msgspec and soxr")
        modules.fetch(folder)
        for architecture in ARCHITECTURES:
            if not wish.names or architecture.name in wish.names:
                made.append(_build_one(architecture, folder, wish))
        out.mkdir(parents=True, exist_ok=True)
        for package in made:
            with written_whole(out / package.path.name) as part:
                part.write_bytes(package.path.read_bytes())
    return [Package(out / p.path.name, p.architecture, p.bytes, p.installed_bytes) for p in made]


def _build_one(architecture: Architecture, folder: Path, wish: Wish) -> Package:
    own = folder / architecture.name
    tree, room = own / "tree", own / "tree" / ROOM
    own.mkdir()
    tell(f"{architecture.name}: compiling")
    _copy_runtime(room)
    plugin = tree / f"{LADSPA}.so"
    plugin.parent.mkdir(parents=True)
    compile_engine(architecture.target, tree / ROOM / LIBRARY, plugin)
    for release in modules.releases(architecture.name):
        tell(f"{architecture.name}: modules that {release.suite} lacks")
        root = modules.headers(release, architecture.name, own / release.suite, wish.mirror)
        into = room / f"python{release.python}"
        modules.compile_modules(release, architecture.target, architecture.multiarch, root, folder, into)
    tell(f"{architecture.name}: packing")
    _lay_out(tree, wish.maintainer)
    return _packed(tree, architecture, wish.maintainer, own)


def _copy_runtime(room: Path) -> None:
    """Python files and the models that are built in; C sources are of no use there."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "band", "engine", "kernels", "ladspa")
    shutil.copytree(TOP / "edge_runtime", room / "edge_runtime", ignore=ignored)
    (room / "edge_runtime" / PACKAGED).write_text(f"{NAME} {__version__}\n")


def _lay_out(tree: Path, maintainer: str) -> None:
    """All that is not compiled."""
    links = {
        f"{LADSPA}.native": f"{ROOM}/edge_runtime/builtin/{builtin.DEFAULT}/model.native",
        f"{ROOM}/edge_runtime/native/ladspa_edge_denoise.so": f"{LADSPA}.so",
    }
    chain = virtual_mic.filter_chain(_CHAIN_SAYS, virtual_mic.SYSTEM_NAME)
    files = {
        **pages.pages(),
        "usr/bin/edge-denoise": (FILES / "edge-denoise").read_bytes(),
        UNIT: service.instances_unit("/usr/bin/edge-denoise").encode(),
        CHAIN: chain.encode(),
        f"usr/share/lintian/overrides/{NAME}": (FILES / "lintian-overrides").read_bytes(),
        f"{DOC}/copyright": (FILES / "copyright").read_bytes(),
        f"{DOC}/changelog": _changelog(maintainer).encode(),
    }
    for name, data in files.items():
        if name.startswith(("usr/share/man/", f"{DOC}/changelog")):
            name, data = f"{name}.gz", gzip.compress(data, 9, mtime=0)
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name, to in links.items():
        (tree / name).symlink_to(os.path.relpath(tree / to, (tree / name).parent))


def _changelog(maintainer: str) -> str:
    """As Debian reads it: the newest section of CHANGELOG.md."""
    section = (TOP / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1]
    words = [" ".join(point.partition("\n\n")[0].split()) for point in section.split("\n- ")[1:]]
    lines = [line for text in words for line in wrap(text, 76, initial_indent="  * ", subsequent_indent="    ")]
    return "\n".join(
        [f"{NAME} ({__version__}) unstable; urgency=medium", "", *lines, "", f" -- {maintainer}  {_DATE}\n"]
    )


def _depends_on_msgspec(architecture: str) -> str:
    """Debian's own, but for the Pythons for which it is brought along: 3.11, and with armhf 3.13."""
    depends = "python3-msgspec | python3 (<< 3.12)"
    if modules.TRIXIE_OF_ARMHF in modules.releases(architecture):
        return f"{depends} | python3 (>= 3.13), python3 (<< 3.14)"
    return depends


def _packed(tree: Path, architecture: Architecture, maintainer: str, own: Path) -> Package:
    installed = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    control = tree / "DEBIAN"
    control.mkdir()
    described = (
        (FILES / "control")
        .read_text()
        .format(
            version=__version__,
            architecture=architecture.name,
            maintainer=maintainer,
            installed_kib=-(-installed // 1024),
            msgspec=_depends_on_msgspec(architecture.name),
        )
    )
    (control / "control").write_text(described)
    for script in ("postinst", "prerm", "postrm"):
        shutil.copy(FILES / script, control)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            is_script = path.parent == control and path.name != "control"
            path.chmod(0o755 if path.is_dir() or is_script or path.parent.name == "bin" else 0o644)
    tree.chmod(0o755)
    package = own / f"{NAME}_{__version__}_{architecture.name}.deb"
    pack = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(package)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": FILES_DATE}
    done = subprocess.run(pack, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise Failure(
            f"dpkg-deb failed: {(done.stderr.strip() or 'no word').splitlines()[-1]}", where=architecture.name
        )
    return Package(package, architecture.name, package.stat().st_size, installed)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="default: dist")
    known = [each.name for each in ARCHITECTURES]
    parser.add_argument("--architecture", action="append", default=[], choices=known, help="default: all three")
    who = "as Debian writes it, NAME <MAIL>; default: the authors, by the mail of the last commit"
    parser.add_argument("--maintainer", metavar="WHO", help=who)
    parser.add_argument("--mirror", default=modules.MIRROR, metavar="URL", help="of both releases; default: Debian's")


def _run(args: argparse.Namespace) -> Answer:
    maintainer = args.maintainer or maintainer_of(TOP)
    wish = Wish(names=args.architecture, maintainer=maintainer, mirror=args.mirror)
    made = build(args.out, wish)
    lines = [f"{p.path}: {p.bytes / 1024:.0f} KB, {p.installed_bytes / 1024:.0f} KB installed" for p in made]
    return Answer([{**vars(package), "path": str(package.path)} for package in made], lines)


PROGRAM: Final = Command("deb", "Make Debian packages of the runtime.", _arguments, _run, takes_long=True)
tell = partial(command.say, PROGRAM.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command.run(command.parser_for(PROGRAM), argv)


if __name__ == "__main__":
    sys.exit(main())
