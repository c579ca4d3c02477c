"""A network other than the published one: read from `--set NAME=VALUE`, or from a checkpoint.

    gtcrn     channels=16  low_bins=65  erb_bands=64  kernel=5  dilations=1,2,5  dpgrnn=2  groups=2
    ul-unas   blocks=conv,mb,dws,mb,dws  channels=12,24,24,32,16  kernels=3x3,2x3,2x3,1x5,1x5  strides=2,2,1,1,1
              groups=1,2,2,2,2  low_bins=65  erb_bands=64  dpgrnn=2  dpgrnn_groups=2

are the published ones. What shapes do not tell (the values of dilations) `quant train` stores beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec

from edge_runtime.errors import Failure
from quant.network import registry
from quant.network.erb import merging_matrix
from quant.network.family import Network, Setting

DEFAULT = "default"
PUBLISHED = registry.DEFAULT.published
LARGEST = 1024  # of any size, and of the number of blocks: a network of more would take minutes to lay out
NUMBERS = {"number": "no whole number", "numbers": "lists no whole numbers", "kernels": "lists no kernels"}


def parse(settings: Sequence[str], network: Network = registry.DEFAULT) -> Any:
    """`NAME=VALUE` settings over the published network. Failure: unknown, not a number, or an impossible network."""
    chosen = {name: setting.of(network.published) for name, setting in network.settings.items()}
    for text in settings:
        name, _, value = text.partition("=")
        if name not in network.settings:
            raise Failure(f"no setting {name!r} of the network", remedy=f"choose one of: {', '.join(network.settings)}")
        chosen[name] = _value(text, value, name, network)
    try:
        return _possible(network.sized(chosen))
    except ValueError as error:
        raise Failure(f"no such network: {error}") from None


def parse_line(text: str, network: Network = registry.DEFAULT) -> Any:
    """`default`, or settings separated by commas: `channels=12,dilations=1,2,dpgrnn=1`; of another network than
    `network` where its name stands before them: `ul-unas`, `ul-unas:dpgrnn=1`."""
    name, _, rest = text.partition(":")
    if name in registry.NETWORKS:
        network, text = registry.NETWORKS[name], rest or DEFAULT
    if text == DEFAULT:
        return network.published
    settings: list[str] = []
    for part in text.split(","):
        if "=" in part or not settings:
            settings.append(part)
        else:
            settings[-1] += f",{part}"
    return parse(settings, network)


def is_line(text: str) -> bool:
    """Whether it is meant as one."""
    return text == DEFAULT or "=" in text or text.partition(":")[0] in registry.NETWORKS


def _possible(config: Any) -> Any:
    if large := next((name for name, size in to_dict(config).items() if _peak(size) > LARGEST), None):
        raise ValueError(f"{large} is above {LARGEST}")
    merging_matrix(config.n_low_bins, config.n_high_bands)
    return config


def _peak(value: Any) -> int:
    """The largest number in it, or the longest list."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max([len(parts), *map(_peak, parts)]) if parts else value if isinstance(value, int) else 0


def describe(config: Any) -> str:
    """What `parse_line` reads back: `default`, or the settings that differ from it."""
    network = registry.of_config(config)
    published = network.published
    differing = [
        f"{name}={_text(setting, setting.of(config))}"
        for name, setting in network.settings.items()
        if setting.of(config) != setting.of(published)
    ]
    prefix = "" if network is registry.DEFAULT else network.name
    return ":".join(part for part in (prefix, ",".join(differing)) if part) or DEFAULT


def to_dict(config: Any) -> dict[str, Any]:
    """The sizes as JSON types."""
    return dict(msgspec.to_builtins(config))


def from_dict(stored: object, where: object, network: Network = registry.DEFAULT) -> Any:
    """What `to_dict` made. Failure: anything else."""
    if not isinstance(stored, Mapping) or set(stored) != {field.name for field in fields(network.config)}:
        raise Failure("names no sizes of a network that this version knows", where=where, remedy="train it again")
    try:
        return _possible(msgspec.convert(stored, network.config))
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise Failure(f"no such network: {error}", where=where) from None


def _value(text: str, value: str, name: str, network: Network) -> Any:
    setting = network.settings[name]
    parts = value.split(",")
    if setting.kind == "words":
        return tuple(parts)
    numbers = [part.split("x") if setting.kind == "kernels" else [part] for part in parts]
    whole = all(number.isascii() and number.isdigit() for part in numbers for number in part)
    if not whole or any(len(part) != len(numbers[0]) for part in numbers) or not _fits(setting, numbers):
        remedy = f"write it as {name}={_text(setting, setting.of(network.published))}"
        raise Failure(f"{text!r} {_is(setting)}", remedy=remedy)
    if setting.kind == "kernels":
        return tuple((int(part[0]), int(part[1])) for part in numbers)
    return tuple(int(part[0]) for part in numbers) if setting.kind == "numbers" else int(value)


def _is(setting: Setting) -> str:
    return f"is {NUMBERS['number']}" if setting.kind == "number" else NUMBERS[setting.kind]


def _fits(setting: Setting, numbers: Sequence[Sequence[str]]) -> bool:
    return (
        all(len(part) == 2 for part in numbers)
        if setting.kind == "kernels"
        else setting.kind != "number" or len(numbers) == 1
    )


def _text(setting: Setting, value: Any) -> str:
    if setting.kind == "number":
        return str(value)
    return ",".join("x".join(map(str, part)) if setting.kind == "kernels" else str(part) for part in value)
