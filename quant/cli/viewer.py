"""`quant view`: the graph of a model, in whichever viewer is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.errors import Failure
from edge_runtime.extras import pip_install

LOCALHOST: Final = "localhost"


class Viewer(NamedTuple):
    """`package` is what pip installs, `module` what it brings; `show` returns when the user has had enough."""

    package: str
    module: str
    show: Callable[[Path, int, bool], None]


def _netron(path: Path, port: int, browse: bool) -> None:
    netron = import_module("netron")
    netron.start(str(path), address=(LOCALHOST, port), browse=browse)
    netron.wait()


def _model_explorer(path: Path, port: int, browse: bool) -> None:
    import_module("model_explorer").visualize(str(path), host=LOCALHOST, port=port, no_open_in_browser=not browse)


VIEWERS: Final = {
    "netron": Viewer("netron", "netron", _netron),
    "model-explorer": Viewer("ai-edge-model-explorer", "model_explorer", _model_explorer),
}


def installed() -> list[str]:
    """Viewers whose package is here; nothing is imported."""
    return [name for name, viewer in VIEWERS.items() if importlib.util.find_spec(viewer.module) is not None]


def choose(name: str | None) -> Viewer:
    """The viewer asked for, or the first that is installed. Failure: it is not."""
    have = installed()
    if name is not None and name not in have:
        raise Failure(f"{name} is not installed", remedy=pip_install(VIEWERS[name].package))
    if not have:
        offers = " or ".join(pip_install(viewer.package) for viewer in VIEWERS.values())
        raise Failure("no viewer is installed", remedy=offers)
    return VIEWERS[name or have[0]]
