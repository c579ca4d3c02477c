"""Who vouches for an artifact or a bundle: ed25519 signatures, over the manifest of a folder or over a whole file.

    manifest.json.sig    64 bytes, the signature of manifest.json, which holds the SHA-256 of every other file
    manifest.json.pub    the signer's public key, PEM; it says who, it proves nothing
    rpi4.bundle.sig ...  the same of a file

OpenSSL 3 checks them too: `openssl pkeyutl -verify -rawin -pubin -inkey K.pub -in manifest.json -sigfile
manifest.json.sig`. The board needs none of this to load an artifact.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_runtime.errors import Failure
from edge_runtime.install import bundle
from edge_runtime.manifest import MANIFEST_FILE, open_artifact
from edge_runtime.whole_file import written_whole
from edge_runtime.whole_folder import whole_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_MODE: Final = 0o600
FINGERPRINT_HEX: Final = 32  # 128 of 256 bits: nobody finds another key with the same
_READ_BY_OTHERS: Final = 0o077
_REMEDY_KEY: Final = "name one made by `quant keygen`"


class Verified(NamedTuple):
    """Whose signature fits. `is_trusted`: the caller named this key; else the signature only fits its own claim."""

    fingerprint: str
    is_trusted: bool


def keygen(path: Path, passphrase: str = "") -> str:
    """Write a private key to `path`, readable by its owner only, and its public key beside it; the fingerprint.

    `passphrase`: encrypts it; "" is none.
    Failure: one of both is there, for a key that was replaced cannot be had again.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for taken in (path, public_of(path)):
        if os.path.lexists(taken):
            raise Failure("is there already", where=taken, remedy="name another file, or remove it yourself")
    key = Ed25519PrivateKey.generate()
    sealed = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    with written_whole(public_of(path), replaces=False) as public:
        public.write_bytes(_pem(key.public_key()))
        with written_whole(path, mode=PRIVATE_MODE, replaces=False) as part:
            part.write_bytes(private)
    return fingerprint(key.public_key())


def sign(subject: Path, key_path: Path) -> str:
    """Sign a folder's manifest or a bundle, after everything in it was checked; the signer's fingerprint.

    Failure: the folder is not as built, the file is no bundle, or the key cannot be used.
    """
    key = _private_key(key_path)
    path = _signed_file(subject)
    if subject.is_dir():
        open_artifact(subject).check_whole()
        data = _read(path)
    else:  # of other files `.sig` and `.pub` may be somebody else's
        with bundle.snapshot(subject) as taken:
            bundle.check(taken)
            data = b"".join(taken.blocks())
    seals = {_signature_of(path): key.sign(data), _signer_of(path): _pem(key.public_key())}
    if subject.is_dir():
        with whole_folder(subject, lambda folder: [seal.name for seal in seals]) as part:
            for seal, data in seals.items():
                (part / seal.name).write_bytes(data)
    else:
        for seal, data in seals.items():
            with written_whole(seal) as part:
                part.write_bytes(data)
    return fingerprint(key.public_key())


def is_signed(subject: Path) -> bool:
    """Whether a signature lies beside the folder's manifest or the file."""
    path = _signed_file(subject)
    return _signature_of(path).exists() or _signer_of(path).exists()


def verify(subject: Path, key_path: Path | None, data: bytes | None = None) -> Verified:
    """Check the signature of a folder's manifest or of a file against the public key of `key_path`.

    `data`: what was read of it already, and will be used. Without a key, against the key that lies beside the
    signature: that finds damage, not forgery.
    Failure: not signed, signed by another key, or the signature does not fit. The caller checks the folder's files.
    """
    path = _signed_file(subject)
    signature = _part(_signature_of(path), subject)
    signer_pem = _part(_signer_of(path), subject)
    signer = _public_key(signer_pem, _signer_of(path))
    trusted = _public_key(_read(key_path), key_path) if key_path is not None else signer
    if _pem(trusted) != signer_pem:
        found, wanted = fingerprint(signer), fingerprint(trusted)
        what = f"signed by another key: {found}, not {wanted}" if found != wanted else "not the signer's key as written"
        raise Failure(what, where=_signer_of(path), remedy="use it only if you trust that key, and name it with --key")
    if not _fits(trusted, signature, _read(path) if data is None else data):
        remedy = "get it again from where it was signed, or sign it again if you changed it"
        raise Failure(f"does not fit: it or {path.name} changed since", where=_signature_of(path), remedy=remedy)
    return Verified(fingerprint(trusted), key_path is not None)


