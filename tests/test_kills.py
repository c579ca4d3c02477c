"""What SIGKILL and a full disk leave of each command that writes: old or new, whole, and nothing hidden in the end.

A row is a command with what lay there before. Moments are drawn from all of its touches of files: ten of each command,
two hundred of them with `-m slow`, half of these at a time instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ended import Ended, ended, full, timed_out
from fake_release import fake_environment
from file_systems import mounted
from native_artifact import write_native
from toy_artifact import toy
from toy_build import toy as toy_settings

from edge_runtime import cli as runtime
from edge_runtime.errors import Failure
from edge_runtime.install import bundle as packing
from edge_runtime.install import receive
from edge_runtime.whole_folder import SCAFFOLD
from quant import cli
from quant.artifact import bundle, sbom, signing
from quant.artifact.stable_bytes import zip_bytes
from quant.build import contents, stages
from quant.inputs import assets
from quant.inputs.assets import Asset, Member
from quant.report import remake
from quant.training import trainer

N_FAST, N_SLOW = 10, 200
ARRIVED = "arrived.bundle"  # a deployment removes it
RECEIPT = "virtual-mic.json"  # names the folders that the run made which wrote it; while one is under way, old and new
Tree = dict[str, str]


@dataclass(frozen=True)
class Row:
    """`prepare` fills a folder, `run` is the command there."""

    prepare: Callable[[Path], object]
    run: Callable[[Path], int]


def tree(top: Path) -> Tree:
    """Files and links that are not hidden, by what they hold."""
    found = {}
    for path in (path for path in top.rglob("*") if not hidden(path)):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.name == RECEIPT:
            found[name] = str({**json.loads(path.read_bytes()), "folders": []})
        elif path.is_file() and path.name != ARRIVED:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def is_of_pip(path: Path) -> bool:
    """Whether it is of the environment of a release that is not ready: nothing runs there, the next run removes it."""
    release = next((above.parent for above in path.parents if above.name == "venv"), None)
    return release is not None and not (release / receive.READY_FILE).exists()


def hidden(path: Path) -> bool:
    """Whether it is one of this project's hidden files, or lies in one."""
    return any(part.endswith((".part", SCAFFOLD)) for part in path.parts)


def hidden_below(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if hidden(path)]


# --- the commands -------------------------------------------------------------------------------------------------


def silent(_: str) -> None:
    """Progress that nobody reads."""


def once(function: Callable[..., Any], key: Callable[..., object] = lambda *_, **__: None) -> Callable[..., Any]:
    """The function, computed once for a key: what is killed is the writing, not the arithmetic."""
    known: dict[object, Any] = {}

    def remembered(*args: Any, **options: Any) -> Any:
        its = key(*args, **options)
        if its not in known:
            known[its] = function(*args, **options)
        return known[its]

    return remembered


