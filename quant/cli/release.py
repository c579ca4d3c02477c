"""`quant verify | keygen | sign | bundle | unpack`: parses, calls once, answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command, whole
from edge_runtime.errors import Failure
from quant.cli.options import directory
from quant.cli.output import table

if TYPE_CHECKING:
    from edge_runtime.engines.golden import GoldenRow


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    directory(parser)
    signer = "public key that must have signed it; then nothing may lie there that the manifest does not name"
    parser.add_argument("--key", type=Path, metavar="PUB", help=signer)


def _verify(args: argparse.Namespace) -> Answer:
    from edge_runtime.engines import golden
    from edge_runtime.manifest import open_artifact
    from quant.artifact import signing

    artifact = open_artifact(args.directory)
    artifact.check_all()
    if args.key is not None:
        artifact.check_whole()
    signed = signing.verify(args.directory, args.key) if args.key or signing.is_signed(args.directory) else None
    rows = golden.check_golden(artifact)
    seal = {"signature": signed and signed._asdict(), "unnamed_files": artifact.unnamed_files()}
    value = {"directory": str(args.directory), "golden": [golden.to_dict(row) for row in rows], **seal}
    first = f"{len(artifact.manifest.files)} files are as built{signing.describe(signed)}"
    return Answer(value, _verify_lines(first, rows), then=lambda: golden.judge(artifact, rows))


def _verify_lines(first: str, rows: Sequence[GoldenRow]) -> Iterator[str]:
    from edge_runtime.engines import golden

    yield first
    yield from table(("engine", "precision", "SNR dB", "floor dB", ""), [golden.cells(row) for row in rows])


def _keygen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", type=Path, metavar="KEY", help="the private key goes here, the public one to KEY.pub")
    parser.add_argument("--passphrase", action="store_true", help="encrypt the private key; it is asked for")


def _keygen(args: argparse.Namespace) -> Answer:
    from quant.artifact import signing

    passphrase = _new_passphrase() if args.passphrase else ""
    fingerprint, public = signing.keygen(args.key, passphrase), signing.public_of(args.key)
    lines = [f"{args.key}: private, keep it to yourself", f"{public}: give it to those who verify; {fingerprint}"]
    return Answer({"key": str(args.key), "public": str(public), "fingerprint": fingerprint}, lines)


def _new_passphrase() -> str:
    """Asked twice. Failure: nobody can be asked, it is empty, or the two differ."""
    from getpass import getpass

    if not sys.stdin.isatty():
        raise Failure("nobody can be asked for a passphrase", remedy="make the key at a terminal")
    first, again = (getpass(prompt, sys.stderr) for prompt in ("passphrase: ", "once more: "))
    if not first or first != again:
        raise Failure("no passphrase" if not first else "the two differ", remedy="try again")
    return first


def _sign_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", type=Path, metavar="DIR|FILE", help="an artifact folder, or a bundle")
    parser.add_argument("--key", type=Path, required=True, metavar="KEY", help="private key made by `quant keygen`")


def _sign(args: argparse.Namespace) -> Answer:
    from quant.artifact import signing

    fingerprint = signing.sign(args.subject, args.key)
    value = {"signed": str(args.subject), "fingerprint": fingerprint}
    return Answer(value, [f"{args.subject}: signed by {fingerprint}"])


def _bundle_arguments(parser: argparse.ArgumentParser) -> None:
    directory(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the bundle, as rpi4.bundle")
    parser.add_argument("--wheel", type=Path, action="append", default=[], metavar="W", help="a wheel to carry along")
    parser.add_argument("--unit", type=Path, action="append", default=[], metavar="U", help="a systemd unit")
    numbered = "of the release: a board does not go back to a lower one unless told; default: none"
    parser.add_argument("--number", type=whole(1, 2**31), default=0, metavar="N", help=numbered)
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def _bundle(args: argparse.Namespace) -> Answer:
    from quant.artifact import bundle

    contents = bundle.members(args.directory, args.wheel, args.unit)
    sha256 = bundle.write(contents, args.out, number=args.number, force=args.force)
    size = {"bytes": args.out.stat().st_size, "sha256": sha256, "n_files": len(contents)}
    return Answer({"out": str(args.out), **size}, [f"{sha256}  {args.out}"])


def _unpack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="FILE", help="made by `quant bundle`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a folder that is not there")
    parser.add_argument("--key", type=Path, metavar="PUB", help="public key that must have signed the bundle")


def _unpack(args: argparse.Namespace) -> Answer:
    from edge_runtime.install import bundle
    from edge_runtime.manifest import open_artifact
    from quant.artifact import signing

    with bundle.snapshot(args.bundle) as taken:
        signed = signing.verify(args.bundle, args.key, b"".join(taken.blocks())) if args.key is not None else None
        unpacked = bundle.unpack(taken, args.out, lambda folder: open_artifact(folder / "artifact").check_whole())
    artifact = args.out / "artifact"
    files = {"out": str(args.out), "artifact": str(artifact), "files": dict(unpacked.files)}
    packed = f"{len(unpacked.files)} files, as packed{signing.describe(signed)}"
    line = f"{args.out}: {packed}; the artifact is {artifact}"
    return Answer({**files, "signature": signed and signed._asdict()}, [line])


VERIFY: Final = Command(
    "verify",
    "check an artifact's files and run its golden vectors through every engine",
    _verify_arguments,
    _verify,
    examples=(
        "quant verify build/rpi4",
        "quant verify build/rpi4 --key mine.key.pub",
    ),
    page="guide/trust.md",
    takes_long=True,
)
KEYGEN: Final = Command(
    "keygen",
    "make a pair of ed25519 keys to sign artifacts with",
    _keygen_arguments,
    _keygen,
    examples=(
        "quant keygen mine.key",
        "quant keygen mine.key --passphrase",
    ),
    page="guide/trust.md",
)
SIGN: Final = Command(
    "sign",
    "sign an artifact folder or a bundle",
    _sign_arguments,
    _sign,
    examples=(
        "quant sign build/rpi4 --key mine.key",
        "quant sign rpi4.bundle --key mine.key",
    ),
    page="guide/trust.md",
)
BUNDLE: Final = Command(
    "bundle",
    "pack an artifact, wheels and units into one file, always the same bytes",
    _bundle_arguments,
    _bundle,
    examples=(
        "quant bundle build/rpi4 -o rpi4.bundle",
        "quant bundle build/rpi4 --wheel dist/edge_denoise.whl -o rpi4.bundle",
    ),
    page="guide/trust.md",
)
UNPACK: Final = Command(
    "unpack",
    "check every byte of a bundle and unpack it",
    _unpack_arguments,
    _unpack,
    examples=(
        "quant unpack rpi4.bundle -o rpi4",
        "quant unpack rpi4.bundle -o rpi4 --key mine.key.pub",
    ),
    page="guide/trust.md",
)
