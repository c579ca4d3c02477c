"""What to type for a package that is not there, as the installation is: it can be followed, word for word."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime import extras
from edge_runtime.errors import Failure

METADATA = """Metadata-Version: 2.4
Name: edge-denoise
Version: 9
Requires-Dist: numpy>=1.24
Requires-Dist: onnxruntime>=1.19; extra == "onnx"
Requires-Dist: tflite-runtime==2.14.0; python_version < "3.12" and extra == "tflite"
Requires-Dist: numpy<2; extra == "tflite"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict | None], Path]:
    """As if pip had put this package into a folder of its own, from what it notes; not a clone."""
    info = tmp_path / "edge_denoise-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "edge_runtime" / "extras.py"))

    def by(note: dict | None) -> Path:
        if note is not None:
            (info / "direct_url.json").write_text(json.dumps(note))
        return tmp_path

    return by


def words(command: str) -> list[str]:
    """What a shell makes of a remedy, after `install`."""
    assert command[0] == command[-1] == "`"
    split = shlex.split(command[1:-1])
    return split[split.index("install") + 1 :]


def test_a_clone_is_named_whatever_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "my clone"
    (clone / "edge_runtime").mkdir(parents=True)
    (clone / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "__file__", str(clone / "edge_runtime" / "extras.py"))
    assert words(extras.how_to_install("build")) == ["-e", f"{clone}[build]"]
    assert words(extras.how_to_reinstall()) == ["--force-reinstall", "--no-deps", "-e", str(clone)]


def test_a_wheel_that_is_still_there_is_named(installed) -> None:
    folder = installed(None)
    wheel = folder / "edge denoise-9.whl"
    wheel.touch()
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert words(extras.how_to_install("onnx")) == [f"edge-denoise[onnx] @ {wheel.as_uri()}"]


NOTES = [
    ({"url": "https://example.org/edge_denoise-9.whl", "archive_info": {}}, "https://example.org/edge_denoise-9.whl"),
    (
        {"url": "https://example.org/a.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
        "git+https://example.org/a.git@abc",
    ),
]


@pytest.mark.parametrize(("note", "origin"), NOTES, ids=["wheel", "git"])
def test_an_address_is_named(installed, note: dict, origin: str) -> None:
    installed(note)
    assert words(extras.how_to_install("onnx")) == [f"edge-denoise[onnx] @ {origin}"]


GONE = [("a wheel that is gone", {"url": "file:///gone/edge_denoise-9.whl", "archive_info": {}}), ("no note", None)]


@pytest.mark.parametrize("note", [row[1] for row in GONE], ids=[row[0] for row in GONE])
def test_else_the_packages_themselves_are_named(installed, note: dict | None) -> None:
    installed(note)
    assert words(extras.how_to_install("onnx")) == ["onnxruntime>=1.19"]
    assert words(extras.how_to_install("tflite")) == ['tflite-runtime==2.14.0; python_version < "3.12"', "numpy<2"]


def test_it_is_the_pip_of_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(sys.executable).parent
    monkeypatch.setattr(extras.sys, "prefix", "/an/environment")
    found = {"pip": str(here / "pip"), "uv": "/usr/bin/uv"}
    monkeypatch.setattr(extras.shutil, "which", found.get)
    assert extras.pip_install("a b") == "`pip install 'a b'`"
    found["pip"] = "/usr/bin/pip"  # another one's
    assert extras.pip_install("a") == f"`{shlex.quote(sys.executable)} -m pip install a`"
    monkeypatch.setattr(extras, "find_spec", lambda name: None)  # an environment that uv made
    assert extras.pip_install("a") == f"`uv pip install --python {shlex.quote(sys.executable)} a`"


def test_a_system_that_keeps_its_packages_gets_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(extras.sys, "prefix", sys.base_prefix)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    python = shlex.quote(sys.executable)
    assert extras.pip_install("a") == f"`{python} -m venv --system-site-packages .venv && .venv/bin/pip install a`"


@pytest.mark.parametrize(("module", "extra"), [("pesq", "eval"), ("distributed", "cluster"), ("rich.console", "build")])
def test_each_module_has_its_extra(monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    assert extras.remedy(module) == extras.how_to_install(extra)
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=f"{module} is not installed") as failed:
        extras.require(module)
    assert f"[{extra}]" in failed.value.remedy


@pytest.mark.parametrize(
    ("extra", "is_bookworm", "remedy"),
    [
        ("onnx", False, "`sudo apt install python3-onnxruntime`"),
        ("onnx", True, "a virtual environment of"),  # Debian 12 has none
        ("panel", True, "`sudo apt install python3-bottle python3-segno`"),
        ("litert", False, "a virtual environment of"),
    ],
)
def test_in_debians_package_nothing_names_a_registry_that_does_not_know_us(
    tmp_path, monkeypatch, extra, is_bookworm, remedy
):
    assert extras.debian_package() is None  # a clone
    monkeypatch.setattr(extras, "_BOOKWORM", is_bookworm)
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "extras.py"))
    (tmp_path / extras.PACKAGED).write_text("edge-denoise 0.2.0\n")
    assert extras.debian_package() == "edge-denoise 0.2.0"
    assert remedy in extras.how_to_install(extra)
    assert "pip install" not in extras.how_to_install(extra)


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As Debian's package lies: the modules that came along beside it."""
    room = tmp_path / "room"
    (room / "edge_runtime").mkdir(parents=True)
    (room / "edge_runtime" / extras.PACKAGED).write_text("edge-denoise 0.2.0\n")
    monkeypatch.setattr(extras, "__file__", str(room / "edge_runtime" / "extras.py"))
    return room


def test_debians_package_comes_again_as_it_came_out_of_its_file(packaged: Path) -> None:
    """apt cannot fetch what no archive has: `apt install --reinstall edge-denoise` is refused there."""
    again = "`sudo apt install --reinstall ./edge-denoise_0.2.0_*.deb`, where that file lies"
    assert extras.how_to_reinstall() == again
    assert extras.how_to_compile() == f"install this again: {again}"  # a compiler is of no use to it


def test_elsewhere_the_library_is_compiled(installed) -> None:
    installed(None)
    assert "`sudo apt install gcc libc6-dev`" in extras.how_to_compile()
    assert extras.how_to_reinstall() in extras.how_to_compile()


def test_what_is_broken_comes_again_from_where_it_came(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_BOOKWORM", True)
    assert "a virtual environment of your own" in extras.how_to_mend("onnxruntime")
    monkeypatch.setattr(extras, "_BOOKWORM", False)
    assert extras.how_to_mend("onnxruntime") == "`sudo apt install --reinstall python3-onnxruntime`"
    assert extras.how_to_mend("numpy", "soxr") == "`sudo apt install --reinstall python3-numpy python3-soxr`"
    assert "a virtual environment of your own" in extras.how_to_mend("ai_edge_litert")
    (packaged / "python3.11" / "soxr").mkdir(parents=True)
    (packaged / "python3.11" / "soxr" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(packaged / "python3.11"))
    monkeypatch.delitem(sys.modules, "soxr", raising=False)
    assert extras.how_to_mend("soxr") == extras.how_to_reinstall()
    (packaged / "edge_runtime" / extras.PACKAGED).unlink()
    assert extras.how_to_mend("soxr") == extras.pip_install("--force-reinstall", "soxr")
