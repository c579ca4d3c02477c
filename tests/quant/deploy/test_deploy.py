"""`quant deploy` to a real sshd of this machine: new releases become current, broken ones never do."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import far_side
import msgspec
import numpy as np
import pytest
from far_side import Board
from places import NATIVE
from toy_artifact import file_entry, toy

from edge_runtime.install.receive import ID_CHARACTERS
from edge_runtime.manifest import open_artifact
from edge_runtime.quiet import silent
from quant.artifact import signing
from quant.artifact.folder import write_manifest
from quant.artifact.stable_bytes import npz_bytes
from quant.build import stages
from quant.build.settings import Outputs
from quant.build.settings import Settings as BuildSettings
from quant.cli import main
from quant.deploy import release
from quant.deploy.ssh import Address, Remote

PLATFORM = f"linux_{platform.machine()}"
needs_sshd = pytest.mark.skipif(
    not Path(far_side.SSHD).exists() or not shutil.which("ssh"), reason="needs sshd and ssh (Debian: openssh-server)"
)


def model(folder: Path, **changes: object) -> Path:
    """The toy artifact with its digest, in 8 bits alone: half the models to prove on a board."""
    index, copy = toy().manifest, Path(shutil.copytree(toy().directory, folder))
    models = {engine: {"int8": rows["int8"]} for engine, rows in index.models.items()}
    gone = {rows["fp32"].file for rows in index.models.values()}
    for name in gone:
        (copy / name).unlink()
    files = {name: entry for name, entry in index.files.items() if name not in gone}
    write_manifest(copy, msgspec.structs.replace(index, models=models, files=files, **changes))
    return copy


# Nobody waits for what others write on this machine, nor for a service that is none.
IN_A_HURRY = """import os, time
sleep = time.sleep
os.sync = lambda: None
time.sleep = lambda seconds: sleep(min(seconds, 0.01))
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """Its Python has NumPy and the others, and ONNX Runtime; its systemctl does what a test says."""
    folder = tmp_path_factory.mktemp("board")
    packages = far_side.dependencies(folder / "packages", (*far_side.RUNTIME, "pip", "onnxruntime"))
    (packages / "sitecustomize.py").write_text(IN_A_HURRY)
    far_side.write_quick_pip(folder)
    (folder / "bin").mkdir()
    systemctl = folder / "bin" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$*" >>{folder}/systemctl.log\n! test -e {folder}/systemctl.$2\n')
    systemctl.chmod(0o755)
    environment = {
        "PYTHONPATH": str(packages),
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": f"{folder}/config",
    }
    with far_side.sshd(folder, environment) as served:
        yield served


@pytest.fixture
def fresh(board: Board) -> Board:
    """Nothing deployed yet."""
    for name in ("root", "config"):
        shutil.rmtree(board.folder / name, ignore_errors=True)
    for path in board.folder.glob("systemctl.*"):
        path.unlink()
    return board


