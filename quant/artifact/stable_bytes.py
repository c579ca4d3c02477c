"""Files as bytes that depend on nothing but what is in them: the same inputs give the same artifact."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import FileEntry
from edge_runtime.stft import Float32Array

ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # a date in an archive would change its hash


def json_bytes(value: Any) -> bytes:
    """JSON, of structs too, that does not depend on the order of keys."""
    return (json.dumps(msgspec.to_builtins(value), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def npz_bytes(arrays: Mapping[str, Float32Array]) -> bytes:
    """A compressed .npz without dates in it."""
    return zip_bytes({f"{name}.npy": npy_bytes(values) for name, values in arrays.items()})


def npy_bytes(values: NDArray[Any]) -> bytes:
    """An array as a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """A compressed archive of `members` in the order of their names, without dates in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), members[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def file_entry(data: bytes) -> FileEntry:
    """Size and SHA-256."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
