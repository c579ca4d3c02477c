"""Signed bundles and reports that are nearly right, one by one: what a board and a page make of each.

Both say "accepted" or "refused" (a Failure of one line), and raise whatever else happens.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mutations import MARKUP, ODD, flipped, mutated

from edge_runtime.errors import Failure
from edge_runtime.install import bundle, trust
from quant.report import remake, schema
from quant.report.page import whole

MEMBERS = {
    "__main__.py": b"print()",
    "artifact/manifest.json": b"{}",
    "artifact/a.bin": bytes(range(256)),
    "units/edge-denoise.service": b"[Service]\n",
    "wheels/b-1.0+x.whl": b"PK",
}
NAMES = [
    "../x",
    "/tmp/x",
    "a/../../x",
    "artifact//a",
    "artifact/a.bin",
    "a\0b",
    "x" * 300,
    "-rf",
    ".",
    "ä",
    "trusted",
    "",
]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNED = bundle.pack(MEMBERS, 7)
SIGNATURE = trust.Wish(key=KEY.public_key().public_bytes_raw().hex(), signature=KEY.sign(SIGNED).hex())
MORE_ODD = [*ODD, MARKUP, "{{ 7*7 }}", "a\x1b[2J", "\u202e", "\udc80", -5e-324, 10**30]


def a_bundle(draw: random.Random, folder: Path) -> str:
    """One bundle, into the empty `folder`. AssertionError: a byte is accepted that was not signed, a file lies outside
    or is not what the index says, something is left of what was refused."""
    data = draw.choice((_flipped, _repacked, _put_together))(draw)
    arrived, into = folder / "arrived.bundle", folder / "into"
    arrived.write_bytes(data)
    with bundle.snapshot(arrived, folder) as taken:
        try:
            trust.check_signature(folder, taken, SIGNATURE)
            assert data == SIGNED, "a signature of other bytes fits"
        except Failure as failure:
            assert data != SIGNED
            _check_line(failure)
    try:
        found = bundle.unpack(arrived, into)
    except Failure as failure:
        _check_line(failure)
        assert os.listdir(folder) == [arrived.name], "something is left"
        return "refused"
    files = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    del files[bundle.INDEX]
    assert bundle.pack(files, found.number) == data, "bytes of no file, or files of no bytes"
    assert sorted(os.listdir(folder)) == sorted([arrived.name, into.name]), "a file lies outside"
    shutil.rmtree(into)
    return "accepted"


def a_report(draw: random.Random, folder: Path, good: Any) -> str:
    """One report.json that is nearly `good`, into `folder`, and its page. AssertionError: markup got into the page."""
    value = good
    for _ in range(draw.choice((1, 1, 2, 5))):
        value = mutated(value, draw, MORE_ODD)
    path = folder / schema.FILE
    text = json.dumps(value)
    path.write_bytes(flipped(text.encode(), draw) if draw.random() < 0.2 else text.encode())
    try:
        read = schema.read(path)
        with schema.coherent(path):  # as `quant report` makes it
            html = whole.render(remake.complete(read, ()), ()).decode()
    except Failure as failure:
        _check_line(failure)
        return "refused"
    assert "<script>alert" not in html
    assert ">49<" not in html, "a template in a name was followed"
    return "accepted"


def _flipped(draw: random.Random) -> bytes:
    return flipped(SIGNED, draw)


def _put_together(draw: random.Random) -> bytes:
    other = bundle.pack({**MEMBERS, "artifact/a.bin": b"other"}, draw.choice((0, 7, 2**40)))
    cut = draw.randrange(len(SIGNED))
    return draw.choice((other, SIGNED + other, SIGNED[:cut] + other, SIGNED + b"\0" * cut, SIGNED[cut:], SIGNED))


def _repacked(draw: random.Random) -> bytes:
    """Its index changed, its files renamed, doubled or compressed."""
    with zipfile.ZipFile(io.BytesIO(SIGNED)) as archive:
        files = [(name, archive.read(name)) for name in archive.namelist()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in files:
            if name == bundle.INDEX and draw.random() < 0.7:
                data = json.dumps(mutated(json.loads(data), draw)).encode()
            entry = zipfile.ZipInfo(name if draw.random() < 0.8 else draw.choice(NAMES) or "x", (1980, 1, 1, 0, 0, 0))
            if draw.random() < 0.1:
                entry.external_attr = draw.choice((0o120777, 0o104755, 0o040755)) << 16  # link, set-user-id, folder
            archive.writestr(entry, data)
            if draw.random() < 0.05:
                archive.writestr(entry, data)
    return buffer.getvalue()


def _check_line(failure: Failure) -> None:
    assert str(failure).isprintable()
