"""`quant verify | keygen | sign | bundle | unpack`: parses, calls once, prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from edge_runtime import command
from edge_runtime.command import Command
from quant.cli.output import print_json, print_table


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")
    signer = "public key that must have signed it; then nothing may lie there that the manifest does not name"
    parser.add_argument("--key", type=Path, metavar="PUB", help=signer)


def _verify(args: argparse.Namespace) -> int:
    from edge_runtime.engines import golden
    from edge_runtime.manifest import open_artifact
    from quant.artifact import signing

    artifact = open_artifact(args.directory)
    artifact.check_all()
    if args.key is not None:
        artifact.check_whole()
    signed = signing.verify(args.directory, args.key) if args.key or signing.is_signed(args.directory) else None
    rows = golden.check_golden(artifact)
    if args.json:
        table = [golden.to_dict(row) for row in rows]
        seal = {"signature": signed and signed._asdict(), "unnamed_files": artifact.unnamed_files()}
        print_json({"directory": str(args.directory), "golden": table, **seal})
    else:
        print(f"{len(artifact.manifest.files)} files are as built{signing.describe(signed)}")
        print_table(("engine", "precision", "SNR dB", "floor dB", ""), [golden.cells(row) for row in rows])
    golden.judge(artifact, rows)
    return command.DONE


def _add_keygen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", type=Path, metavar="KEY", help="the private key goes here, the public one to KEY.pub")


def _keygen(args: argparse.Namespace) -> int:
    from quant.artifact import signing

    fingerprint, public = signing.keygen(args.key), signing.public_of(args.key)
    if args.json:
        return print_json({"key": str(args.key), "public": str(public), "fingerprint": fingerprint})
    print(f"{args.key}: private, keep it to yourself\n{public}: give it to those who verify; {fingerprint}")
    return command.DONE


def _add_sign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", type=Path, metavar="DIR|FILE", help="an artifact folder, or a bundle")
    parser.add_argument("--key", type=Path, required=True, metavar="KEY", help="private key made by `quant keygen`")


def _sign(args: argparse.Namespace) -> int:
    from quant.artifact import signing

    fingerprint = signing.sign(args.subject, args.key)
    if args.json:
        return print_json({"signed": str(args.subject), "fingerprint": fingerprint})
    print(f"{args.subject}: signed by {fingerprint}")
    return command.DONE


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the bundle, as rpi4.bundle")
    parser.add_argument("--wheel", type=Path, action="append", default=[], metavar="W", help="a wheel to carry along")
    parser.add_argument("--unit", type=Path, action="append", default=[], metavar="U", help="a systemd unit")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def _bundle(args: argparse.Namespace) -> int:
    from quant.artifact import bundle

    contents = bundle.members(args.directory, args.wheel, args.unit)
    sha256 = bundle.write(contents, args.out, force=args.force)
    n_bytes = args.out.stat().st_size
    if args.json:
        return print_json({"out": str(args.out), "bytes": n_bytes, "sha256": sha256, "n_files": len(contents)})
    print(f"{sha256}  {args.out}")
    return command.DONE


def _add_unpack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="FILE", help="made by `quant bundle`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a folder that is not there")
    parser.add_argument("--key", type=Path, metavar="PUB", help="public key that must have signed the bundle")


def _unpack(args: argparse.Namespace) -> int:
    from edge_runtime.install import bundle
    from edge_runtime.manifest import open_artifact
    from quant.artifact import signing

    signed = signing.verify(args.bundle, args.key) if args.key is not None else None
    unpacked = bundle.unpack(args.bundle, args.out, lambda folder: open_artifact(folder / "artifact").check_whole())
    artifact = args.out / "artifact"
    if args.json:
        files = {"out": str(args.out), "artifact": str(artifact), "files": dict(unpacked.files)}
        return print_json({**files, "signature": signed and signed._asdict()})
    print(f"{args.out}: {len(unpacked.files)} files, as packed{signing.describe(signed)}; the artifact is {artifact}")
    return command.DONE


VERIFY: Final = Command(
    "verify", "check an artifact's files and run its golden vectors through every engine", _verify_arguments, _verify
)
KEYGEN: Final = Command("keygen", "make a pair of ed25519 keys to sign artifacts with", _add_keygen, _keygen)
SIGN: Final = Command("sign", "sign an artifact folder or a bundle", _add_sign, _sign)
BUNDLE: Final = Command(
    "bundle", "pack an artifact, wheels and units into one file, always the same bytes", _add_bundle, _bundle
)
UNPACK: Final = Command("unpack", "check every byte of a bundle and unpack it", _add_unpack, _unpack)
