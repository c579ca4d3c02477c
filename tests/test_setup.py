"""`make setup` where pip's index has PyTorch with CUDA alone, where it has the CPU build, and where there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

CUDA, CPU = "2.13.0", "2.13.0+cpu"
SET_UP = "trying file:"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


def index(folder: Path, *versions: str) -> str:
    """A package index on disk: torch in these versions, the CUDA build with a package that constraints.txt forbids."""
    page = folder / "torch"
    page.mkdir(parents=True)
    for version in versions:
        name = f"torch-{version}-py3-none-any.whl"
        needs = "Requires-Dist: nvidia-cudnn-cu13\n" if version == CUDA else ""
        info = f"torch-{version}.dist-info"
        with zipfile.ZipFile(page / name, "w") as wheel:
            wheel.writestr("torch/__init__.py", f"__version__ = {version!r}\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n{needs}")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    links = "".join(f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>\n' for path in page.glob("*.whl"))
    (page / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>\n")
    return folder.as_uri()


@pytest.fixture(scope="module")
def environment(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip, as set-up makes it; not to be changed."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("environment") / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        return folder

    return made_once("environment", make)


def make(tmp_path: Path, default: str, cpu: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
    environment = kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": default}
    venv = tmp_path / "venv"
    settings = {"VENV": str(venv), "PYTHON": sys.executable, "TORCH_CPU_INDEX": cpu} | variables
    command = ["make", "-C", str(ROOT), *(f"{name}={value}" for name, value in settings.items()), f"{venv}/.torch"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def torch_version(tmp_path: Path) -> str:
    command = [str(tmp_path / "venv/bin/python"), "-c", "import torch; print(torch.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(("default", "says"), [((CUDA, CPU), False), ((CUDA,), True)], ids=str)
def test_the_cpu_build_is_found(
    tmp_path: Path, default: tuple[str, ...], says: bool, request: pytest.FixtureRequest
) -> None:
    """In an environment that set-up makes, and in one that an earlier one made."""
    if says:
        shutil.copytree(request.getfixturevalue("environment"), tmp_path / "venv", symlinks=True)
    done = make(tmp_path, index(tmp_path / "default", *default), index(tmp_path / "cpu", CPU))
    assert done.returncode == 0, done.stderr
    assert (SET_UP in done.stdout) == says, "another index is named when it is used"
    assert torch_version(tmp_path) == CPU


def test_without_a_cpu_build_one_line_says_what_to_do(tmp_path: Path, environment: Path) -> None:
    shutil.copytree(environment, tmp_path / "venv", symlinks=True)
    done = make(tmp_path, index(tmp_path / "default", CUDA), index(tmp_path / "cpu", CUDA))
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert line.startswith("make: error: no torch==2.13.0 without CUDA")
    assert "TORCH_CPU_INDEX=URL" in line


@pytest.mark.parametrize("is_right", [True, False], ids=["its hash", "another hash"])
def test_one_build_by_its_hash_and_no_other(tmp_path: Path, environment: Path, is_right: bool) -> None:
    shutil.copytree(environment, tmp_path / "venv", symlinks=True)
    none = index(tmp_path / "none")
    index(tmp_path / "one", CPU)
    (wheel,) = (tmp_path / "one" / "torch").glob("*.whl")
    digest = sha256(wheel.read_bytes()).hexdigest() if is_right else "0" * 64
    done = make(tmp_path, none, none, TORCH=f"{wheel.as_uri()}#sha256={digest}")
    if is_right:
        assert (done.returncode, torch_version(tmp_path)) == (0, CPU)
        return
    assert done.returncode != 0
    assert "HASHES FROM THE REQUIREMENTS FILE" in (tmp_path / "venv" / "torch.log").read_text()
    assert not (tmp_path / "venv" / ".torch").exists()


@pytest.mark.parametrize("python", ["python3.9-that-is-not-there", "/bin/false"])
def test_a_python_that_does_not_fit_is_told_before_anything_is_installed(tmp_path: Path, python: str) -> None:
    done = make(tmp_path, index(tmp_path / "default", CPU), index(tmp_path / "cpu", CPU), PYTHON=python)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert line.startswith(f"make: error: {python} is not there or not Python 3.10 to 3.14")
    assert not (tmp_path / "venv").exists()


def test_the_lock_holds_a_version_and_hashes_of_all_that_is_asked_for_and_nothing_of_cuda() -> None:
    """Its own dependencies have been resolved when it was made (`make lock`); here, what pyproject.toml asks for."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    locked: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        requirement, *hashes = line.split(" --hash=")
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", value) for value in hashes), line
        found = Requirement(requirement)
        locked.setdefault(canonicalize_name(found.name), []).append(found)
    project = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())["project"]
    extras = project["optional-dependencies"]
    for asked in map(Requirement, [*project["dependencies"], *extras["build"], *extras["eval"], *extras["dev"]]):
        if asked.name == "torch":  # fetched before the rest, from an index of CPU builds
            continue
        for python in ("3.10", "3.11", "3.12", "3.13", "3.14"):
            machine = {"python_version": python, "python_full_version": f"{python}.1"}
            if asked.marker is None or asked.marker.evaluate(machine):
                fitting = [
                    r for r in locked[canonicalize_name(asked.name)] if r.marker is None or r.marker.evaluate(machine)
                ]
                (version,) = [next(iter(r.specifier)).version for r in fitting]
                assert asked.specifier.contains(version), asked
    assert not [name for name in locked if name.startswith(("nvidia", "cuda", "torch", "triton"))]
