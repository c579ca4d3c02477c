"""The virtual microphone, where it is installed: whether its plugin can be loaded, and PipeWire has made its node."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge_runtime.doctor.checks import Row, fail, ok, warn
from edge_runtime.doctor.devices import pipewire_objects
from edge_runtime.doctor.host import Host
from edge_runtime.engines.apart import apart
from edge_runtime.errors import Failure
from edge_runtime.folders import pipewire_file

NODE: Final = "edge_denoise"
_SYSTEM_FOLDER: Final = Path("/usr/lib/ladspa")
_PLUGIN: Final = re.compile(r'plugin\s*=\s*("(?:[^"\\\\]|\\\\.)*")')
_JOURNAL: Final = ["journalctl", "--user", "--unit=pipewire", "--boot", "--output=cat", "--no-pager", "--lines=1000"]
_SAID: Final = ("edge_denoise", "edge-denoise", "ladspa", "filter-chain")  # what a line about it has
_CHECK: Final = "virtual microphone"
_RESTART: Final = "`systemctl --user restart pipewire`"
_AGAIN: Final = f"`edge-denoise install --virtual-mic`, then {_RESTART}"


def virtual_mic(host: Host) -> Iterator[Row]:
    """Nothing where it is not installed."""
    try:
        text = pipewire_file(host.home).read_text(errors="replace")
    except OSError:
        return
    named = _PLUGIN.search(text)
    plugin = host.home / "no plugin" if named is None else Path(json.loads(named[1]))
    if not plugin.is_absolute():  # the name of one in the system's folder
        plugin = _SYSTEM_FOLDER / f"{plugin}.so"
    if not plugin.is_file():
        yield fail(_CHECK, f"installed, but its plugin {plugin} is gone", _AGAIN)
        return
    try:
        apart(f"{__name__}:{load.__name__}", str(plugin))
    except Failure as failure:
        yield fail(_CHECK, f"installed, but its plugin cannot be loaded: {failure.what}", _AGAIN)
        return
    yield _node(host)


def load(plugin: str) -> bytes:
    """Load the plugin as a host does. For a process of its own."""
    import ctypes

    ctypes.CDLL(plugin).ladspa_descriptor  # noqa: B018  an AttributeError says that it is none
    return b""


def _node(host: Host) -> Row:
    dump = host.program(["pw-dump"])
    if dump is None:
        return warn(_CHECK, "installed; PipeWire does not answer", f"{_RESTART}, or log in to a desktop")
    if any(_name(one) == NODE for one in pipewire_objects(dump)):
        return ok(_CHECK, f"PipeWire has the node {NODE}")
    said = [line for line in (host.program(_JOURNAL) or "").splitlines() if any(word in line for word in _SAID)]
    found = f"installed, but PipeWire has no node {NODE}"
    return warn(_CHECK, f"{found}; it says: {said[-1].strip()}" if said else found, _AGAIN if said else _RESTART)


def _name(entry: dict[str, Any]) -> str:
    return str(((entry.get("info") or {}).get("props") or {}).get("node.name", ""))
