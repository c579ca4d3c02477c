"""A bundle: the same members give the same bytes, and nothing but those bytes is unpacked."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_artifact import toy

import edge_runtime
from edge_runtime.errors import Failure
from edge_runtime.install import bundle
from quant.artifact import bundle as contents
from quant.artifact import signing
from quant.artifact.folder import write_manifest
from quant.artifact.stable_bytes import file_entry
from quant.cli import main

MEMBERS = {"__main__.py": b"print()", "artifact/a.bin": bytes(range(256)), "wheels/b-1.0+x.whl": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The toy artifact with its digest."""
    copy = Path(shutil.copytree(toy().directory, tmp_path / "artifact"))
    write_manifest(copy, toy().manifest)
    return copy


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "small.bundle"
    path.write_bytes(bundle.pack(MEMBERS))
    return path


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,8}(/[A-Za-z0-9_][A-Za-z0-9._+-]{0,8})?", fullmatch=True)


def test_a_number_is_in_the_index(tmp_path):
    (tmp_path / "a.bundle").write_bytes(bundle.pack(MEMBERS, 7))
    assert bundle.check(tmp_path / "a.bundle").number == 7
    assert bundle.pack(MEMBERS, 0) == bundle.pack(MEMBERS)


@given(st.dictionaries(NAMES.filter(lambda n: not n.startswith(bundle.INDEX)), st.binary(max_size=99), max_size=6))
@settings(max_examples=50, deadline=None)
def test_what_is_packed_is_what_is_read_in_any_order(tmp_path_factory, members):
    path = tmp_path_factory.mktemp("bundle") / "a.bundle"
    path.write_bytes(bundle.pack(members))
    assert bundle.pack(dict(reversed(members.items()))) == path.read_bytes()
    assert bundle.check(path).files == {name: len(data) for name, data in members.items()}
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name) for name in members} == members


