"""Any byte of any file of a signed artifact: changed, and found, in one line."""

from __future__ import annotations

import io
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ended import full
from toy_artifact import toy

from edge_runtime.errors import Failure
from edge_runtime.install import bundle
from edge_runtime.manifest import DIGEST_FILE, MANIFEST_FILE, SIGNATURE_FILE, SIGNER_FILE, digest_line, open_artifact
from quant.artifact import signing
from quant.artifact.folder import write_manifest
from quant.artifact.stable_bytes import file_entry
from quant.cli import main

WHOLE_BYTES, STRIDE_BYTES = 256, 509  # every byte of files up to this; else every so manieth, a prime


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        signing.keygen(folder / name)
    return folder


@pytest.fixture
def signed(keys: Path, in_memory: Path) -> Path:
    """The toy artifact with its digest, signed with `mine`."""
    folder = Path(shutil.copytree(toy().directory, in_memory / "artifact"))
    write_manifest(folder, toy().manifest)
    signing.sign(folder, keys / "mine")
    return folder


def check(folder: Path, key: Path) -> signing.Verified:
    """What `quant verify --key` does before it runs a model."""
    open_artifact(folder).check_whole()
    return signing.verify(folder, key)


def test_a_pair_of_keys_is_there_whole_or_not_at_all(tmp_path: Path):
    """A full disk once left a private key of 0 bytes, whose name was then taken."""

    def make() -> int:
        try:
            signing.keygen(tmp_path / "key")
        except Failure as failure:
            return 1 if "No space left on device" in str(failure) else 2
        return 0

    statuses = []
    while 0 not in statuses:
        statuses.append(full(make, tmp_path, len(statuses) + 1).status)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ([] if statuses[-1] else ["key", "key.pub"])
    assert statuses[:-1] == [1] * (len(statuses) - 1)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    (tmp_path / "a.bundle").write_bytes(bundle.pack({}))
    signing.sign(tmp_path / "a.bundle", tmp_path / "key")


def test_a_signed_artifact_verifies_with_its_key_and_says_whose_without(signed: Path, keys: Path):
    mine = signing.keygen(keys.parent / "again")
    verified = check(signed, keys / "mine.pub")
    assert verified.is_trusted
    assert verified.fingerprint != mine
    assert signing.verify(signed, None) == (verified.fingerprint, False)
    assert json.loads((signed / MANIFEST_FILE).read_text())["network"] == "gtcrn"
    (keys.parent / "again").unlink()
    (keys.parent / "again.pub").unlink()


def test_every_byte_of_every_file_is_vouched_for(signed: Path, keys: Path):
    """Small files at every byte, and the manifest, large ones at every 509th; first and last always."""
    n_changes = 0
    for path in sorted(signed.iterdir()):
        good = path.read_bytes()
        step = 1 if len(good) <= WHOLE_BYTES or path.name == MANIFEST_FILE else STRIDE_BYTES
        for at in {*range(0, len(good), step), len(good) - 1}:
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            with pytest.raises(Failure) as caught:
                check(signed, keys / "mine.pub")
            assert "\n" not in str(caught.value)
            n_changes += 1
        path.write_bytes(good)
    assert n_changes > 2_000
    check(signed, keys / "mine.pub")


def test_changes_of_manifest_and_digest_are_found_without_a_key(signed: Path):
    """The loader refuses, too: a digit of a scale would change the sound."""
    for name in (MANIFEST_FILE, DIGEST_FILE):
        good = (signed / name).read_bytes()
        for at in range(0, len(good), 19):
            (signed / name).write_bytes(good[:at] + bytes([good[at] ^ 2]) + good[at + 1 :])
            with pytest.raises(Failure):
                open_artifact(signed)
        (signed / name).write_bytes(good)