@pytest.fixture(scope="module", autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Builds and reports that have computed already."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("read", "hear", "quantize_with", "emit_all", "golden_vectors"):
            patched.setattr(stages, name, once(getattr(stages, name)))
        patched.setattr(stages, "make_report", once(stages.make_report, lambda made, *_: made.board.name))
        patched.setattr(sbom, "make", once(sbom.make, lambda board, *_: board))
        patched.setattr(contents, "built_with", once(contents.built_with))
        patched.setattr(remake, "complete", once(remake.complete, lambda report, _: report.board))
        patched.setattr(remake, "pages", partial(blank_pages, remake.pages))
        patched.setattr(remake, "golden_clip", once(remake.golden_clip))
        patched.setattr(receive, "install_wheels", fake_environment)
        for target in ("host", "rpi4"):
            warm = tmp_path_factory.mktemp("warm")
            built(warm, target)
            assert quant(warm, "report", "TOP/out") == 0
        yield


def blank_pages(real: Callable[..., dict[str, bytes]], *args: Any, html: bool = True) -> dict[str, bytes]:
    """A report whose page was not drawn."""
    return real(*args, html=False) | ({remake.HTML_FILE: bytes(50_000)} if html else {})


def quant(top: Path, *argv: str) -> int:
    return cli.main([word.replace("TOP", str(top)) for word in argv])


def edge(top: Path, *argv: str) -> int:
    return runtime.main([word.replace("TOP", str(top)) for word in argv])


def built(top: Path, target: str = "host") -> None:
    """An artifact, and a file of the user's in it."""
    build(top, target)
    (top / "out" / "notes.txt").write_text("the user's")


def build(top: Path, target: str = "rpi4", folder: str = "out") -> int:
    stages.build(toy_settings(target, top / folder, force=True), silent)
    return 0


ROW = {"system": "host:tflite:int8", "n_clips": 9, "means": {"pesq": 2.1}, "against": None, "differences": {}}


def evaluated(top: Path) -> None:
    built(top)
    (top / "rows.json").write_text(json.dumps({"systems": [ROW]}))


def signed_by_another(top: Path) -> None:
    build(top)
    for name in ("mine", "other"):
        signing.keygen(top / name)
    signing.sign(top / "out", top / "other")


def heard(top: Path) -> None:
    shutil.copytree(toy().directory, top / "model")
    soundfile.write(top / "in.wav", np.random.default_rng(0).normal(0, 0.1, 40_000), 16_000)
    (top / "out.wav").write_bytes(b"old")


def packed(top: Path) -> None:
    build(top)
    bundle.write(bundle.members(top / "out"), top / "a.bundle")


def home(top: Path) -> None:
    write_native(top / "model", b"weights \0 of some kind")
    (top / "home").mkdir()
    (top / "home" / ".asoundrc").write_text("pcm.x { type null }\n")


def installed(top: Path) -> None:
    """Another model, so that each file changes."""
    home(top)
    (top / "first").mkdir()
    write_native(top / "first" / "model", b"other weights")
    assert install(top, "TOP/first/model", "--alsa-source", "plughw:1,0") == 0


def install(top: Path, model: str = "TOP/model", *more: str) -> int:
    return edge(top, "install", "--virtual-mic", "--model", model, "--root", "TOP/home", "--yes", *more)


def uninstall(top: Path) -> int:
    return edge(top, "uninstall", "--virtual-mic", "--root", "TOP/home", "--yes")


MEMBERS = {f"tiny/{i}.wav": b"RIFF" + bytes([i]) * 1000 for i in range(4)}


def pins(members: dict[str, bytes]) -> tuple[Asset, ...]:
    """One asset, whose wheel has a fixed hash."""
    pinned = tuple(Member(Path(n).name, n, hashlib.sha256(data).hexdigest()) for n, data in members.items())
    wheel = zip_bytes(members)
    return (
        Asset(
            id="tiny", kind="speech", package="tiny", version="1", wheel="tiny.whl", wheel_bytes=len(wheel),
            wheel_sha256=hashlib.sha256(wheel).hexdigest(), licence="MIT", attribution="nobody", source="here",
            members=pinned,
        ),
    )  # fmt: skip


def wheel(top: Path) -> None:
    (top / "tiny.whl").write_bytes(zip_bytes(MEMBERS))


def pull(top: Path) -> int:
    def download(asset: Asset, into: Path) -> Path:
        return Path(shutil.copy(top / "tiny.whl", into / asset.wheel))

    assets.pull(top / "cache", silent, assets=pins(MEMBERS), download=download)
    return 0


def released(top: Path) -> None:
    """Two bundles, one of them deployed."""
    for name in ("one", "two"):
        members = {"artifact/golden.npz": name.encode(), "wheels/a.whl": b"", "artifact/manifest.json": b"{}"}
        (top / f"{name}.bundle").write_bytes(packing.pack(members))
    assert deploy(top, "one") == 0


def deploy(top: Path, name: str = "two") -> int:
    """As `python3 FILE install` on a board; the file stays, for the next try."""
    arrived = top / ARRIVED
    arrived.write_bytes((top / f"{name}.bundle").read_bytes())
    site = receive.Site(top / "root", lambda line: None)
    with site.locked():
        receive.install(site, arrived)
    return 0


def trained(top: Path) -> int:
    """What a validation writes."""
    trainer.save({"weights": torch.zeros(1000)}, top / "last.pt")
    return 0


ROWS = {
    "build": Row(built, build),
    "first build": Row(lambda top: None, partial(build, folder="a/out")),
    "report": Row(built, lambda top: quant(top, "report", "TOP/out")),
    "card": Row(evaluated, lambda top: quant(top, "card", "TOP/out", "--eval", "TOP/rows.json")),
    "sign": Row(signed_by_another, lambda top: quant(top, "sign", "TOP/out", "--key", "TOP/mine")),
    "unpack": Row(packed, lambda top: quant(top, "unpack", "TOP/a.bundle", "-o", "TOP/unpacked")),
    "bundle": Row(packed, lambda top: quant(top, "bundle", "TOP/out", "-o", "TOP/a.bundle", "--force")),
    "file": Row(heard, lambda top: edge(top, "file", "TOP/in.wav", "TOP/out.wav", "--model", "TOP/model", "--force")),
    "train": Row(lambda top: None, trained),
    "pull": Row(wheel, pull),
    "install": Row(home, install),
    "install again": Row(installed, install),
    "uninstall": Row(installed, uninstall),
    "deploy": Row(released, deploy),
}
IN_PARTS = {"pull", "install", "install again", "uninstall", "deploy"}  # each file is whole, the next run ends the rest


@dataclass(frozen=True)
class Place:
    """A folder that can be as before again; what the command makes of it; how many touches and seconds that takes."""

    row: Row
    top: Path
    saved: Path
    old: Tree
    new: Tree
    n_touches: int
    last_s: float

    @classmethod
    def of(cls, row: Row, folder: Path) -> Place:
        top, saved = folder / "here", folder / "saved"
        top.mkdir()
        row.prepare(top)
        shutil.copytree(top, saved, symlinks=True)
        old, began_s = tree(top), time.monotonic()
        done = ended(partial(one_line, row, top), top)
        assert (done.status, done.errors.count("error: ")) == (0, 0), done.errors
        return cls(row, top, saved, old, tree(top), done.n_touches, time.monotonic() - began_s)

    def again(self) -> Callable[[], int]:
        """All as before; the command."""
        for path in self.top.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.saved, self.top, symlinks=True, dirs_exist_ok=True)
        return partial(one_line, self.row, self.top)

    def check_killed(self, in_parts: bool, moment: object) -> None:
        """The old or the new, and after the next run the new and nothing hidden; undone, all is as it was before."""
        found = tree(self.top)
        if in_parts:
            whole = (name for name in found if not name.endswith(RECEIPT) and not is_of_pip(self.top / name))
            assert all(found[name] in (self.old.get(name), self.new.get(name)) for name in whole), moment
            assert found.keys() >= self.old.keys() & self.new.keys(), moment
            assert all((self.top / name / receive.READY_FILE).exists() for name in found if name.endswith("current"))
        else:
            assert found in (self.old, self.new), moment
        assert one_line(self.row, self.top) in (0, 1)  # 1: there was nothing left to do
        assert tree(self.top) == self.new, moment
        assert hidden_below(self.top) == [], moment

    def check_full(self, name: str, done: Ended) -> None:
        """One line with the reason; the old and nothing hidden."""
        assert done.status == 1, done
        lines = [line for line in done.errors.splitlines() if "error: " in line]
        assert len(lines) == 1, done
        reasons = ("(No space left on device)", "[Errno 28] No space left on device", "MiB are free)")
        assert any(reason in lines[0] for reason in reasons), done
        assert ".part" not in lines[0], done
        found = tree(self.top)
        if name in ("pull", "deploy"):  # what is whole already stays for the next run
            assert found.items() >= self.old.items(), done
        else:
            differing = {key for key, _ in found.items() ^ self.old.items()}
            assert all(key.endswith(RECEIPT) for key in differing), done  # no room to take what was to come out of it
        assert hidden_below(self.top) == [], done