@pytest.fixture
def quick(fresh: Board) -> Iterator[Board]:
    """And neither pip nor `doctor` is what is tried."""
    with far_side.quick_pip(fresh):
        yield fresh


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A wheel in dist/, two artifacts that differ in a word, and one that breaches its golden vectors."""
    (tmp_path / "dist").mkdir()
    far_side.wheel(tmp_path / "dist", PLATFORM)
    model(tmp_path / "one")
    model(tmp_path / "two", recipe="another")
    breach(model(tmp_path / "breach"))
    return tmp_path


def breach(folder: Path) -> None:
    """Golden vectors that no engine reaches, in an artifact that is whole."""
    arrays, index = dict(np.load(folder / "golden.npz")), open_artifact(folder).manifest
    (folder / "golden.npz").write_bytes(npz_bytes(arrays | {"enhanced_int8": 2 * arrays["enhanced_int8"]}))
    files = index.files | {index.golden: file_entry(folder / index.golden)}
    write_manifest(folder, msgspec.structs.replace(index, files=files))


def command(board: Board, desk: Path, name: str, *more: str) -> list[str]:
    options = [f"--model={desk / name}", f"--wheels={desk / 'dist'}", "--target=host"]
    return ["deploy", *board.arguments, *options, *more]


def deployed(board: Board, desk: Path, name: str, capfd, *more: str) -> dict:
    assert main(command(board, desk, name, "--json", *more)) == 0, capfd.readouterr().err
    return json.loads(capfd.readouterr().out)


def refused(argv: list[str], capfd) -> str:
    """The last line of standard error; those before are progress."""
    assert main(argv) == 1
    *progress, error = capfd.readouterr().err.splitlines()
    assert error.startswith("quant: error: ")
    assert all(line.startswith("quant: ") and "error" not in line for line in progress)
    return error


def current(board: Board) -> str | None:
    link = board.folder / "root" / "current"
    return link.resolve().name if link.exists() else None


@needs_sshd
def test_the_first_the_second_and_back(fresh, desk, capfd):
    first = deployed(fresh, desk, "one", capfd)
    assert first["current"] == first["sha256"][:ID_CHARACTERS] == current(fresh)
    assert first["previous"] is None
    assert list(first["steps"]) == ["unpack", "install", "verify", "doctor", "switch", "tidy"]
    golden = first["steps"]["verify"]["detail"]["golden"]
    assert {(row["engine"], row["ok"]) for row in golden} == {("onnx", True), ("tflite", None)}
    with far_side.quick_pip(fresh):
        check_next_ones(fresh, desk, capfd, first)


def check_next_ones(fresh, desk, capfd, first):
    second = deployed(fresh, desk, "two", capfd)
    assert (second["current"], second["previous"]) == (current(fresh), first["current"])
    assert second["current"] != first["current"]
    assert list((fresh.folder / "root" / "incoming").iterdir()) == []
    back = deployed(fresh, desk, "two", capfd, "--rollback")
    assert (back["current"], back["previous"]) == (first["current"], second["current"])
    assert current(fresh) == first["current"]
    again = deployed(fresh, desk, "two", capfd)
    assert "install" not in again["steps"], "it lies there already"
    assert (again["current"], again["previous"]) == (second["current"], first["current"])
    model(desk / "three", recipe="third")
    third = deployed(fresh, desk, "three", capfd)
    assert third["steps"]["tidy"]["detail"] == {"removed": [first["current"]]}
    kept = sorted(path.name for path in (fresh.folder / "root" / "releases").iterdir())
    assert kept == sorted([second["current"], third["current"]])


@needs_sshd
def test_a_release_that_breaches_its_golden_vectors_never_becomes_current(quick, desk, capfd):
    first = deployed(quick, desk, "one", capfd)["current"]
    assert "no release before this one is kept; deploy" in refused(command(quick, desk, "one", "--rollback"), capfd)
    error = refused(command(quick, desk, "breach"), capfd)
    assert "step verify: " in error
    assert "golden vectors breached by onnx" in error
    assert error.endswith(f"; {first} is current as before")
    assert current(quick) == first
    assert [path.name for path in (quick.folder / "root" / "releases").iterdir()] == [first]


@needs_sshd
def test_a_wheel_that_does_not_work_is_found_there(quick, desk, capfd):
    far_side.wheel(desk / "dist", PLATFORM, broken=True)
    error = refused(command(quick, desk, "one"), capfd)
    assert "step verify: golden.py: broken on purpose; nothing is current" in error
    assert current(quick) is None


@needs_sshd
@pytest.mark.slow
def test_a_wheel_of_another_that_dies_there_is_named_and_holds_nothing_up(fresh, tmp_path, capfd):
    """ONNX Runtime with instructions that the board has not; the native engine, which `auto` takes, is exact."""
    stages.build(BuildSettings(target="host", outputs=Outputs(folder=tmp_path / "host")), silent)
    (tmp_path / "dist").mkdir()
    far_side.wheel(tmp_path / "dist", PLATFORM, NATIVE / "libedge_denoise.so")
    runtime = fresh.folder / "packages" / "onnxruntime"
    real = runtime.readlink()
    runtime.unlink()
    runtime.mkdir()
    (runtime / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    try:
        told = deployed(fresh, tmp_path, "host", capfd)
    finally:
        shutil.rmtree(runtime)
        runtime.symlink_to(real)
    rows = {(row["engine"], row["precision"]): row for row in told["steps"]["verify"]["detail"]["golden"]}
    assert rows["native", "int8"]["ok"]
    assert rows["native", "int8"]["exact"]
    assert "died: illegal instruction" in rows["onnx", "int8"]["error"]


@needs_sshd
def test_what_the_board_lacks_is_named(fresh, desk, capfd):
    lacking = desk / "dist" / "edge_denoise-0.2.0-py3-none-any.whl"
    (path,) = (desk / "dist").iterdir()
    more = b"Requires-Dist: nonesuch-of-ours>=1\nRequires-Dist: tqdm"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(lacking, "w") as new:
        for name in old.namelist():
            data = old.read(name).replace(b"Requires-Dist: tqdm", more)
            new.writestr(name, data.replace(f"none-{PLATFORM}".encode(), b"none-any"))
    path.unlink()
    error = refused(command(fresh, desk, "one"), capfd)
    assert "step install: " in error
    assert "nonesuch-of-ours" in error
    assert "give --with-deps" in error


@needs_sshd
def test_a_service_is_restarted_and_one_that_fails_goes_back(quick, desk, capfd):
    first = deployed(quick, desk, "one", capfd, "--service")
    assert first["steps"]["service"]["detail"]["units"] == ["edge-denoise.service"]
    calls = (quick.folder / "systemctl.log").read_text().splitlines()
    assert [line.split()[1] for line in calls] == ["daemon-reload", "enable", "restart", "is-active"]
    unit = (quick.folder / "config/systemd/user/edge-denoise.service").read_text()
    root = quick.folder / "root"
    assert f"ExecStart={root}/current/venv/bin/edge-denoise live --wait --capture default" in unit
    assert f"--model {root}/current/artifact\n" in unit
    (quick.folder / "systemctl.is-active").touch()
    error = refused(command(quick, desk, "two", "--service"), capfd)
    assert "step service: " in error
    assert "journalctl --user -u edge-denoise.service" in error
    assert error.endswith(f"{first['current']} is current as before")
    assert current(quick) == first["current"]


@needs_sshd
def test_a_bundle_that_arrives_changed_is_not_run(quick, desk, capfd, monkeypatch):
    real = release.checking
    monkeypatch.setattr(release, "checking", lambda s, sha256: real(s, sha256).replace(sha256 + " ", "0" * 64 + " "))
    assert "step check: " in refused(command(quick, desk, "one"), capfd)
    assert current(quick) is None


@needs_sshd
def test_a_signed_release_and_from_then_on_no_other(quick, desk, tmp_path, capfd):
    signing.keygen(tmp_path / "key")
    first = deployed(quick, desk, "one", capfd, f"--sign={tmp_path / 'key'}", "--service")
    fingerprint = sha256(signing.raw_key(tmp_path / "key.pub")).hexdigest()[: signing.FINGERPRINT_HEX]
    assert first["steps"]["signature"]["detail"]["key"] == fingerprint
    error = refused(command(quick, desk, "two"), capfd)
    assert "step signature: " in error
    assert "this board takes signed releases only; give --key" in error
    signing.keygen(tmp_path / "other")
    error = refused(command(quick, desk, "two", f"--sign={tmp_path / 'other'}"), capfd)
    assert "this board trusts another key" in error
    assert current(quick) == first["current"]
    made = tmp_path / "two.bundle"
    (wheel,) = (desk / "dist").iterdir()
    assert main(["bundle", str(desk / "two"), f"--wheel={wheel}", "-o", str(made), "--number=2"]) == 0
    capfd.readouterr()
    bring = ["deploy", *quick.arguments, "--target=host", f"--bundle={made}", f"--key={tmp_path / 'key.pub'}", "--json"]
    assert "not signed: no two.bundle.sig" in refused(bring, capfd)
    signing.sign(made, tmp_path / "key")
    assert main(bring) == 0, capfd.readouterr().err
    second = json.loads(capfd.readouterr().out)
    assert second["current"] == current(quick) == second["sha256"][:ID_CHARACTERS]
    error = refused(command(quick, desk, "one", f"--sign={tmp_path / 'key'}", "--number=1"), capfd)
    assert "an older release: its number is 1, and 2 was current here; give --allow-older" in error
    made.write_bytes(made.read_bytes()[:-1])
    assert "does not fit" in refused(bring, capfd)


@needs_sshd
def test_one_deployment_at_a_time(fresh, desk, capfd):
    (fresh.folder / "root").mkdir()
    with (fresh.folder / "root" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another deployment is at work; wait for it" in refused(command(fresh, desk, "one"), capfd)


@needs_sshd
def test_roll_back_where_nothing_is(fresh, desk, capfd):
    assert "step find: " in refused(command(fresh, desk, "one", "--rollback"), capfd)


@needs_sshd
def test_connections_that_fail(fresh, desk, tmp_path, capfd):
    argv = command(fresh, desk, "one")
    other = tmp_path / "other"
    shutil.copy(fresh.folder / "host_key", other)
    swap = [f"--identity={other}" if a.startswith("--identity") else a for a in argv]
    error = refused(swap, capfd)
    assert f"error: {fresh.user}@127.0.0.1: Permission denied (publickey" in error
    assert "put your public key there with ssh-copy-id" in error
    swap = [f"--port={far_side.free_port()}" if a.startswith("--port") else a for a in argv]
    assert "Connection refused; enable ssh there" in refused(swap, capfd)
    swap = ["--ssh-option=UserKnownHostsFile=/dev/null" if a.startswith("--ssh-option") else a for a in argv]
    assert "Host key verification failed.; connect once with ssh by hand" in refused(swap, capfd)
    swap = ["--python=nonesuch" if a.startswith("--python") else a for a in argv]
    assert "nonesuch: " in refused(swap, capfd)


LOCAL = [
    ("no target", ["deploy", "pi@board"], "--target is missing; name a board"),
    ("unknown board", ["deploy", "pi@board", "--target=rpi9"], "unknown board 'rpi9'"),
    ("an option as host", ["deploy", "--target=host", "--", "-oProxyCommand=x"], "not a destination"),
    ("two units", None, "not allowed with argument"),
    (
        "a bundle and a unit",
        ["deploy", "pi@board", "--target=host", "--bundle=x", "--service"],
        "give them to `quant bu",
    ),
    ("PCM without a unit", ["deploy", "pi@board", "--target=host", "--capture=x"], "give --service too"),
]


@pytest.mark.parametrize(("argv", "message"), [row[1:] for row in LOCAL], ids=[row[0] for row in LOCAL])
def test_what_is_refused_before_anything_is_asked(desk, monkeypatch, capfd, argv, message):
    monkeypatch.chdir(desk)
    argv = argv or ["deploy", "pi@board", "--target=host", "--service", "--unit=x"]
    assert main([*argv[:1], f"--model={desk / 'one'}", *argv[1:]]) in (1, 2)
    assert message in capfd.readouterr().err.splitlines()[-1]


def test_another_board_another_key_or_a_changed_artifact_is_not_sent(desk, tmp_path, capfd):
    base = ["deploy", "pi@nowhere.invalid", f"--wheels={desk / 'dist'}"]
    assert "built for host, not for rpi4" in refused([*base, "--target=rpi4", f"--model={desk / 'one'}"], capfd)
    signing.keygen(tmp_path / "key")
    key = f"--key={tmp_path / 'key.pub'}"
    ours = [*base, "--target=host", f"--model={desk / 'one'}", key]
    assert "not signed" in refused(ours, capfd)
    signing.sign(desk / "one", tmp_path / "key")
    assert "not for wheels and unit; sign the release with --sign" in refused(ours, capfd)
    signing.keygen(tmp_path / "other")
    assert "--key and --sign are not of one pair" in refused([*ours, f"--sign={tmp_path / 'other'}"], capfd)
    (desk / "one" / "model.onnx").write_bytes(b"x")
    assert "model.onnx: has 1 bytes" in refused([*base, "--target=host", f"--model={desk / 'one'}"], capfd)


def test_a_bundle_that_cannot_be_sent_is_known_before_anybody_is_asked(desk, tmp_path, capfd):
    base = ["deploy", "pi@nowhere.invalid", "--target=host"]
    assert "gone.bundle: cannot be read" in refused([*base, f"--bundle={tmp_path / 'gone.bundle'}"], capfd)
    made = tmp_path / "one.bundle"
    assert main(["bundle", str(desk / "one"), "-o", str(made)]) == 0
    signing.keygen(tmp_path / "key")
    assert "not signed" in refused([*base, f"--bundle={made}", f"--key={tmp_path / 'key.pub'}"], capfd)
    made.write_bytes(made.read_bytes()[:900])
    assert "one.bundle: not a bundle" in refused([*base, f"--bundle={made}"], capfd)


def test_a_dry_run_prints_every_command_and_asks_nobody(desk, capfd):
    base = ["deploy", "pi@nowhere.invalid", "--target=host", f"--model={desk / 'one'}", f"--wheels={desk / 'dist'}"]
    assert main([*base, "--dry-run", "--port=2222", "--extra=onnx"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 5
    ssh = [line for line in lines if line.startswith("ssh ")]
    assert all("-o BatchMode=yes" in line and "-p 2222 -- pi@nowhere.invalid" in line for line in ssh)
    assert lines[1].startswith(f"quant bundle {desk / 'one'} --wheel {desk / 'dist'}/edge_denoise")
    assert "sha256sum -c" in lines[3]
    assert "|| echo .local/share/edge-denoise/incoming/ID.bundle" in lines[4]
    assert "install --bundle .local/share/edge-denoise/incoming/ID.bundle --root" in lines[4]
    assert lines[4].endswith("--extra onnx'")
    assert main([*base, "--dry-run", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["commands"]) == 5


@needs_sshd
@pytest.mark.parametrize("n_bytes", [70, 76, 77, 95, 200])
def test_folders_for_temporary_files_may_have_long_names(fresh, tmp_path, monkeypatch, n_bytes):
    """Longer than a socket's path may be."""
    top = Path(tempfile.mkdtemp())
    folder = top / ("x" * (n_bytes - len(str(top)) - 1))
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    known = f"UserKnownHostsFile={fresh.folder}/known_hosts"
    address = Address(f"{fresh.user}@127.0.0.1", fresh.port, fresh.folder / "user_key", (known,))
    with Remote(address) as remote:
        assert remote.run("echo here") == "here\n"
    shutil.rmtree(top)