class Seal(NamedTuple):
    """What a board needs to check a file: the signer's public key and the signature, raw."""

    key: bytes
    signature: bytes


def seal(data: bytes, key_path: Path) -> Seal:
    """Sign bytes. Failure: the key cannot be used."""
    key = _private_key(key_path)
    return Seal(key.public_key().public_bytes_raw(), key.sign(data))


def raw_key(key_path: Path) -> bytes:
    """The 32 bytes of a public key. Failure: it is none."""
    return _public_key(_read(key_path), key_path).public_bytes_raw()


def seal_of(subject: Path, data: bytes, key_path: Path) -> Seal:
    """The signature beside a file whose bytes are `data`, after it was checked. Failure: as `verify`."""
    verify(subject, key_path, data)
    return Seal(raw_key(key_path), _part(_signature_of(subject), subject))


def describe(verified: Verified | None) -> str:
    """What follows "as built" in a sentence."""
    if verified is None:
        return ""
    return f", signed by {verified.fingerprint}" + ("" if verified.is_trusted else " (whose that is, only --key tells)")


def fingerprint(key: Ed25519PublicKey) -> str:
    """The first half of the SHA-256 of the 32 bytes of a public key, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:FINGERPRINT_HEX]


def public_of(path: Path) -> Path:
    """Where `keygen` writes the public key of the private key `path`."""
    return path.with_name(f"{path.name}.pub")


def _fits(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _signed_file(subject: Path) -> Path:
    return subject / MANIFEST_FILE if subject.is_dir() else subject


def _signature_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sig")


def _signer_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _part(path: Path, subject: Path) -> bytes:
    if not path.is_file():
        raise Failure(f"not signed: no {path.name}", where=subject, remedy="sign it with `quant sign`")
    return path.read_bytes()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(
            f"cannot be read ({error.strerror})", where=path, remedy="name a file that you may read"
        ) from None


def _private_key(path: Path) -> Ed25519PrivateKey:
    """Nothing of the key's text gets into a message."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    if b"PRIVATE KEY" not in data:
        raise Failure("not a private key", where=path, remedy=_REMEDY_KEY)
    if path.stat().st_mode & _READ_BY_OTHERS:
        raise Failure("others may read this private key", where=path, remedy=f"`chmod 600 {shlex.quote(str(path))}`")
    try:
        key = load_pem_private_key(data, password=_passphrase(path) if _is_encrypted(data) else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = "not that passphrase" if _is_encrypted(data) else "not a private key"
        raise Failure(what, where=path, remedy=_REMEDY_KEY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Failure("not an ed25519 key", where=path, remedy=_REMEDY_KEY)
    return key


def _is_encrypted(pem: bytes) -> bool:
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem


def _passphrase(path: Path) -> bytes:
    """Asked of the terminal. Failure: there is none."""
    from getpass import getpass

    if not sys.stdin.isatty():
        raise Failure("has a passphrase, and nobody can be asked", where=path, remedy="sign at a terminal")
    return getpass(f"passphrase of {path}: ", sys.stderr).encode()


def _public_key(pem: bytes, path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise Failure("not a public key", where=path, remedy="name a .pub file made by `quant keygen`") from None
    if not isinstance(key, Ed25519PublicKey):
        raise Failure("not an ed25519 key", where=path, remedy="name a .pub file made by `quant keygen`")
    return key


def _pem(key: Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
