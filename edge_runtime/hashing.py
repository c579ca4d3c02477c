"""SHA-256 from the interpreter itself: `hashlib` loads OpenSSL, which takes longer than the rest of a start."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    for _name in ("_sha2", "_sha256", "hashlib"):  # Python 3.12 on; 3.10 and 3.11; an interpreter without either
        try:
            sha256 = import_module(_name).sha256
            break
        except ImportError:
            continue

__all__ = ["sha256"]
