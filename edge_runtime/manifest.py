"""The artifact folder and its index: what a build leaves, and what a loader refuses.

    build/rpi4/manifest.json    format, version, signal geometry, models, their states, SHA-256 of every file
    build/rpi4/manifest.sha256  SHA-256 of the index itself, as `sha256sum` writes and checks it
    build/rpi4/model.onnx ...   the files that it names

`open_artifact` checks the index and every size; `Artifact.read` checks the SHA-256 of what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from edge_runtime import builtin
from edge_runtime.errors import Failure
from edge_runtime.hashing import sha256

MANIFEST_FILE: Final = "manifest.json"
DIGEST_FILE: Final = "manifest.sha256"
FORMAT: Final = "edge-denoise"
VERSION: Final = 1

# What vouches for the manifest: its digest, and after `quant sign` its signature and the signer's public key.
SIGNATURE_FILE: Final = "manifest.json.sig"
SIGNER_FILE: Final = "manifest.json.pub"
SEALS: Final = (DIGEST_FILE, SIGNATURE_FILE, SIGNER_FILE)

# Far beyond what is built: the largest file has 1 MB, the index 0.1. A folder comes from anywhere.
MOST_FILE_BYTES: Final = 64 * 2**20
MOST_INDEX_BYTES: Final = 8 * 2**20

FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
StateType = Literal["float32", "int8", "uint8", "int16"]
ModelPrecision = Literal["int8", "fp32"]  # of a whole model; within it a recipe decides node by node


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of one file of the artifact."""

    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class StateEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One state as the model file stores it: real = scale * (stored - zero_point); float has no scale."""

    name: str
    shape: tuple[Annotated[int, msgspec.Meta(gt=0)], ...]
    dtype: StateType
    scale: float | None = None
    zero_point: int = 0

    def __post_init__(self) -> None:
        if (self.scale is None) != (self.dtype == "float32"):
            raise ValueError(f"state {self.name} is {self.dtype} with scale {self.scale}")


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model file, the states it carries between frames, and the SNR its golden vectors must reach.

    `golden_exact`: they must be reached bit for bit. An engine that keeps its states to itself lists none.
    """

    file: FileName
    states: tuple[StateEntry, ...]
    golden_snr_floor_db: float
    golden_exact: bool = False


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The weights the artifact was built from."""

    name: str
    sha256: Sha256


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The index of an artifact. `models` is engine -> precision -> entry; `files` names every other file."""

    format: Literal["edge-denoise"] = FORMAT
    version: int = VERSION
    network: str
    sample_rate_hz: Literal[16000]
    hop_samples: Literal[256]
    window_samples: Literal[512]
    window: Literal["sqrt_hann", "hann"] = "sqrt_hann"  # `stft.WindowName`, without NumPy
    board: str
    preferred_engine: str
    n_threads: Annotated[int, msgspec.Meta(ge=1)]
    recipe: str
    models: Annotated[dict[str, dict[ModelPrecision, ModelEntry]], msgspec.Meta(min_length=1)]
    golden: FileName
    files: dict[FileName, FileEntry]
    checkpoint: Checkpoint
    built_with: dict[str, str]

    def __post_init__(self) -> None:
        for name in (*self.model_files(), self.golden):
            if name not in self.files:
                raise ValueError(f"{name} has no entry in files")

    def model_files(self) -> list[str]:
        """Every model file named, engine by engine."""
        return [entry.file for by_precision in self.models.values() for entry in by_precision.values()]


@dataclass(frozen=True)
class Artifact:
    """A folder whose manifest was read and whose files have the sizes it states."""

    directory: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """What people call it: "gtcrn, built in", or its folder."""
        built_in = builtin.name_of(self.directory)
        return f"{built_in}, built in" if built_in else str(self.directory)

    def path(self, name: str) -> Path:
        """Where the file `name` lies."""
        return self.directory / name

    def model(self, engine: str, precision: str) -> ModelEntry:
        """The entry for one engine and precision. Failure: the artifact holds no such model."""
        for known, entry in self.manifest.models.get(engine, {}).items():
            if known == precision:
                return entry
        models = self.manifest.models
        have = ", ".join(f"{held} {p}" for held in sorted(models) for p in sorted(models[held]))
        raise Failure(f"no {engine} {precision} model", where=self.directory, remedy=f"it holds: {have}")

    def read(self, name: str) -> bytes:
        """The bytes of `name`, checked: what is loaded is what was hashed. Failure: not what was built."""
        path, entry = self.path(name), self.manifest.files[name]
        _check_size(path, entry)
        with path.open("rb") as file:
            data = file.read(entry.bytes + 1)  # it may grow since
        if sha256(data).hexdigest() != entry.sha256:
            raise Failure("changed since the build (SHA-256 differs)", where=path, remedy=_remedy(path.parent))
        return data

    def check(self, name: str) -> None:
        """Failure unless size and SHA-256 of `name` are as built."""
        self.read(name)

    def check_all(self) -> None:
        """`check` every file of the manifest."""
        for name in sorted(self.manifest.files):
            self.check(name)

    def check_whole(self) -> None:
        """`check_all`, and Failure unless the manifest has its digest and the folder holds nothing else."""
        if not self.path(DIGEST_FILE).is_file():
            raise Failure("missing from the artifact", where=self.path(DIGEST_FILE), remedy=_remedy(self.directory))
        if unnamed := self.unnamed_files():
            remedy = f"take them out: {', '.join(unnamed)}"
            raise Failure(f"{len(unnamed)} files that the manifest does not name", where=self.directory, remedy=remedy)
        self.check_all()

    def unnamed_files(self) -> list[str]:
        """What lies in the folder but neither the manifest names nor seals it: no loader reads it."""
        known = {*self.manifest.files, MANIFEST_FILE, *SEALS}
        return sorted(path.name for path in self.directory.iterdir() if path.name not in known)


