"""`make deb`: what is laid out, what it says of itself, and, slowly, the packages themselves: no error of lintian,
the same bytes twice, installed, used and purged in new Debian roots.

The slow part needs the extra `deb`, Debian's `mmdebstrap`, `arch-test` and `lintian`, and root; for other processors
`qemu-user-static`, which the kernel must know (binfmt). Ten minutes and 2 GB.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import ROOT

from edge_runtime import __version__
from edge_runtime.errors import Failure
from edge_runtime.extras import NAME
from edge_runtime.install import service, virtual_mic
from quant.deploy.debian import package

NEEDED = ("argparse_manpage", "nanobind", "shtab", "ziglang")
ARCHITECTURES = ("amd64", "arm64", "armhf")
SUITES = ("bookworm", "trixie")
has_tools = all(map(importlib.util.find_spec, NEEDED))
has_programs = all(map(shutil.which, ("dpkg-deb", "lintian", "mmdebstrap"))) and os.geteuid() == 0
slowly = [
    pytest.mark.slow,
    pytest.mark.qemu,
    pytest.mark.skipif(not has_tools, reason="needs the extra `deb`"),
    pytest.mark.skipif(not has_programs, reason="needs root and Debian's dpkg-deb, lintian and mmdebstrap"),
]
MOST_BYTES = 1_000_000
# What is installed, used and asked in a root; the answers are lines of its output.
USED = """
set -e; cd /tmp
edge-denoise file --band speech noisy.wav clean.wav
edge-denoise verify
edge-denoise doctor | tail -1
gzip -dc /usr/share/man/man1/edge-denoise.1.gz | grep -c '^.TH'
. /usr/share/bash-completion/completions/edge-denoise && complete -p edge-denoise
COMP_WORDS=(edge-denoise doc) COMP_CWORD=1; _shtab_edge_denoise; echo "bash completes: ${COMPREPLY[*]}"
edge-denoise install --virtual-mic --root /tmp/home --yes | grep -c 'plugin = "edge_denoise"'
test -z "$(ls /tmp/home/.local/lib/ladspa 2>/dev/null)"
edge-denoise uninstall --virtual-mic --root /tmp/home --yes >/dev/null
python3 -c 'import ctypes; ctypes.CDLL("/usr/lib/ladspa/edge_denoise.so").ladspa_descriptor; print("plugin loads")'
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -s /usr/lib/systemd/system/edge-denoise@.service /etc/systemd/system/multi-user.target.wants/edge-denoise@A.service
"""
# The panel, with Debian's own bottle and segno: the remedy first, then the page.
SHOWN = """
set -e; cd /tmp
edge-denoise panel 2>&1 | grep -o 'sudo apt install python3-bottle python3-segno'
apt-get -qq --yes --no-install-recommends install python3-bottle python3-segno >/dev/null 2>&1
edge-denoise panel --port 8799 & page=$!
python3 - <<'END'
import time, urllib.request
for _ in range(300):
    try:
        print(urllib.request.urlopen("http://127.0.0.1:8799/").read().decode().count("</html>"))
        break
    except OSError:
        time.sleep(1)
