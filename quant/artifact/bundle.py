"""What goes into a bundle: an artifact as built, the runtime's wheels, a unit, and the few modules that unpack it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import edge_runtime
from edge_runtime.errors import Failure
from edge_runtime.hashing import sha256
from edge_runtime.install import bundle
from edge_runtime.manifest import MANIFEST_FILE, SEALS, open_artifact
from edge_runtime.whole_file import written_whole

SUFFIX: Final = ".bundle"
# Standard library only: a test holds it.
MODULES: Final = (
    "__init__.py",
    "errors.py",
    "folders.py",
    "whole_file.py",
    "whole_folder.py",
    "install/__init__.py",
    "install/bundle.py",
    "install/ed25519.py",
    "install/environment.py",
    "install/receive.py",
    "install/trust.py",
    "install/units.py",
)
MAIN: Final = b"""\
from edge_runtime.install.receive import main

raise SystemExit(main())
"""


def members(artifact: Path, wheels: Sequence[Path] = (), units: Sequence[Path] = ()) -> dict[str, bytes]:
    """The files of a bundle by name; the artifact's are checked first.

    Failure: the artifact is not as built or holds other files, or a wheel or unit is none or cannot be read.
    """
    opened = open_artifact(artifact)
    opened.check_whole()
    names = [MANIFEST_FILE, *opened.manifest.files, *(name for name in SEALS if opened.path(name).is_file())]
    runtime = Path(edge_runtime.__file__).parent
    return (
        {"__main__.py": MAIN}
        | {f"edge_runtime/{name}": (runtime / name).read_bytes() for name in MODULES}
        | {f"artifact/{name}": opened.path(name).read_bytes() for name in names}
        | {f"wheels/{path.name}": _read(path, "a wheel", ".whl") for path in wheels}
        | {f"units/{path.name}": _read(path, "a unit", ".service") for path in units}
    )


def write(contents: dict[str, bytes], out: Path, *, number: int = 0, force: bool = False) -> str:
    """Write a bundle, whole or not at all; its SHA-256. `number`: of the release, 0 is none.

    Failure: `out` is there, or cannot be written.
    """
    if out.is_dir():
        raise Failure("is a folder", where=out, remedy="name a file in it with -o")
    if out.exists() and not force:
        raise Failure("is there already", where=out, remedy="give --force to replace it, or another -o")
    data = bundle.pack(contents, number)
    with written_whole(out, replaces=force) as part:
        part.write_bytes(data)
    return sha256(data).hexdigest()


def _read(path: Path, what: str, suffix: str) -> bytes:
    """Boards pass by what has another suffix."""
    if path.suffix != suffix:
        raise Failure(f"is not called as {what} is, {suffix}", where=path, remedy=f"name {what}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror})", where=path, remedy="name a file that is there") from None
