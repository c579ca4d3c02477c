"""What a board does with a bundle, with a stand-in for pip and the program: what is kept, mended, refused and told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ended import ended
from fake_release import fake_environment
from places import ROOT, TESTS

from edge_runtime.errors import Failure
from edge_runtime.install import bundle, environment, receive, trust, units


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(receive, "install_wheels", fake_environment)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def site(tmp_path: Path) -> receive.Site:
    (tmp_path / "root").mkdir()
    return receive.Site(tmp_path / "root", lambda line: None)


def packed(name: str, number: int = 0, **members: str) -> bytes:
    files = {"artifact/golden.npz": name, "wheels/a.whl": ""} | members
    return bundle.pack({name: text.encode() for name, text in files.items()}, number)


def deploy(site: receive.Site, name: str, number: int = 0, wish: trust.Wish = trust.PLAIN, **members: str) -> str:
    """Install a bundle that holds `name`; the release that is current then."""
    arrived = site.root.parent / "arrived.bundle"
    arrived.write_bytes(packed(name, number, **members))
    with site.locked():
        receive.install(site, arrived, wish)
    assert not arrived.exists()
    current = site.linked("current")
    assert current is not None
    return current


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a changed byte": lambda release: (release / "artifact" / "golden.npz").write_text("One"),
    "a missing file": lambda release: (release / "wheels" / "a.whl").unlink(),
    "a folder for a file": lambda release: [(release / "wheels/a.whl").unlink(), (release / "wheels/a.whl").mkdir()],
    "no program": lambda release: (release / "venv" / "bin" / "edge-denoise").unlink(),
    "a program that fails": lambda release: (release / "venv" / "bin" / "edge-denoise").write_text("#!/bin/false\n"),
    "no index": lambda release: (release / "bundle.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_bundle_again_mends_a_damaged_release_beside_it(site: receive.Site, damage: str) -> None:
    before, one = deploy(site, "zero"), deploy(site, "one")
    DAMAGES[damage](site.release(one))
    mended = deploy(site, "one")
    assert mended == f"{one}.1"
    assert (site.release(mended) / "artifact" / "golden.npz").read_text() == "one"
    assert site.linked("previous") == before, "the damaged one is nothing to go back to"
    kept = {path.name for path in site.release("").iterdir()}
    assert kept - {mended, before} == ({one} if damage == "no index" else set()), "what is not ours is not removed"
    assert deploy(site, "one") == mended, "it lies there already"


def test_what_lies_among_the_releases_and_is_none_is_kept(site: receive.Site) -> None:
    mine = site.root / "releases" / "mine"
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("mine")
    (mine / "bundle.json").write_text('{"format": "a web bundle"}')
    for name in ("one", "two", "three"):
        deploy(site, name)
    assert sorted(path.name for path in mine.iterdir()) == ["bundle.json", "thesis.tex"]
    assert len(list(site.release("").iterdir())) == 3


def test_scaffolds_of_killed_runs_go(site: receive.Site) -> None:
    left = site.root / "releases" / ".0123456789abcdef.edge-denoise"
    left.mkdir(parents=True)
    deploy(site, "one")
    assert not left.exists()


def test_what_deployments_that_failed_had_sent_goes(site: receive.Site) -> None:
    incoming = site.root / "incoming"
    incoming.mkdir()
    old, new, mine = (incoming / name for name in (f"{'a' * 16}.bundle", f"{'b' * 16}.bundle.part", "mine.bundle"))
    for path in (old, new, mine):
        path.write_text("x")
    for path in (old, mine):
        os.utime(path, (0, 0))
    deploy(site, "one")
    assert sorted(incoming.iterdir()) == sorted([new, mine])


def test_a_release_that_fails_leaves_nothing(site: receive.Site, monkeypatch: pytest.MonkeyPatch) -> None:
    one = deploy(site, "one")

    def fail(release: Path, _: object) -> None:
        raise Failure("no pip")

    monkeypatch.setattr(receive, "install_wheels", fail)
    with pytest.raises(Failure, match="no pip"):
        deploy(site, "two")
    assert [path.name for path in site.release("").iterdir()] == [one]
    assert (site.linked("current"), site.linked("previous")) == (one, None)


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """It writes its calls down, and fails where a file says so."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$2" >>{tmp_path}/calls\n! test -e {tmp_path}/fails.$2\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(units, "SERVICE_SETTLES_S", 0)
    return tmp_path


def test_units_that_do_not_stay_up_put_both_links_back(site: receive.Site, systemctl: Path) -> None:
    zero, one = (deploy(site, name, **{"units/a.service": name}) for name in ("zero", "one"))
    (systemctl / "fails.is-active").touch()
    with pytest.raises(Failure, match="journalctl"):
        deploy(site, "two", **{"units/a.service": "two"})
    assert (site.linked("current"), site.linked("previous")) == (one, zero)
    assert (systemctl / "config/systemd/user/a.service").read_text() == "one"


