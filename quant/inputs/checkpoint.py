"""Checkpoints in: weights as people save them (`weight_file`) or the official streaming ONNX -> named float32 arrays.

Which file it is its first bytes tell, not its name. In it the network is found by its names, below any prefixes and
dictionaries. Anything else is refused in one line that says what it is, or what is missing, unexpected or misshaped.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np

from edge_runtime import bounded
from edge_runtime.errors import Failure
from edge_runtime.quiet import Progress, silent
from edge_runtime.stft import WINDOW_SAMPLES, Float32Array, WindowName
from quant.inputs import foreign, official_onnx, weight_file
from quant.inputs.pickled import Thing
from quant.inputs.stored import Stored
from quant.inputs.weight_file import Place, Weights
from quant.network import registry, sizes
from quant.network.family import Network
from quant.network.graph import Graph

VARIANT_KEY = "variant"  # beside the weights: sizes of a network other than the published one
WINDOW_KEY = "stft_window"  # beside the weights: the window of the spectra that they were trained on
_FORMS = "an official .tar, a state dict, safetensors, or the official streaming .onnx"
REMEDY = f"give a checkpoint of {registry.TITLES}: {_FORMS}"
_DAMAGED = "this checkpoint is damaged; get it again"
_IGNORED: Final = ("num_batches_tracked", "total_ops", "total_params")  # counters, of PyTorch and of those who count
_WRAPPED: Final = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # anywhere within a name
_SECOND: Final = ("ema", "swa", "average", "averaged", "shadow", "teacher", "best", "params_ema")
_LONGEST_NAME: Final = 120  # characters of a name or fault that a line shows
_MOST_VALUES: Final = 2**26  # 256 MiB of float32


@dataclass(frozen=True)
class Checkpoint:
    """Parameters by official name, which network they are of and its sizes, and the file they came from; `window`: None
    where that does not say."""

    name: str
    sha256: str
    params: Mapping[str, Float32Array]
    network: Network = registry.DEFAULT
    config: Any = registry.DEFAULT.published  # an instance of `network.config`
    window: WindowName | None = None

    def window_or(self, asked: WindowName | None) -> WindowName:
        """Its window, else the one asked for, else that of the published network. Failure: it names another."""
        if self.window is not None and asked not in (None, self.window):
            what = f"was trained through the window {self.window}"
            raise Failure(what, where=self.name, remedy="leave --window out")
        return self.window or asked or self.network.window

    def graph(self, asked: WindowName | None = None) -> Graph:
        """The network before any pass. Failure: see `window_or`."""
        return self.network.build(self.params, self.config, self.window_or(asked))


def load(path: str | Path, progress: Progress = silent) -> Checkpoint:
    """Read and check a checkpoint; where several networks lie in it, `progress` is told which one was taken.

    Raises Failure when the file is missing, unreadable, too large, of another network, or holds NaN or infinity.
    """
    path = Path(path)
    if path.is_dir():
        raise Failure("is a folder", where=path, remedy="name a file in it with --checkpoint")
    if not path.exists():
        raise Failure("no such checkpoint", where=path, remedy="run `quant pull`, or name a file with --checkpoint")
    data = bounded.read(path, weight_file.MOST_BYTES, REMEDY)
    params, network, config, window = _read(path, data, progress)
    _check(path, params, network, config)
    return Checkpoint(path.name, hashlib.sha256(data).hexdigest(), params, network, config, window)


_Read = tuple[dict[str, Float32Array], Network, Any, WindowName | None]


def _read(path: Path, data: bytes, progress: Progress) -> _Read:
    foreign.refuse(path, data)
    with bounded.one_line(path, "truncated, or not a PyTorch file", REMEDY):
        weights = weight_file.read(data)
        if weights is not None:
            return _network(path, weights, progress)
    if official_onnx.looks_like(path, data):
        network, params = official_onnx.read(path, data, REMEDY)
        return params, network, network.published, None
    raise Failure("not a PyTorch, safetensors or ONNX file", where=path, remedy=REMEDY)


def _network(path: Path, weights: Weights, progress: Progress) -> _Read:
    """The network in a file."""
    if not weights.tensors:
        code = "; it holds code, and it was not executed" if foreign.has_code(weights) else ""
        raise Failure(f"holds no state dict{code}", where=path, remedy=foreign.remedy(weights) or REMEDY)
    foreign.refuse_weights(path, weights)
    network, found = _best(path, _named(weights.tensors), progress)
    if fault := next(((name, one.fault) for name, one in found.items() if one.fault), None):
        raise Failure(" ".join(fault), where=path, remedy="save a state dict of plain float tensors")
    n_values = sum(math.prod(one.shape) for one in found.values())
    if n_values > _MOST_VALUES:
        raise Failure(f"holds {n_values:,} weights, more than are read here", where=path, remedy=REMEDY)
    beside = weights.root if isinstance(weights.root, Thing) else Thing()
    shapes = {name: one.shape for name, one in found.items()}
    foreign.refuse_frame(path, network.n_fft(shapes), WINDOW_SAMPLES)
    _check_names(path, shapes, network, config := _config(path, shapes, network, beside.get(VARIANT_KEY)))
    window = _window(path, beside.get(WINDOW_KEY))
    return {name: found[name].read() for name in network.param_shapes(config)}, network, config, window


def _window(path: Path, stored: Any) -> WindowName | None:
    if stored is None or stored in get_args(WindowName):
        return cast("WindowName | None", stored)
    remedy = "update edge-denoise, or train it through another"
    raise Failure(f"was trained through a window {str(stored)[:_LONGEST_NAME]!r}", where=path, remedy=remedy)


def _config(path: Path, shapes: Mapping[str, tuple[int, ...]], network: Network, stored: Any) -> Any:
    if stored is not None:
        return sizes.from_dict(foreign.as_plain(stored), path, network)
    return network.of_shapes(shapes) or network.published


@cache
def _wanted(network: str) -> frozenset[str]:
    return frozenset(registry.load(network).names)


def _named(tensors: Mapping[Place, Stored]) -> dict[Place, Stored]:
    """Without counters, and without what compiled and sharded modules put into names."""
    kept = {}
    for place, tensor in tensors.items():
        if not place.key.endswith(_IGNORED):
            kept[Place(*(_without_wrappers(part) for part in place))] = tensor
    return kept


def _without_wrappers(text: str) -> str:
    for wrapper in _WRAPPED:
        text = text.replace(wrapper, "")
    return text


def _best(path: Path, tensors: Mapping[Place, Stored], progress: Progress) -> tuple[Network, dict[str, Stored]]:
    """The network that most names are of, its tensors by official name, and whatever else lies in its dictionary."""
    counted = {name: _counts(tensors, name) for name in registry.NETWORKS}
    name = max(counted, key=lambda name: max(counted[name].values(), default=0))  # the first of equals
    counts = counted[name]
    whole = [prefix for prefix, n in counts.items() if n > max(counts.values()) // 2]
    whole.sort(key=lambda prefix: any(word in prefix.lower().split(".") for word in _SECOND))
    chosen = whole[0] if whole else ""
    beside = whole[1:]
    for other in counted.keys() - {name}:
        beside += [prefix for prefix, n in counted[other].items() if n > len(_wanted(other)) // 2]
    if beside:
        others = ", ".join(prefix.rstrip(".") or "the outermost" for prefix in beside[:3])
        taken = chosen.rstrip(".") or "the outermost"
        progress(f"{path}: holds {1 + len(beside)} networks; {taken} is taken, not {others}: for that, save it alone")
    return registry.load(name), _below(tensors, chosen, _wanted(name))


def _counts(tensors: Mapping[Place, Stored], network: str) -> Counter[str]:
    """Prefix -> how many names of the network stand below it."""
    counts, wanted = Counter[str](), _wanted(network)
    for place in tensors:
        parts = place.path.split(".")
        for n in range(len(parts)):
            if ".".join(parts[n:]) in wanted:
                counts[".".join([*parts[:n], ""])] += 1
    return counts


def _below(tensors: Mapping[Place, Stored], prefix: str, wanted: frozenset[str]) -> dict[str, Stored]:
    """By name below `prefix`: of a state dict what lies in the same dictionary, of a module everything in it."""
    named = {place: place.path.removeprefix(prefix) for place in tensors if place.path.startswith(prefix)}
    homes = {place.container for place, name in named.items() if name in wanted}
    one_home = len(homes) == 1
    return {name: tensors[place] for place, name in named.items() if not one_home or place.container in homes}


def _check_names(path: Path, shapes: Mapping[str, tuple[int, ...]], network: Network, config: Any) -> None:
    wanted = network.param_shapes(config)
    missing = [k for k in wanted if k not in shapes]
    unexpected = [k for k in shapes if k not in wanted]
    misshaped = [f"{k} is {shapes[k]}, not {wanted[k]}" for k in wanted if k in shapes and shapes[k] != wanted[k]]
    problems = [
        f"{len(names)} {what} ({', '.join(name[:_LONGEST_NAME] for name in names[:3])}{', ...' * (len(names) > 3)})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
        if names
    ]
    if problems:
        raise Failure(f"not a {network.title} checkpoint: {'; '.join(problems)}", where=path, remedy=REMEDY)


def _check(path: Path, params: Mapping[str, Float32Array], network: Network, config: Any) -> None:
    _check_names(path, {name: values.shape for name, values in params.items()}, network, config)
    if bad := [k for k, v in params.items() if not np.isfinite(v).all()]:
        raise Failure(f"{bad[0]} holds NaN or infinity", where=path, remedy=_DAMAGED)
    if bad := [k for k, v in params.items() if k.endswith("running_var") and (v < 0).any()]:
        raise Failure(f"{bad[0]} is negative", where=path, remedy=_DAMAGED)
    if not any((np.abs(v) >= np.finfo(np.float32).tiny).any() for v in params.values()):
        # An engine takes denormals for 0 or does not: each computes something else.
        raise Failure("all its weights are 0, or too small for float32", where=path, remedy=_DAMAGED)