def one_line(row: Row, top: Path) -> int:
    """Commands tell their failures so; what else is called here does it as they do."""
    try:
        return row.run(top)
    except (Failure, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


@pytest.fixture(params=ROWS)
def place(request: pytest.FixtureRequest, in_memory: Path) -> tuple[str, Place]:
    return request.param, Place.of(ROWS[request.param], in_memory)


def test_a_kill_leaves_old_or_new_and_the_next_run_nothing_hidden(place: tuple[str, Place]) -> None:
    name, here = place
    draw = random.Random(name)
    for _ in range(N_FAST):
        n = draw.randint(1, here.n_touches)
        done = ended(here.again(), here.top, n)
        assert done.status == -signal.SIGKILL, done
        here.check_killed(name in IN_PARTS, n)


@pytest.mark.slow
def test_two_hundred_kills_leave_old_or_new_and_the_next_run_nothing_hidden(place: tuple[str, Place]) -> None:
    name, here = place
    draw = random.Random(name)
    for _ in range(N_SLOW // 2):
        n = draw.randint(1, here.n_touches)
        ended(here.again(), here.top, n)
        here.check_killed(name in IN_PARTS, n)
    for _ in range(N_SLOW // 2):
        after_s = draw.uniform(0, here.last_s)
        timed_out(here.again(), here.top, after_s)
        here.check_killed(name in IN_PARTS, after_s)


@pytest.mark.parametrize("pace", [2, pytest.param(1000, marks=pytest.mark.slow)], ids=["some touches", "every touch"])
def test_a_disk_that_is_full_leaves_the_old_and_is_told_in_one_line(place: tuple[str, Place], pace: int) -> None:
    name, here = place
    n = 0
    while True:
        n += 1 + n // pace
        done = full(here.again(), here.top, n)
        if done.status == 0:
            break
        here.check_full(name, done)
    assert n > 1


def test_a_disk_that_fills_leaves_the_old_and_is_told_in_one_line(place: tuple[str, Place]) -> None:
    name, here = place
    there, more = pages(here.saved), pages(here.top)
    statuses = []
    for share in (0, 0.1, 0.5, 0.9):
        size = f"size={4096 * max(1, there + int(share * more))}"
        with mounted(here.top, "-t", "tmpfs", "-o", size, "none"):
            done = ended(here.again(), here.top)
            statuses.append(done.status)
            if done.status == 0:
                assert tree(here.top) == here.new
            else:
                here.check_full(name, done)
    assert statuses[0] == 1


def pages(folder: Path) -> int:
    """What its files take of a file system in memory."""
    return sum((path.stat().st_size + 4095) // 4096 for path in folder.rglob("*") if path.is_file())