def test_a_release_without_units_restarts_what_runs_from_here(site: receive.Site, systemctl: Path) -> None:
    """Whoever wrote it: an earlier deployment, or the user. Others stay as they are."""
    folder = systemctl / "config/systemd/user"
    one = deploy(site, "one", **{"units/a.service": f"ExecStart={site.root}/current/venv/bin/edge-denoise live"})
    (folder / "mine.service").write_text(f'ExecStart="{site.root}/current/venv/bin/edge-denoise" live')
    (folder / "other.service").write_text("ExecStart=/usr/bin/other")
    told: list[dict[str, Any]] = []
    site.report = told.append
    two = deploy(site, "two")
    (service,) = [line for line in told if line["step"] == "service" and line["done"]]
    assert service["detail"] == {"units": ["a.service", "mine.service"]}
    (systemctl / "fails.restart").touch()
    with pytest.raises(Failure, match="journalctl"):
        deploy(site, "three")
    assert (site.linked("current"), site.linked("previous")) == (two, one)
    (systemctl / "fails.is-active").touch()  # none runs
    three = deploy(site, "three")
    assert site.linked("current") == three


@pytest.mark.parametrize(
    ("code", "said"),
    [("import os; os.kill(os.getpid(), 4)", "-c: ended by SIGILL"), ("raise SystemExit(3)", "-c: exit status 3")],
)
def test_a_program_that_dies_without_a_word_is_named(code: str, said: str) -> None:
    with pytest.raises(Failure, match=f"python.* {said}"):
        environment.run(sys.executable, "-c", code)


MAIN = """\
import sys
sys.path[:0] = {path!r}
from fake_release import fake_environment
from edge_runtime.install import receive
receive.install_wheels = fake_environment
sys.argv[0] = {arrived!r}
sys.exit(receive.main(["install", "--root", {root!r}]))
"""


@pytest.mark.parametrize("n_lines", range(6))
def test_a_connection_that_is_lost_at_any_line_does_not_stop_it_halfway(
    site: receive.Site, tmp_path: Path, n_lines: int
) -> None:
    one = deploy(site, "one")
    arrived = tmp_path / "arrived.bundle"
    arrived.write_bytes(bundle.pack({"artifact/golden.npz": b"two", "wheels/a.whl": b""}))
    code = MAIN.format(path=[str(TESTS / "fakes"), str(ROOT)], arrived=str(arrived), root=str(site.root))
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stderr is not None
    for _ in range(n_lines):
        running.stdout.readline()
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait() == 0
    running.stderr.close()
    assert site.linked("previous") == one
    assert (site.root / "current" / "artifact" / "golden.npz").read_text() == "two"


@pytest.mark.parametrize("pace", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_at_every_moment_there_is_a_current_release_and_one_to_go_back_to(
    site: receive.Site, tmp_path: Path, pace: int
) -> None:
    """Killed at its touches: what is current is whole; the next run ends it."""
    zero, one = deploy(site, "zero"), deploy(site, "one")
    shutil.copytree(site.root, tmp_path / "saved", symlinks=True)

    def run() -> int:
        deploy(site, "two")
        return 0

    status, n = -1, 0
    while status != 0:
        n += pace
        shutil.rmtree(site.root)
        shutil.copytree(tmp_path / "saved", site.root, symlinks=True)
        status = ended(run, site.root, n).status
        current, previous = site.linked("current"), site.linked("previous")
        assert current is not None
        assert (site.release(current) / receive.READY_FILE).is_file(), n
        assert previous in ((zero, one) if current == one else (one,)), n
        two = deploy(site, "two")
        assert (site.linked("current"), site.linked("previous")) == (two, one), n
        assert {path.name for path in site.release("").iterdir()} == {one, two}, n
        assert {path.name for path in site.root.iterdir()} == {"current", "history", "lock", "previous", "releases"}, n


def test_what_is_told_is_json(site: receive.Site) -> None:
    told: list[dict[str, Any]] = []
    site.report = told.append
    deploy(site, "one")
    assert [line["step"] for line in told if line["done"]] == ["unpack", "install", "verify", "switch", "tidy"]
    assert json.loads(json.dumps(told)) == told


OLDER = trust.Wish(allow_older=True)


def test_a_release_that_was_replaced_comes_back_only_if_that_is_asked_for(site: receive.Site) -> None:
    one, two = deploy(site, "one"), deploy(site, "two")
    with pytest.raises(Failure, match="an older release: it was current here, and was replaced; give --allow-older"):
        deploy(site, "one")
    assert (site.linked("current"), site.linked("previous")) == (two, one)
    assert deploy(site, "two") == two
    assert deploy(site, "one", wish=OLDER) == one
    with pytest.raises(Failure, match="older"):
        deploy(site, "two")
    receive.rollback(site)
    assert deploy(site, "two") == two, "it is current: nobody goes back"


def test_numbers_only_rise(site: receive.Site) -> None:
    seven = deploy(site, "a", 7)
    for name, number in (("b", 6), ("b", 0), ("a", 0)):
        with pytest.raises(Failure, match=f"its number is {number}, and 7 was current here"):
            deploy(site, name, number)
    assert site.linked("current") == seven
    deploy(site, "b", 7)
    deploy(site, "c", 8)
    deploy(site, "b", 6, OLDER)
    deploy(site, "d", 6)


KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(2)]