END
kill $page
apt-get -qq --yes purge python3-bottle python3-segno >/dev/null 2>&1
"""
# As a host of plugins finds it: by its name, with nothing installed but the package.
HOSTED = """
set -e
apt-get -qq --yes --no-install-recommends install ladspa-sdk >/dev/null 2>&1
LADSPA_PATH=/usr/lib/ladspa analyseplugin -l edge_denoise
apt-get -qq --yes purge ladspa-sdk >/dev/null 2>&1
"""


def test_what_is_not_compiled_lies_where_debian_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.pages, "pages", lambda: {"usr/share/man/man1/edge-denoise.1": b".TH X 1\n"})
    room = tmp_path / package.ROOM
    package._copy_runtime(room)
    for library in (tmp_path / package.ROOM / package.LIBRARY, tmp_path / f"{package.LADSPA}.so"):
        library.parent.mkdir(parents=True, exist_ok=True)
        library.touch()
    package._lay_out(tmp_path, "A <a@b.c>")
    assert (tmp_path / package.UNIT).read_text() == service.instances_unit("/usr/bin/edge-denoise")
    chain = (tmp_path / package.CHAIN).read_text()
    assert chain.splitlines()[1:] == virtual_mic.filter_chain("x", "edge_denoise").splitlines()[1:]
    weights = (tmp_path / f"{package.LADSPA}.native").read_bytes()  # a link that leads to them
    assert weights == (ROOT / "edge_runtime/builtin/gtcrn/model.native").read_bytes()
    assert (room / "edge_runtime/native/ladspa_edge_denoise.so").resolve() == tmp_path / f"{package.LADSPA}.so"
    assert (room / "edge_runtime/debian-package").read_text() == f"{NAME} {__version__}\n"
    names = {path.name for path in room.rglob("*")}
    assert not names & {"__pycache__", "band", "engine", "kernels", "ladspa"}
    assert {"LICENSE", "golden.npz", "manifest.json", "py.typed"} <= names
    assert (tmp_path / "usr/share/man/man1/edge-denoise.1.gz").is_file()


def test_it_is_maintained_by_the_authors_of_the_project(tmp_path: Path) -> None:
    """Who must be written to is who committed last; a folder that no clone knows names nobody."""
    assert f'authors = [{{ name = "{package.AUTHORS}" }}]' in (ROOT / "pyproject.toml").read_text()
    clone, unpacked = tmp_path / "clone", tmp_path / "clone" / "unpacked"
    unpacked.mkdir(parents=True)
    who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    (clone / "file").touch()
    for words in (("init", "-q"), ("add", "file"), (*who, "commit", "-qm", "x")):
        subprocess.run(["git", "-C", str(clone), *words], check=True)
    (unpacked / "file").touch()
    assert package.maintainer_of(clone) == f"{package.AUTHORS} <a@b.c>"
    for folder in (unpacked, tmp_path):
        with pytest.raises(Failure, match=r"give --maintainer 'NAME <MAIL>'"):
            package.maintainer_of(folder)


def test_its_changelog_is_as_debian_reads_it() -> None:
    first, *rest = package._changelog("A <a@b.c>").splitlines()
    assert re.fullmatch(rf"edge-denoise \({re.escape(__version__)}\) unstable; urgency=\w+", first)
    assert rest[-1].startswith(" -- A <a@b.c>  ")
    assert all(len(line) <= 80 and (not line or line.startswith(("  * ", "    ", " -- "))) for line in rest)
    assert len(rest) > 10


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_is_shell(name: str) -> None:
    assert subprocess.run(["sh", "-n", package.FILES / name], capture_output=True).returncode == 0


def test_its_program_sees_its_own_modules_first(tmp_path: Path) -> None:
    """And neither the folder it is started in nor the user's variables."""
    room = tmp_path / "room"
    (room / "edge_runtime").mkdir(parents=True)
    (room / "edge_runtime/__init__.py").touch()
    (room / "edge_runtime/cli.py").write_text("import sys\ndef main(): print(sys.path[:2], sys.flags.isolated)\n")
    program = tmp_path / "edge-denoise"
    program.write_text((package.FILES / "edge-denoise").read_text().replace("/usr/lib/edge-denoise", str(room)))
    done = subprocess.run([sys.executable, "-I", program], capture_output=True, text=True, cwd=ROOT, check=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.stdout == f"{[str(room), f'{room}/python{version}']} 1\n"


def test_the_depends_hold_for_both_releases() -> None:
    """What a release lacks is wanted of other Pythons alone: for its own the modules are brought along."""
    control = (package.FILES / "control").read_text()
    (depends,) = (line for line in control.splitlines() if line.startswith("Depends: "))
    assert "python3-soxr | python3 (<< 3.12)" in depends
    assert ", {msgspec}, " in depends
    assert "libasound2 (>= 1.1) | libasound2t64" in depends
    assert package._depends_on_msgspec("arm64") == "python3-msgspec | python3 (<< 3.12)"
    assert package.modules.BOOKWORM[1:] == ("3.11", ("msgspec", "soxr"))
    wanted = "python3-msgspec | python3 (<< 3.12) | python3 (>= 3.13), python3 (<< 3.14)"
    assert package._depends_on_msgspec("armhf") == wanted, "trixie has no python3-msgspec for armhf"
    assert package.modules.TRIXIE_OF_ARMHF[1:] == ("3.13", ("msgspec",))


@pytest.mark.skipif(not has_tools, reason="needs the extra `deb`")
def test_man_page_and_completion_know_every_command() -> None:
    from edge_runtime.cli import COMMANDS

    made = package.pages.pages()
    assert len(made) == 3
    for place, data in made.items():
        assert all(command.name in data.decode() for command in COMMANDS), place
    assert b"edge\\-denoise \\- remove noise" in made[package.pages.MAN]
    assert made == package.pages.pages()


# --- the packages themselves ------------------------------------------------------------------------------------------


def run(*command: object, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=3000, env=os.environ | environment
    )
    assert not check or done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout  # what takes long says so beside it


def deb(out: Path, *options: str) -> dict[str, Path]:
    """Architecture -> package."""
    command = (sys.executable, "-m", "quant.deploy.debian.package", "--out", out, "--json", *options)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    return {made["architecture"]: Path(made["path"]) for made in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return deb(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Makes a new root of a release for a processor; what is mounted in it is unmounted."""
    made: list[Path] = []

    def make(suite: str, architecture: str) -> Path:
        if architecture != run("dpkg", "--print-architecture").strip():
            known = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}[architecture]
            if not Path("/proc/sys/fs/binfmt_misc", known).exists():
                pytest.skip(f"the kernel does not know {known} (binfmt)")
        made.append(tmp_path / suite)
        options = [
            "--quiet",
            "--variant=apt",
            f"--architectures={architecture}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
        ]
        run("mmdebstrap", *options, suite, made[-1], package.modules.MIRROR)
        run("mount", "-t", "proc", "proc", made[-1] / "proc")
        apt(made[-1], "update")  # whose lists are not in every root that is made
        return made[-1]

    yield make
    for each in made:
        run("umount", each / "proc", check=False)


def apt(root: Path, *words: str) -> str:
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return run("chroot", root, "apt-get", "-qq", "--yes", "--no-install-recommends", *words, **quiet)


def tab_of_zsh(root: Path, typed: str, most_s: float = 120) -> str:
    """What a terminal shows of a line that zsh, new and bare, completes in a root."""
    ours, its = pty.openpty()
    line = ["chroot", root, "zsh", "-f", "-i"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PS1": "", "TERM": "dumb", "HOME": "/tmp"}
    with subprocess.Popen(line, stdin=its, stdout=its, stderr=its, start_new_session=True, env=environment) as shell:
        os.close(its)

        def answer(keys: bytes, wanted: str, shown: str = "") -> str:
            os.write(ours, keys)
            while wanted not in shown:
                assert select.select([ours], [], [], most_s)[0], shown
                shown += os.read(ours, 4096).decode(errors="replace")
            return shown

        answer(b"autoload -Uz compinit; compinit -u -d /tmp/zcompdump; print re''ady\n", "ready")
        shown = answer(typed.encode() + b"\t", f"{typed.rpartition(' ')[0]} doctor")
        shell.kill()
    os.close(ours)
    return shown.strip()


def tree(root: Path) -> set[str]:
    """Every path that a package may leave, but for apt's and dpkg's own, and what a user's program keeps in a home."""
    ignored = (
        "proc",
        "tmp",
        "var/lib/dpkg",
        "var/lib/apt",
        "var/cache",
        "var/log",
        "root/.cache",
    )  # a home is its user's
    found = set[str]()
    for folder, folders, files in os.walk(root):
        here = os.path.relpath(folder, root)
        names = [os.path.normpath(f"{here}/{name}") for name in (*folders, *files)]
        found |= {name for name in names if name not in ignored}
        folders[:] = [name for name in folders if os.path.normpath(f"{here}/{name}") not in ignored]
    return found


class TestMade:
    """Slow."""

    pytestmark = slowly

    def test_lintian_has_no_error_and_they_are_small(self, debs: dict[str, Path]) -> None:
        assert set(debs) == set(ARCHITECTURES)
        for architecture, path in debs.items():
            assert path.name == f"edge-denoise_{__version__}_{architecture}.deb"
            assert path.stat().st_size < MOST_BYTES
            said = run("lintian", "--fail-on=error", "--allow-root", path)
            assert not [line for line in said.splitlines() if line.startswith("E:")], said

    def test_two_builds_are_the_same_bytes(self, debs: dict[str, Path], tmp_path: Path) -> None:
        again = deb(tmp_path, "--architecture", "arm64")
        assert again["arm64"].read_bytes() == debs["arm64"].read_bytes()

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    @pytest.mark.parametrize("suite", SUITES)
    def test_installed_used_and_purged(
        self, debs: dict[str, Path], root: Callable[[str, str], Path], suite: str, architecture: str
    ) -> None:
        folder = root(suite, architecture)
        shutil.copy(debs[architecture], folder / "tmp/edge-denoise.deb")
        noisy = np.random.default_rng(0).normal(0, 0.05, (96_000, 2))
        soundfile.write(folder / "tmp/noisy.wav", noisy, 48_000)  # another rate: soxr is asked
        (folder / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True, exist_ok=True)
        apt(folder, "install", "/tmp/edge-denoise.deb")
        apt(folder, "purge", NAME)
        before = tree(folder)
        apt(folder, "install", "/tmp/edge-denoise.deb")
        said = run("chroot", folder, "bash", "-c", USED)
        assert "clean.wav: 2.00 s, 2 x 48000 Hz" in said
        assert "model: gtcrn, built in" in said
        assert re.search(r"native +int8 +inf +exact +ok", said)
        assert re.search(r"^\d+ ok, \d+ warn, \d+ fail$", said, re.MULTILINE)
        assert re.search(r"^1\ncomplete .* -F _shtab_edge_denoise edge-denoise\nbash completes: doctor\n", said, re.M)
        assert said.splitlines()[-2:] == ["1", "plugin loads"]
        hosted = run("chroot", folder, "bash", "-c", HOSTED, DEBIAN_FRONTEND="noninteractive")
        assert re.search(r"^edge_denoise .*\n^edge_denoise_stereo ", hosted, re.MULTILINE), hosted
        apt(folder, "install", "zsh")
        assert tab_of_zsh(folder, "edge-denoise doc").endswith("edge-denoise doctor")
        apt(folder, "purge", "zsh", "zsh-common")
        said = run("chroot", folder, "bash", "-c", SHOWN, DEBIAN_FRONTEND="noninteractive")
        assert [said.splitlines()[0], said.splitlines()[-1]] == ["sudo apt install python3-bottle python3-segno", "1"]
        apt(folder, "purge", NAME)
        assert tree(folder) - before == set()