def test_every_byte_of_a_bundle_is_vouched_for(packed: Path):
    good = packed.read_bytes()
    for at in range(len(good)):
        packed.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(Failure) as caught:
            bundle.check(packed)
        assert "\n" not in str(caught.value)
    packed.write_bytes(good)
    bundle.check(packed)


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip as another program might write it, with an index that agrees."""
    files = {(m if isinstance(m, str) else m.filename): data for m, data in members}
    index = json.loads(zipfile.ZipFile(io.BytesIO(bundle.pack({}))).read(bundle.INDEX))
    index["files"] = {n: {"bytes": len(d), "sha256": file_entry(d).sha256} for n, d in files.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for member, data in ((plain(bundle.INDEX), json.dumps(index).encode()), *members):
            archive.writestr(plain(member) if isinstance(member, str) else member, data, compression)
    return buffer.getvalue()


def plain(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def changed_index(**fields: object) -> bytes:
    buffer = io.BytesIO()
    index = {"format": bundle.FORMAT, "version": bundle.VERSION, "files": {}} | fields
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(plain(bundle.INDEX), json.dumps(index))
    return buffer.getvalue()


def overlapping() -> bytes:
    """Forty entries of the central directory that all lead to one stored file: a bomb of stored members."""
    data = zipped(*((f"f{i:02}", b"x" * 999) for i in range(2)))
    directory = data.index(b"PK\x01\x02")
    start, end = data.index(b"PK\x01\x02", directory + 4), data.index(b"PK\x05\x06")
    entries = data[start:end]
    more = b"".join(entries.replace(b"f0", f"{i:02}".encode()) for i in range(20))
    tail = bytearray(data[end:])
    tail[8:12] = (1 + 2 * 20).to_bytes(2, "little") * 2
    tail[12:16] = (start - directory + len(more)).to_bytes(4, "little")
    return data[:start] + more + bytes(tail)


HOSTILE: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty", lambda: b"", "not a bundle (File is not a zip file)"),
    ("text", lambda: b"hello" * 99, "not a bundle"),
    ("cut", lambda: bundle.pack(MEMBERS)[:-30], "not a bundle"),
    ("no index", lambda: changed_index()[:30].replace(b"bundle.json", b"bundle.yaml") + b"", "not a bundle"),
    ("climbs out", lambda: zipped(("../evil", b"x")), "'../evil', which may lead elsewhere"),
    ("climbs out inside", lambda: zipped(("a/../../evil", b"x")), "which may lead elsewhere"),
    ("absolute", lambda: zipped(("/etc/cron.d/evil", b"x")), "which may lead elsewhere"),
    ("backslash", lambda: zipped(("a\\..\\evil", b"x")), "which may lead elsewhere"),
    ("drive", lambda: zipped(("c:evil", b"x")), "which may lead elsewhere"),
    ("hidden", lambda: zipped((".bashrc", b"x")), "which may lead elsewhere"),
    ("folder", lambda: zipped(("dir/", b"")), "which may lead elsewhere"),
    ("symlink", lambda: zipped((plain("link", stat.S_IFLNK | 0o777), b"/etc/passwd")), "link is no plain file"),
    ("device", lambda: zipped((plain("dev", stat.S_IFCHR | 0o644), b"")), "dev is no plain file"),
    ("set-user-id", lambda: zipped((plain("su", stat.S_IFREG | 0o4755), b"")), "su is no plain file"),
    ("bomb", lambda: zipped(("zeros", bytes(9_999_999)), compression=zipfile.ZIP_DEFLATED), "is compressed or encry"),
    ("overlapping", overlapping, "holds files that overlap"),
    ("twice", lambda: zipped(("a", b"1"), ("a", b"1")), "holds two files of one name"),
    ("bytes behind", lambda: bundle.pack(MEMBERS) + b"x", "belong to no file of it"),
    ("bytes before", lambda: b"#!/bin/sh\n" + bundle.pack(MEMBERS), "belong to no file of it"),
    ("other format", lambda: changed_index(format="other"), "not an edge-denoise bundle but 'other'"),
    ("newer", lambda: changed_index(version=2), "has version 2, this reads 1; update edge-denoise"),
    ("a file too few", lambda: changed_index(files={"a": {}}), "holds other files than its bundle.json names"),
    ("index is a list", lambda: changed_index(files=[1]), "its bundle.json is no index"),
]


def rewritten(change: Callable[[str], str]) -> Callable[[], bytes]:
    """A bundle whose index says the same in another way; the zip as `pack` would write it."""

    def make() -> bytes:
        index = zipfile.ZipFile(io.BytesIO(bundle.pack(MEMBERS))).read(bundle.INDEX)
        members = {bundle.INDEX: change(index.decode()).encode(), **MEMBERS}
        buffer = io.BytesIO()
        bundle._write(buffer, [bundle.INDEX, *sorted(MEMBERS)], members.__getitem__)
        return buffer.getvalue()

    return make


HOSTILE += [
    (what, rewritten(change), message)
    for what, change, message in (
        ("other spaces", lambda text: text + " ", "its bundle.json is not written as it must be"),
        ("more said", lambda text: text.replace('"format"', '"a": 1,\n "format"'), "is not written as it must be"),
        ("said twice", lambda text: text.replace(' "version"', ' "version": 1,\n "version"'), "is not written as"),
        ("a length that is true", lambda text: text.replace('"bytes": 256', '"bytes": 256.0'), "is not written as"),
        ("number nought", lambda text: text.replace(' "version"', ' "number": 0,\n "version"'), "is not written as"),
        ("no number", lambda text: text.replace(' "version"', ' "number": 1e999,\n "version"'), "is no index"),
    )
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("make", "message"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path, capfd, make, message):
    path = tmp_path / "in" / "evil.bundle"
    path.parent.mkdir()
    path.write_bytes(make())
    assert main(["unpack", str(path), "-o", str(tmp_path / "in" / "out")]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert [entry.name for entry in tmp_path.rglob("*")] == ["in", "evil.bundle"]


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", ".x", "a b", "", "a\n", bundle.INDEX])
def test_names_that_would_be_refused_are_not_packed(name):
    with pytest.raises(Failure, match="no bundle holds a file of the name"):
        bundle.pack({name: b""})


def test_the_same_artifact_makes_the_same_bundle_whatever_its_times_and_modes(folder, tmp_path, capfd):
    wheel = tmp_path / "edge_denoise-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    command = ["bundle", str(folder), "--wheel", str(wheel), "--json", "-o"]
    assert main([*command, str(tmp_path / "one.bundle")]) == 0
    first = json.loads(capfd.readouterr().out)
    for path in folder.iterdir():
        path.chmod(0o400)
        os.utime(path, (1, 1))
    assert main([*command, str(tmp_path / "two.bundle")]) == 0
    assert json.loads(capfd.readouterr().out) | {"out": first["out"]} == first
    assert (tmp_path / "one.bundle").read_bytes() == (tmp_path / "two.bundle").read_bytes()


def test_a_bundle_gives_back_the_artifact_with_its_signature(folder, tmp_path, capfd):
    key = tmp_path / "key"
    signing.keygen(key)
    signing.sign(folder, key)
    path, out = tmp_path / "a.bundle", tmp_path / "out"
    contents.write(contents.members(folder), path)
    signing.sign(path, key)
    assert main(["unpack", str(path), "-o", str(out), "--key", f"{key}.pub"]) == 0
    assert {p.name: p.read_bytes() for p in (out / "artifact").iterdir()} == {
        p.name: p.read_bytes() for p in folder.iterdir()
    }
    assert main(["verify", str(out / "artifact"), "--key", f"{key}.pub"]) == 0
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    capfd.readouterr()
    assert main(["unpack", str(path), "-o", str(tmp_path / "no"), "--key", f"{key}.pub"]) == 1
    assert "a.bundle.sig: does not fit: it or a.bundle changed since" in capfd.readouterr().err


REFUSED = [
    ("there", lambda f, out: out.touch(), "is there already; give --force"),
    ("a folder", lambda f, out: out.mkdir(), "a.bundle: is a folder; name a file in it"),
    ("changed", lambda f, out: (f / "model.onnx").write_bytes(b"x"), "model.onnx: has 1 bytes"),
    ("foreign", lambda f, out: (f / "note.txt").touch(), "1 files that the manifest does not name"),
    ("no digest", lambda f, out: (f / "manifest.sha256").unlink(), "manifest.sha256: missing"),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_not_bundled(folder, tmp_path, capfd, spoil, message):
    out = tmp_path / "a.bundle"
    spoil(folder, out)
    before = {p.name for p in tmp_path.iterdir()}
    assert main(["bundle", str(folder), "-o", str(out)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("option", "message"),
    [("--wheel", "is not called as a wheel is, .whl"), ("--unit", "as a unit is, .service; name")],
)
def test_what_a_board_would_pass_by_is_not_bundled(folder, tmp_path, capfd, option, message):
    assert main(["bundle", str(folder), option, str(folder / "README.md"), "-o", str(tmp_path / "a.bundle")]) == 1
    assert message in capfd.readouterr().err
    assert not (tmp_path / "a.bundle").exists()


def test_an_artifact_that_is_not_as_built_is_not_unpacked(tmp_path, capfd):
    path = tmp_path / "a.bundle"
    path.write_bytes(bundle.pack({"artifact/manifest.json": b"{}"}))
    assert main(["unpack", str(path), "-o", str(tmp_path / "out")]) == 1
    assert "not a valid manifest" in capfd.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["a.bundle"]


def test_a_bundle_runs_with_the_standard_library_alone(folder, tmp_path):
    path = tmp_path / "a.bundle"
    contents.write(contents.members(folder), path)
    done = subprocess.run([sys.executable, "-I", "-S", str(path), "--help"], capture_output=True, text=True, check=True)
    assert "{install,rollback}" in done.stdout
    for name in contents.MODULES:
        for node in ast.walk(ast.parse((Path(edge_runtime.__file__).parent / name).read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                top = str(module).partition(".")[0]
                assert top in sys.stdlib_module_names or top == "edge_runtime", f"{name} imports {module}"


def test_what_was_verified_is_what_is_unpacked(folder, tmp_path, monkeypatch, capfd):
    """The file is another one by the time its signature was checked."""
    made, key = tmp_path / "a.bundle", tmp_path / "key"
    signing.keygen(key)
    assert main(["bundle", str(folder), "-o", str(made)]) == 0
    signing.sign(made, key)
    real, data = signing.verify, made.read_bytes()

    def swap(*args: object) -> object:
        found = real(*args)
        made.write_bytes(bundle.pack(MEMBERS))
        return found

    monkeypatch.setattr(signing, "verify", swap)
    assert main(["unpack", str(made), "-o", str(tmp_path / "out"), "--key", f"{key}.pub"]) == 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {name: (tmp_path / "out" / name).read_bytes() for name in archive.namelist()} == {
            name: archive.read(name) for name in archive.namelist()
        }