def signed(data: bytes, key: Ed25519PrivateKey = KEYS[0], named: Ed25519PrivateKey | None = None) -> trust.Wish:
    public = (named or key).public_key().public_bytes_raw()
    return trust.Wish(key=public.hex(), signature=key.sign(data).hex())


def test_once_a_key_is_trusted_every_release_must_be_signed_by_it(site: receive.Site) -> None:
    one = deploy(site, "one", wish=signed(packed("one")))
    two = packed("two")
    refused = {
        "takes signed releases only": trust.PLAIN,
        "trusts another key": signed(two, KEYS[1]),
        "does not fit": signed(packed("three")),
        "not fit; sign this": signed(two, KEYS[1], named=KEYS[0]),
        "signed releases only; give": signed(two)._replace(signature=""),
    }
    for message, wish in refused.items():
        with pytest.raises(Failure, match=message):
            deploy(site, "two", wish=wish)
        assert [path.name for path in site.release("").iterdir()] == [one]
    assert site.linked("current") == one
    deploy(site, "two", wish=signed(two)._replace(key=""))


def test_of_a_revoked_key_nothing_is_taken_and_another_can_take_its_place(site: receive.Site) -> None:
    one = deploy(site, "one", wish=signed(packed("one")))
    trusted, revoked = (site.root / name for name in (trust.TRUSTED, trust.REVOKED))
    revoked.write_text(trusted.read_text().upper())  # as a person may write it
    for wish in (signed(packed("two")), signed(packed("two"))._replace(key="")):
        with pytest.raises(Failure, match="the key that signed it is revoked here; sign with another key, and remove"):
            deploy(site, "two", wish=wish)
    trusted.unlink()
    with pytest.raises(Failure, match="revoked here"):
        deploy(site, "two", wish=signed(packed("two")))
    assert site.linked("current") == one
    deploy(site, "two", wish=signed(packed("two"), KEYS[1]))
    assert trusted.read_text().strip() == KEYS[1].public_key().public_bytes_raw().hex()
    revoked.write_bytes(b"\xff")
    with pytest.raises(Failure, match="is no list of keys; write one in hex a line"):
        deploy(site, "three", wish=signed(packed("three"), KEYS[1]))


def test_no_byte_of_a_signed_release_may_change(site: receive.Site) -> None:
    """Artifact, wheels, units, the installer itself: the signature is over all of it."""
    data = packed("one", **{"units/a.service": "u", "__main__.py": "m"})
    wish = signed(data)
    arrived = site.root.parent / "arrived.bundle"
    for at in range(0, len(data), 97):
        arrived.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(Failure, match="does not fit"):
            receive.install(site, arrived, wish)
    assert not site.release("").exists()


def test_what_is_verified_is_what_is_unpacked(site: receive.Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is another one by the time its signature was checked."""
    real, other = trust.check_signature, packed("other")

    def swap(root: Path, taken: bundle.Snapshot, wish: trust.Wish) -> str:
        found = real(root, taken, wish)
        with (site.root.parent / "arrived.bundle").open("r+b") as file:
            file.write(other)
        return found

    monkeypatch.setattr(trust, "check_signature", swap)
    deploy(site, "one", wish=signed(packed("one")))
    assert (site.root / "current" / "artifact" / "golden.npz").read_text() == "one"


MINE: dict[str, Callable[[Path], object]] = {
    "a folder": lambda root: (root / "current").mkdir(),
    "a file": lambda root: (root / "current").write_text("mine"),
    "a link to elsewhere": lambda root: (root / "current").symlink_to("/usr"),
    "a link to a folder of mine": lambda root: [(root / "releases/v1").mkdir(parents=True), link(root, "current")],
    "previous": lambda root: [(root / "releases/v1").mkdir(parents=True), link(root, "previous")],
}


def link(root: Path, name: str) -> None:
    (root / name).symlink_to("releases/v1")


@pytest.mark.parametrize("what", MINE)
def test_a_folder_that_somebody_else_deploys_to_is_left_alone(site: receive.Site, what: str) -> None:
    MINE[what](site.root)
    (site.root / "lock").write_text("mine")
    before = sorted(str(path) for path in site.root.rglob("*"))
    with pytest.raises(Failure, match="is not ours to replace; name another --root"):
        deploy(site, "one")
    assert sorted(str(path) for path in site.root.rglob("*")) == before
    assert (site.root / "lock").read_text() == "mine"


def test_a_bundle_without_a_wheel_is_one_line(site: receive.Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "install_wheels", environment.install_wheels)
    with pytest.raises(Failure, match="holds 0 wheels of edge-denoise"):
        deploy(site, "one")
    assert list(site.release("").iterdir()) == []
