"""An artifact with native weights alone, made of the session's quantized model: no build."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
from toy_artifact import toy, write_manifest

from edge_runtime.manifest import FileEntry, ModelEntry


def write_native(folder: Path, weights: bytes) -> Path:
    """Write it into `folder`. Its golden vectors are the toy's: it is not for `quant verify`."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = toy().manifest
    (folder / "model.native").write_bytes(weights)
    shutil.copy(toy().path(manifest.golden), folder)
    entry = ModelEntry(file="model.native", states=(), golden_snr_floor_db=0.0, golden_exact=True)
    file = FileEntry(sha256=hashlib.sha256(weights).hexdigest(), bytes=len(weights))
    index = msgspec.structs.replace(
        manifest,
        preferred_engine="native",
        models={"native": {"int8": entry}},
        files={manifest.golden: manifest.files[manifest.golden], "model.native": file},
    )
    return write_manifest(folder, index)
