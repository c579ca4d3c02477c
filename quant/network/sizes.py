"""A network other than the published one: read from `--set NAME=VALUE`, or from a checkpoint's shapes.

    channels=16  low_bins=65  erb_bands=64  kernel=5  dilations=1,2,5  dpgrnn=2  groups=2        the published network

Shapes tell everything but the values of the dilations; `quant train` stores those beside the weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields

import msgspec

from edge_runtime.errors import Failure
from quant.network.builder import N_BINS
from quant.network.erb import merging_matrix
from quant.network.gtcrn import Config

NAMES = {
    "channels": "channels",
    "low_bins": "n_low_bins",
    "erb_bands": "n_high_bands",
    "kernel": "kernel",
    "dilations": "dilations",
    "dpgrnn": "n_dpgrnn",
    "groups": "groups",
}  # as typed -> the field of Config
DEFAULT = "default"
PUBLISHED = Config()
LARGEST = 1024  # of any size, and of the number of blocks: a network of more would take minutes to lay out


def parse(settings: Sequence[str]) -> Config:
    """`NAME=VALUE` settings over the published network. Failure: unknown, not a number, or an impossible network."""
    chosen: dict[str, int | tuple[int, ...]] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in NAMES:
            raise Failure(f"no setting {name!r} of the network", remedy=f"choose one of: {', '.join(NAMES)}")
        chosen[NAMES[name]] = _dilations(setting, value) if name == "dilations" else _number(setting, value)
    return make(chosen)


def parse_line(text: str) -> Config:
    """`default`, or settings separated by commas: `channels=12,dilations=1,2,dpgrnn=1`."""
    if text == DEFAULT:
        return PUBLISHED
    settings: list[str] = []
    for part in text.split(","):
        if "=" in part or not settings:
            settings.append(part)
        else:
            settings[-1] += f",{part}"
    return parse(settings)


def make(sizes: object, where: object = None) -> Config:
    """The network of these fields of Config. Failure: no such network."""
    try:
        config = msgspec.convert(sizes, Config)
        if large := next((name for name, size in asdict(config).items() if _peak(size) > LARGEST), None):
            raise ValueError(f"{large} is above {LARGEST}")
        merging_matrix(config.n_low_bins, config.n_high_bands)
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise Failure(f"no such network: {error}", where=where) from None
    return config


def _peak(value: int | tuple[int, ...]) -> int:
    return max(len(value), *value, 0) if isinstance(value, tuple) else value


def describe(config: Config) -> str:
    """What `parse_line` reads back: `default`, or the settings that differ from it."""
    differing = [
        f"{name}={_text(getattr(config, field))}"
        for name, field in NAMES.items()
        if getattr(config, field) != getattr(PUBLISHED, field)
    ]
    return ",".join(differing) or DEFAULT


def to_dict(config: Config) -> dict[str, int | list[int]]:
    """The sizes as JSON types."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(config).items()}


def from_dict(stored: object, where: object) -> Config:
    """What `to_dict` made. Failure: anything else."""
    if not isinstance(stored, Mapping) or set(stored) != {field.name for field in fields(Config)}:
        raise Failure("names no sizes of a network that this version knows", where=where, remedy="train it again")
    return make(stored, where)


def of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """The network of parameters with official names and these shapes; None where they are of no GTCRN, or where another
    number of GT-conv blocks than three leaves the dilations unknown."""
    try:
        first = shapes["encoder.en_convs.0.conv.weight"]
        second = shapes["encoder.en_convs.1.conv.weight"]
        n_high_bands, n_high_bins = shapes["erb.erb_fc.weight"]
        found: dict[str, int] = {
            "channels": first[0],
            "n_low_bins": N_BINS - n_high_bins,
            "n_high_bands": n_high_bands,
            "kernel": first[3],
            "n_dpgrnn": _count(shapes, "dpgrnn", ".intra_fc.weight", 1),
            "groups": second[0] // second[1],
        }
        if _count(shapes, "encoder.en_convs.", ".depth_conv.weight", 2) != len(PUBLISHED.dilations):
            return None
        return msgspec.convert(found, Config)
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        return None


def _count(names: Collection[str], before: str, after: str, first: int) -> int:
    n = 0
    while f"{before}{first + n}{after}" in names:
        n += 1
    return n


def _number(setting: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise Failure(f"{setting!r} is no whole number", remedy="write it as channels=12")
    return int(value)


def _dilations(setting: str, value: str) -> tuple[int, ...]:
    parts = value.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise Failure(f"{setting!r} lists no whole numbers", remedy="write them as dilations=1,2,5")
    return tuple(map(int, parts))


def _text(value: int | tuple[int, ...]) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
