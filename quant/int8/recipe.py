"""Recipes: which nodes are computed in 8 bits. Small TOML files named by id; the last rule that matches wins."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edge_runtime import bounded
from edge_runtime.errors import Failure
from quant.network.graph import Graph, Node

# mixed: a GRU whose matrix products are int8 and whose gates and state stay float; in the native engine's plan
# (roundings.py) a convolution, too, whose float result is not put on a grid
Precision = Literal["int8", "mixed", "float"]
FOLLOWERS = frozenset(
    {"leaky_relu", "slice", "interleave", "stack_bands", "unstack_bands", "quantize"}
)  # as precise as what they read
RECURRENT = frozenset({"gru", "bigru"})
QUANTIZABLE = frozenset(
    {"conv", "gru", "bigru", "add", "gate", "band_gate", "shuffle", "affine_relu", "mean_square", "band_energy"}
)


Percent = Annotated[float, msgspec.Meta(ge=90, le=100)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes whose name matches the glob `nodes` and whose kind is listed get `precision`, because of `why`."""

    nodes: str
    precision: Precision
    why: str
    kinds: tuple[str, ...] = tuple(sorted(QUANTIZABLE))


class Floor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Calibration hears no less of a value than `low`, and the range of one that has any starts no lower, because of
    `why`."""

    tap: str
    low: float
    why: str


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Values whose tap matches the glob `taps` have a percentile of their own, because of `why`; the last one wins."""

    taps: str
    percentile: Percent
    why: str


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named list of rules over the float default."""

    title: str
    rules: tuple[Rule, ...]
    observer: Literal["min_max", "percentile", "min_mse", "loss_aware"] = "percentile"
    percentile: Percent = 99.99  # of the values a range must hold
    migrate_scales: bool = True
    migration_percentile: Percent = 99.9  # of a channel's values below its peak
    bias_correction: bool = False
    adaptive_rounding: bool = False
    clip_saturated: bool = False  # ranges end where the sigmoid or tanh behind them has nothing more to tell
    floors: tuple[Floor, ...] = ()
    tails: tuple[Tail, ...] = ()
    name: str = ""

    def percentile_of(self, tap: str) -> float:
        """Of the values of a tap, which its range must hold."""
        own = [tail.percentile for tail in self.tails if fnmatchcase(tap, tail.taps)]
        return own[-1] if own else self.percentile

    def precision(self, node: Node) -> Precision:
        """What the rules say of a node that does not follow another."""
        for rule in reversed(self.rules):
            if node.kind in rule.kinds and fnmatchcase(node.name, rule.nodes):
                return rule.precision
        return "float"


TABLES = {"rules": Rule, "floors": Floor, "tails": Tail}  # field of a recipe -> what its rows are


def names() -> list[str]:
    """The recipes that come with the project."""
    return sorted(p.name[:-5] for p in files(__package__).joinpath("recipes").iterdir() if p.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """A recipe by id, or from a .toml file of the user's.

    Raises Failure for an unknown name and for a file that does not hold a recipe.
    """
    if name.endswith(".toml"):
        source: Any = Path(name)
        if not source.is_file():
            raise Failure("no such file", where=name, remedy=f"name another, or choose one of: {', '.join(names())}")
    elif name in names():
        source = files(__package__).joinpath("recipes", f"{name}.toml")
    else:
        raise Failure(f"unknown recipe {name!r}", remedy=f"choose one of: {', '.join(names())}, or name a .toml file")
    try:
        with source.open("rb") as file:
            data = bounded.toml(file.read(bounded.MOST_TOML_BYTES + 1))
        recipe = msgspec.convert({**data, "name": Path(name).stem}, Recipe)
    except (msgspec.DecodeError, ValueError, RecursionError, OSError) as error:
        raise Failure(f"not a recipe: {error}", where=name, remedy="see quant/int8/recipes/static.toml") from None
    if bad := sorted({k for rule in recipe.rules for k in rule.kinds} - QUANTIZABLE):
        raise Failure(f"kind {bad[0]!r} cannot be int8", where=name, remedy=f"use {', '.join(sorted(QUANTIZABLE))}")
    if odd := [r for r in recipe.rules if r.precision == "mixed" and not RECURRENT.issuperset(r.kinds)]:
        raise Failure(f"rule {odd[0].nodes!r}: only gru and bigru can be mixed", where=name, remedy="set its kinds")
    return recipe


def named_as_here(recipe: Recipe, graph: Graph) -> Recipe:
    """The same under the name of the recipe here that decides as it does: names moved on since files were trained."""

    def decides_alike(name: str) -> bool:
        try:
            return assign(load(name), graph) == assign(recipe, graph)
        except Failure:  # one that names layers of another network
            return False

    name = next(filter(decides_alike, names()), None)
    return recipe if name is None else msgspec.structs.replace(recipe, name=name, title=load(name).title)


def to_toml(recipe: Recipe) -> str:
    """The file that `load` reads back as the same recipe, but for its name."""
    data = {name: getattr(recipe, name) for name in Recipe.__struct_fields__ if name not in TABLES and name != "name"}
    lines = [f"{name} = {_toml(value)}" for name, value in data.items()]
    for table, kind in TABLES.items():
        for row in getattr(recipe, table):
            lines += ["", f"[[{table}]]", *(f"{name} = {_toml(getattr(row, name))}" for name in kind.__struct_fields__)]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Strings, numbers, booleans and lists of strings are written in TOML as in JSON, but for one character."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def assign(recipe: Recipe, graph: Graph) -> dict[str, Precision]:
    """The precision of every node; raises Failure for a rule that matches nothing."""
    for rule in recipe.rules:
        if not any(n.kind in rule.kinds and fnmatchcase(n.name, rule.nodes) for n in graph.nodes):
            raise Failure(
                f"rule {rule.nodes!r} matches no node",
                where=recipe.name,
                remedy="`quant plan` lists the nodes",
            )
    precision: dict[str, Precision] = dict.fromkeys(graph.inputs, "float")
    for node in graph.nodes:
        follows = node.kind in FOLLOWERS
        followed: Precision = "int8" if precision[node.inputs[0]] == "int8" else "float"
        precision[node.name] = followed if follows else recipe.precision(node)
    return {n.name: precision[n.name] for n in graph.nodes}