def open_artifact(directory: str | Path | None = None) -> Artifact:
    """Read the manifest in `directory` and check the size of every file it names. None is the model that comes with the
    runtime; others that do go by their names.

    Failure: not an artifact folder, another format or version, a manifest that is not what its digest says, a file
    missing or of another size.
    """
    folder = builtin.folder_of(directory)
    path = folder / MANIFEST_FILE
    text = _read_manifest(folder, path)
    manifest = _decode(text, path)
    _check_digest(text, folder)
    for name, entry in manifest.files.items():
        _check_size(folder / name, entry)
    return Artifact(folder, manifest)


def dump(manifest: Manifest) -> bytes:
    """The manifest as JSON: sorted keys, indent 2, newline at the end; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def digest_line(manifest: bytes) -> bytes:
    """What DIGEST_FILE holds for these bytes of a manifest; `sha256sum --check` reads it."""
    return f"{sha256(manifest).hexdigest()}  {MANIFEST_FILE}\n".encode()


def _remedy(folder: Path) -> str:
    """What brings the files of an artifact again."""
    if builtin.name_of(folder) is None:
        return "build it again with `quant build`"
    from edge_runtime.extras import how_to_reinstall

    return f"install this again: {how_to_reinstall()}"


class _Header(msgspec.Struct):
    """What is read first: no version may change these two."""

    format: str
    version: int


def _read_manifest(folder: Path, path: Path) -> bytes:
    if not folder.exists():
        raise Failure("no such folder", where=folder, remedy="name a folder made by `quant build`")
    if not folder.is_dir():
        raise Failure("not a folder", where=folder, remedy="name a folder made by `quant build`")
    if not path.is_file():
        raise Failure(f"no {MANIFEST_FILE} in it", where=folder, remedy="name a folder made by `quant build`")
    try:
        with path.open("rb") as file:
            text = file.read(MOST_INDEX_BYTES + 1)
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror})", where=path, remedy=_remedy(path.parent)) from error
    if len(text) > MOST_INDEX_BYTES:
        raise Failure(
            f"is larger than {MOST_INDEX_BYTES} bytes, which no manifest is", where=path, remedy=_remedy(path.parent)
        )
    return text


def _decode(text: bytes, path: Path) -> Manifest:
    try:
        _check_header(msgspec.json.decode(text, type=_Header), path)
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(f"not a valid manifest ({error})", where=path, remedy=_remedy(path.parent)) from error


def _check_header(header: _Header, path: Path) -> None:
    if header.format != FORMAT:
        raise Failure(f"not an {FORMAT} manifest but {header.format!r}", where=path, remedy=_remedy(path.parent))
    if header.version != VERSION:
        remedy = "update edge-denoise" if header.version > VERSION else _remedy(path.parent)
        versions = f"this artifact has version {header.version}, this runtime reads {VERSION}"
        raise Failure(versions, where=path, remedy=remedy)


def _check_digest(manifest: bytes, folder: Path) -> None:
    """An artifact of an earlier build has no digest, and `check_whole` says so."""
    path = folder / DIGEST_FILE
    try:
        with path.open("rb") as file:
            stated = file.read(MOST_INDEX_BYTES)
    except FileNotFoundError:
        return
    if stated != digest_line(manifest):
        raise Failure(
            f"{MANIFEST_FILE} or this changed since the build (SHA-256 differs)",
            where=path,
            remedy=_remedy(path.parent),
        )


def _check_size(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise Failure("missing from the artifact", where=path, remedy=_remedy(path.parent))
    if entry.bytes > MOST_FILE_BYTES:
        what = f"has {entry.bytes} bytes by the manifest; no file of an artifact has over {MOST_FILE_BYTES}"
        raise Failure(what, where=path, remedy=_remedy(path.parent))
    n_bytes = path.stat().st_size
    if n_bytes != entry.bytes:
        raise Failure(f"has {n_bytes} bytes, the manifest says {entry.bytes}", where=path, remedy=_remedy(path.parent))
