"""What to type for a package that is not installed. No registry knows this one, so its extras are told by the clone,
or else by the file or address that pip had it from; where that is gone, by the packages that the extra stands for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from edge_runtime.errors import Failure

NAME: Final = "edge-denoise"
PACKAGED: Final = "debian-package"  # a file beside this one, where Debian's package put it: the package and its version
_APT: Final = {  # what Debian has of it
    "onnx": "`sudo apt install python3-onnxruntime`",
    "panel": "`sudo apt install python3-bottle python3-segno`",
}
_OF_APT: Final = ("msgspec", "numpy", "onnxruntime", "soundfile", "soxr", "tqdm")  # modules, as python3-NAME
_BOOKWORM: Final = sys.version_info < (3, 12)  # as the package's own Depends tell the releases apart
_NOT_IN_BOOKWORM: Final = ("onnx", "onnxruntime")  # by extra and by module
_OWN_ENVIRONMENT: Final = "install the wheel of edge-denoise into a virtual environment of your own"
# module -> the extra that brings it, where that is not `build`; engines name their own
_EXTRAS: Final = {
    **dict.fromkeys(("cloudpickle", "joblib", "pesq", "pystoi", "speechmos"), "eval"),
    **dict.fromkeys(("bottle", "segno"), "panel"),
    **dict.fromkeys(("dask", "distributed"), "cluster"),
}


def debian_package() -> str | None:
    """The Debian package that this very copy came in, "edge-denoise 0.2.0"; None where pip or a clone has brought it.
    There pip can add nothing to it: what is missing is a package of apt's, or a virtual environment of one's own."""
    try:
        return Path(__file__).with_name(PACKAGED).read_text("utf-8").strip()
    except OSError:
        return None


def require(*modules: str) -> None:
    """Failure when one is not installed; nothing is imported."""
    for module in modules:
        if find_spec(module) is None:
            raise Failure(f"{module} is not installed", remedy=remedy(module))


def remedy(module: str) -> str:
    """What brings a module that this project imports."""
    return how_to_install(_EXTRAS.get(module.partition(".")[0], "build"))


def how_to_install(extra: str) -> str:
    """A command that brings an extra to this very interpreter."""
    if debian_package():
        return _OWN_ENVIRONMENT if _BOOKWORM and extra in _NOT_IN_BOOKWORM else _APT.get(extra, _OWN_ENVIRONMENT)
    return pip_install(*_with(f"[{extra}]") or _packages(extra))


def how_to_reinstall() -> str:
    """A command that brings this package again, and nothing else."""
    if package := debian_package():
        return f"`sudo apt install --reinstall ./{package.replace(' ', '_')}_*.deb`, where that file lies"
    return pip_install("--force-reinstall", "--no-deps", *_with("") or [NAME])


def how_to_compile() -> str:
    """What brings the native library where it is missing or broken: only pip compiles it, Debian's package has it."""
    if debian_package():
        return f"install this again: {how_to_reinstall()}"
    return f"install a C compiler (Debian: `sudo apt install gcc libc6-dev`) and this again: {how_to_reinstall()}"


def how_to_mend(*modules: str) -> str:
    """A command that brings modules of others again, where they are here but broken."""
    if not debian_package():
        return pip_install("--force-reinstall", *modules)
    if any(map(_came_along, modules)):
        return how_to_reinstall()
    if set(modules) <= set(_OF_APT) and not (_BOOKWORM and set(modules) & set(_NOT_IN_BOOKWORM)):
        return f"`sudo apt install --reinstall {' '.join(f'python3-{module}' for module in modules)}`"
    return _OWN_ENVIRONMENT


def _came_along(module: str) -> bool:
    """In this very package, beside our own modules, as what bookworm lacks does."""
    spec = find_spec(module)
    return spec is not None and Path(spec.origin or "/").is_relative_to(Path(__file__).parents[1])


def pip_install(*arguments: str) -> str:
    """A command of the pip of this very interpreter, quoted for a shell."""
    from shlex import join

    return f"`{_pip_install()} {join(arguments)}`"


def _pip_install() -> str:
    import sysconfig
    from shlex import quote

    python = quote(sys.executable)
    if sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        return f"{python} -m venv --system-site-packages .venv && .venv/bin/pip install"  # PEP 668
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python}"
    if os.path.dirname(shutil.which("pip") or "") == os.path.dirname(sys.executable):
        return "pip install"
    return f"{python} -m pip install"


def _with(extra: str) -> list[str]:
    """This package with "[an extra]", as pip takes it; nothing where it cannot be had again."""
    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return ["-e", f"{clone}{extra}"]
    origin = _origin()
    return [f"{NAME}{extra} @ {origin}"] if origin else []


def _origin() -> str | None:
    """Where pip had this package from, as it noted it (PEP 610), if it is still there."""
    from importlib.metadata import PackageNotFoundError, distribution  # a start of a program pays for neither
    from urllib.parse import unquote, urlsplit

    try:
        record = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return None
    url = str(record.get("url", ""))
    if url.startswith("file:") and not os.path.exists(unquote(urlsplit(url).path)):
        return None
    vcs = record.get("vcs_info")
    return f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url or None


def _packages(extra: str) -> list[str]:
    """What the extra stands for, from the metadata of the installed package."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        wanted = distribution(NAME).requires or []
    except PackageNotFoundError:  # neither a clone nor installed: the best there is to say
        return [f"{NAME}[{extra}]"]
    of_extra = re.compile(rf"""\s*(;|and) extra == ["']{extra}["']$""")
    return [of_extra.sub("", each) for each in wanted if of_extra.search(each)]
