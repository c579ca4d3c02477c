"""Which releases a board takes: signed by the key it trusts, and not older than what was current there.

    ROOT/trusted    a public key in hex: once a release came with one, every release must be signed by it
    ROOT/revoked    keys that no release is taken from any more, in hex, a line each: written by hand where one was lost
    ROOT/history    ID and number of every release that became current, a line each, the newest last

Who writes into ROOT may change both. Standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.errors import Failure
from edge_runtime.install import ed25519
from edge_runtime.install.bundle import Snapshot
from edge_runtime.whole_file import written_whole

TRUSTED, REVOKED, HISTORY = "trusted", "revoked", "history"
_FINGERPRINT_HEX: Final = 32  # as quant/artifact/signing.py has it


class Wish(NamedTuple):
    """How a bundle is to be taken. `key`, `signature`: of who signed it, in hex; `allow_older`: also one that was
    replaced before."""

    extras: Sequence[str] = ()
    key: str = ""
    signature: str = ""
    allow_older: bool = False


PLAIN: Final = Wish()


def is_asked(root: Path, wish: Wish) -> bool:
    """Whether a signature must be there: by whoever deploys it, or by this board."""
    return bool(wish.key or _trusted(root))


def check_signature(root: Path, taken: Snapshot, wish: Wish) -> str:
    """The signer's fingerprint. Failure: nobody signed it, or not the one who must."""
    trusted = _trusted(root)
    if trusted and wish.key not in ("", trusted):
        remedy = f"remove {root / TRUSTED} there if you mean to trust another one"
        raise Failure("this board trusts another key", where=root, remedy=remedy)
    if not wish.signature:
        raise Failure("this board takes signed releases only", where=root, remedy="give --key and what it signed")
    if (trusted or wish.key) in _revoked(root):
        remedy = f"sign with another key, and remove {root / TRUSTED} there to trust it"
        raise Failure("the key that signed it is revoked here", where=root / REVOKED, remedy=remedy)
    try:
        key, signature = (bytes.fromhex(part) for part in (trusted or wish.key, wish.signature))
    except ValueError:
        raise Failure("holds no key", where=root / TRUSTED, remedy="remove it there") from None
    if not ed25519.fits(key, signature, taken.blocks()):
        raise Failure("its signature does not fit", where=taken.path.name, remedy="sign this very bundle")
    return hashlib.sha256(key).hexdigest()[:_FINGERPRINT_HEX]


def check_order(root: Path, current: str, bundle_id: str, number: int) -> None:
    """Failure: it is older than what was current here: by its number, or, without one, because it was replaced."""
    past = _history(root)
    newest = max((its for _, its in past), default=0)
    was_replaced = bundle_id in [known for known, _ in past[:-1]] and not current.startswith(bundle_id)
    if number < newest:
        what = f"its number is {number}, and {newest} was current here"
    elif number == 0 and was_replaced:
        what = "it was current here, and was replaced"
    else:
        return
    remedy = "give --allow-older if you mean to go back"
    raise Failure(f"an older release: {what}", where=bundle_id, remedy=remedy)


@contextmanager
def remembered(root: Path, bundle_id: str, number: int, key: str) -> Iterator[None]:
    """When the body is done it is the newest, even if it was let in as an older one; its key is the one to trust.

    What there is to write is written before: a disk that is full is met while the release before is still current.
    """
    past = [(known, min(its, number) if number else its) for known, its in _history(root) if known != bundle_id]
    texts = {HISTORY: "".join(f"{known} {its}\n" for known, its in [*past, (bundle_id, number)])}
    if key and not _trusted(root):
        texts[TRUSTED] = f"{key}\n"
    with ExitStack() as parts:
        for name, text in texts.items():
            parts.enter_context(written_whole(root / name, mode=0o644)).write_text(text)
        yield


def _history(root: Path) -> list[tuple[str, int]]:
    try:
        rows = [line.split() for line in (root / HISTORY).read_text().splitlines()]
        return [(bundle_id, int(number)) for bundle_id, number in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise Failure("is no list of releases", where=root / HISTORY, remedy="remove it there") from error


def _revoked(root: Path) -> list[str]:
    try:
        return (root / REVOKED).read_text().lower().split()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise Failure("is no list of keys", where=root / REVOKED, remedy="write one in hex a line") from error


def _trusted(root: Path) -> str:
    try:
        return (root / TRUSTED).read_text().strip()
    except FileNotFoundError:
        return ""