def forge(folder: Path) -> None:
    """What a stranger can do without the key: change a model, and make every hash agree."""
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    index = json.loads((folder / MANIFEST_FILE).read_text())
    index["files"]["model.onnx"] = json.loads(json.dumps(vars_of(path)))
    text = (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()
    (folder / MANIFEST_FILE).write_bytes(text)
    (folder / DIGEST_FILE).write_bytes(digest_line(text))


def vars_of(path: Path) -> dict[str, object]:
    entry = file_entry(path.read_bytes())
    return {"bytes": entry.bytes, "sha256": entry.sha256}


TAMPERED = [
    ("forged and rehashed", forge, "does not fit: it or manifest.json changed since"),
    ("signature taken out", lambda f: (f / SIGNATURE_FILE).unlink(), "not signed: no manifest.json.sig; sign it"),
    ("signer taken out", lambda f: (f / SIGNER_FILE).unlink(), "not signed: no manifest.json.pub; sign it"),
    ("signature cut", lambda f: (f / SIGNATURE_FILE).write_bytes(b"x" * 63), "does not fit"),
    ("signer rewritten", lambda f: (f / SIGNER_FILE).write_bytes(b"\n" + (f / SIGNER_FILE).read_bytes()), "as written"),
    ("signer is no key", lambda f: (f / SIGNER_FILE).write_text("me"), "not a public key"),
    ("digest taken out", lambda f: (f / DIGEST_FILE).unlink(), "manifest.sha256: missing from the artifact"),
    ("model changed", lambda f: (f / "model.onnx").write_bytes(b"x"), "model.onnx: has 1 bytes, the manifest says"),
    ("file added", lambda f: (f / "extra.py").touch(), "1 files that the manifest does not name; take them out: extra"),
]


@pytest.mark.parametrize(("tamper", "message"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED])
def test_tampering_is_one_line(signed, keys, capfd, tamper, message):
    tamper(signed)
    assert main(["verify", str(signed), "--key", str(keys / "mine.pub")]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert message in line


KEYS = [
    ("another key", "other.pub", "signed by another key: "),
    ("a private key", "mine", "not a public key; name a .pub file"),
    ("no key", "gone.pub", "gone.pub: cannot be read (No such file"),
    ("another kind", "rsa.pub", "not an ed25519 key"),
]


@pytest.mark.parametrize(("key", "message"), [row[1:] for row in KEYS], ids=[row[0] for row in KEYS])
def test_only_the_named_key_will_do(signed, keys, capfd, key, message):
    write_rsa(keys)
    assert main(["verify", str(signed), "--key", str(keys / key)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line


def write_rsa(keys: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    key = generate_private_key(SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (keys / "rsa.pub").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


def test_an_unsigned_artifact_verifies_without_a_key_and_not_with_one(signed, keys, capfd):
    (signed / SIGNATURE_FILE).unlink()
    (signed / SIGNER_FILE).unlink()
    assert main(["verify", str(signed), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["signature"] is None
    assert main(["verify", str(signed), "--key", str(keys / "mine.pub")]) == 1
    assert "not signed: no manifest.json.sig; sign it with `quant sign`" in capfd.readouterr().err


def test_a_private_key_is_its_owners_only_and_never_printed(tmp_path, capfd):
    assert main(["keygen", str(tmp_path / "key"), "--json"]) == 0
    told = capfd.readouterr().out
    key = tmp_path / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = "".join(key.read_text().splitlines()[1:-1])
    assert secret not in told
    assert json.loads(told)["public"] == f"{key}.pub"
    assert main(["keygen", str(key)]) == 1
    assert "is there already; name another file" in capfd.readouterr().err
    assert secret in key.read_text()


def public_in_its_place(key: Path) -> None:
    """Which everybody may read."""
    key.unlink()
    signing.public_of(key).rename(key)


UNUSABLE = [
    ("read by others", lambda key: key.chmod(0o640), "others may read this private key; `chmod 600"),
    ("not a key", lambda key: key.write_text("-----BEGIN nothing"), "not a private key; name one made"),
    ("gone", lambda key: key.unlink(), "cannot be read (No such file"),
    ("public as it is made", public_in_its_place, "not a private key; name"),
    ("public", lambda key: key.write_bytes(signing.public_of(key).read_bytes()), "not a private key; name"),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE])
def test_a_key_that_cannot_sign_signs_nothing(signed, tmp_path, capfd, spoil, message):
    key = tmp_path / "key"
    signing.keygen(key)
    spoil(key)
    before = (signed / SIGNATURE_FILE).read_bytes()
    assert main(["sign", str(signed), "--key", str(key)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert "PRIVATE" not in line
    assert (signed / SIGNATURE_FILE).read_bytes() == before


def test_what_is_broken_is_not_signed(signed, keys):
    (signed / "model.onnx").write_bytes(b"x")
    with pytest.raises(Failure, match=r"model\.onnx"):
        signing.sign(signed, keys / "mine")


def test_of_files_bundles_alone_are_signed(keys):
    """A signature of the other key put its public key in the place of this one's."""
    with pytest.raises(Failure, match=r"mine: not a bundle"):
        signing.sign(keys / "mine", keys / "other")


def test_the_same_key_makes_the_same_signature(signed, keys):
    first = (signed / SIGNATURE_FILE).read_bytes()
    signing.sign(signed, keys / "other")
    assert (signed / SIGNATURE_FILE).read_bytes() != first
    signing.sign(signed, keys / "mine")
    assert (signed / SIGNATURE_FILE).read_bytes() == first


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl 3")
def test_openssl_and_sha256sum_agree(signed, keys):
    options = ["-rawin", "-pubin", "-inkey", str(keys / "mine.pub"), "-in", MANIFEST_FILE, "-sigfile", SIGNATURE_FILE]
    done = subprocess.run(["openssl", "pkeyutl", "-verify", *options], cwd=signed, capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout + done.stderr
    subprocess.run(["sha256sum", "--check", "--status", DIGEST_FILE], cwd=signed, check=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answers(monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    given = iter(typed)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream: next(given))


def test_a_key_with_a_passphrase_signs_for_whom_knows_it(tmp_path, monkeypatch, capfd):
    subject, key = tmp_path / "a.bundle", tmp_path / "key"
    subject.write_bytes(bundle.pack({}))
    answers(monkeypatch, "open sesame", "open sesame")
    assert main(["keygen", str(key), "--passphrase"]) == 0
    assert b"ENCRYPTED" in key.read_bytes()
    answers(monkeypatch, "open barley")
    assert main(["sign", str(subject), "--key", str(key)]) == 1
    assert "not that passphrase" in capfd.readouterr().err
    answers(monkeypatch, "open sesame")
    assert main(["sign", str(subject), "--key", str(key)]) == 0
    assert signing.verify(subject, tmp_path / "key.pub").is_trusted
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["sign", str(subject), "--key", str(key)]) == 1
    assert "has a passphrase, and nobody can be asked; sign at a terminal" in capfd.readouterr().err


@pytest.mark.parametrize(("typed", "said"), [(("", ""), "no passphrase"), (("a", "b"), "the two differ")])
def test_no_key_is_made_with_a_passphrase_that_was_mistyped(tmp_path, monkeypatch, capfd, typed, said):
    answers(monkeypatch, *typed)
    assert main(["keygen", str(tmp_path / "key"), "--passphrase"]) == 1
    assert said in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
