"""Which values get 8 bits, and on which grid: decided as data, refused in one line when it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from random_networks import random_network

from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from quant.emit.emitted import UINT8_SHIFT, Emitted
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.int8 import recipe
from quant.int8.plan import (
    GRU_FIXED,
    GRU_RANGED,
    SAME_GRID,
    Plan,
    int8_taps,
    make_plan,
    plan_table,
    prepare,
)
from quant.int8.qparams import UNIT
from quant.int8.recipe import FOLLOWERS, QUANTIZABLE, RECURRENT, Recipe, Rule, assign, load, to_toml
from quant.int8.runtimes import with_float_grus
from quant.network.float_model import GRU_TAPS
from quant.network.graph import Graph
from quant.network.passes import streaming_graph
from quant.ptq.quantize import Quantized, requantize

EVERYTHING = Recipe("all", (Rule("*", "int8", "all of it"),))
NOTHING = Recipe("none", (Rule("*", "float", "none of it"),))
ONE_GRU = Recipe("one", (Rule("dpgrnn2.inter_rnn", "int8", "one of them", ("gru",)),))
ONE_CONV = Recipe("one", (Rule("encoder.en_convs.3.depth_bn", "int8", "one of them", ("conv",)),))
MIXED_GRUS = Recipe("mixed", (Rule("*", "mixed", "products alone", ("gru", "bigru")),))
RECIPES = {
    "static": load("static"),
    "everything": EVERYTHING,
    "nothing": NOTHING,
    "gru": ONE_GRU,
    "mixed": MIXED_GRUS,
    "conv": ONE_CONV,
}


# --- recipes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_of_the_project_loads_and_fits(name: str) -> None:
    loaded = load(name)
    assert loaded.name == name
    assert all(row.why for row in (*loaded.rules, *loaded.floors)), "a row says why"
    graph = streaming_graph(random_network("ul-unas" if name == "ul-unas" else "gtcrn"))
    prepared, precision = prepare(graph, loaded)
    heard = {*int8_taps(prepared, precision), *(node.name for node in prepared.nodes)}
    assert {floor.tap for floor in loaded.floors} <= heard, "calibration stops there"
    assert set(assign(loaded, graph)) == {node.name for node in graph.nodes}


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_is_written_as_it_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(to_toml(load(name)), encoding="utf-8")
    assert load(str(path)) == load(name)


def test_the_last_rule_that_matches_wins(graph: Graph) -> None:
    both = Recipe(
        "both", (Rule("*", "int8", "a"), Rule("encoder.*", "float", "b"), Rule("encoder.en_convs.1.*", "int8", "c"))
    )
    precision = assign(both, graph)
    assert precision["encoder.en_convs.1.bn"] == "int8"
    assert precision["encoder.en_convs.2.point_bn1"] == "float"
    assert precision["decoder.de_convs.0.point_bn1"] == "int8"


def test_followers_follow(graph: Graph) -> None:
    for name in RECIPES:
        precision = assign(RECIPES[name], graph)
        for node in graph.nodes:
            if node.kind in FOLLOWERS:
                assert precision[node.name] == precision[node.inputs[0]], (name, node.name)
            elif node.kind not in QUANTIZABLE:
                assert precision[node.name] == "float", (name, node.name)


GOOD = 'title = "t"\n[[rules]]\nnodes = "*"\nprecision = "int8"\nwhy = "w"\n'
# file -> (content, words of the one line)
BAD: dict[str, tuple[str, str]] = {
    "syntax.toml": ("title = [", "not a recipe: "),
    "empty.toml": ("", "missing required field `title`"),
    "no_rules.toml": ('title = "t"', "missing required field `rules`"),
    "no_why.toml": (GOOD.replace('why = "w"\n', ""), "missing required field `why`"),
    "typo.toml": (GOOD + "kindz = []\n", "unknown field `kindz`"),
    "unknown_setting.toml": ("obzerver = 1\n" + GOOD, "unknown field `obzerver`"),
    "precision.toml": (GOOD.replace("int8", "int4"), "Invalid enum value 'int4'"),
    "observer.toml": ('observer = "magic"\n' + GOOD, "Invalid enum value 'magic'"),
    "percentile.toml": ("percentile = 101\n" + GOOD, "`float` <= 100"),
    "migration.toml": ("migration_percentile = 5.0\n" + GOOD, "`float` >= 90"),
    "type.toml": ("migrate_scales = 1\n" + GOOD, "Expected `bool`"),
    "kind.toml": (GOOD + 'kinds = ["conv", "wavelet"]\n', "kind 'wavelet' cannot be int8"),
    "float_only.toml": (GOOD + 'kinds = ["layer_norm"]\n', "kind 'layer_norm' cannot be int8"),
    "mixed.toml": (GOOD.replace("int8", "mixed"), "rule '*': only gru and bigru can be mixed"),
    "rules_table.toml": ('title = "t"\n[rules]\nnodes = "*"\n', "Expected `array`"),
    "latin1.toml": ('title = "caf\xe9"\n', "not a recipe: "),
}


@pytest.mark.parametrize("file", BAD)
def test_a_bad_recipe_is_one_line(file: str, tmp_path: Path) -> None:
    content, words = BAD[file]
    path = tmp_path / file
    path.write_bytes(content.encode("latin1"))
    with pytest.raises(Failure) as failed:
        load(str(path))
    line = str(failed.value)
    assert words in line
    assert line.startswith(f"{path}: ")
    assert "\n" not in line


def test_an_unknown_recipe_names_the_known_ones(tmp_path: Path) -> None:
    for name in ("statik", "", str(tmp_path)):
        with pytest.raises(Failure, match=r"unknown recipe .*choose one of: .*static"):
            load(name)
    with pytest.raises(Failure, match=r"absent.toml: no such file; name another, or choose one of: .*static"):
        load(str(tmp_path / "absent.toml"))


def test_a_rule_that_matches_nothing_is_refused(graph: Graph) -> None:
    for rule in (Rule("encoder.en_conv.*", "int8", "typo"), Rule("*.tra.*", "int8", "wrong kind", ("bigru",))):
        with pytest.raises(Failure, match=r"matches no node; `quant plan`"):
            assign(Recipe("r", (rule,)), graph)


# --- prepare ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_an_entrance_stands_exactly_where_float_meets_8_bits(name: str, graph: Graph) -> None:
    before = assign(RECIPES[name], graph)
    prepared, precision = prepare(graph, RECIPES[name])
    entrances = {node.name: node for node in prepared.nodes if node.kind == "quantize"}
    needed = {
        source
        for node in graph.nodes
        for source in node.inputs
        if before[node.name] != "float" and before.get(source) != "int8"
    }
    assert {node.inputs[0] for node in entrances.values()} == needed
    for node in prepared.nodes:
        if precision[node.name] != "float" and node.kind != "quantize":
            assert all(precision[source] == "int8" for source in node.inputs), node.name
    assert all(precision[name] == "int8" and prepared.consumers(name) for name in entrances)
    kept = {node.name: precision[node.name] for node in graph.nodes}
    assert kept == before, "prepare changes no node's precision"


def test_nothing_in_8_bits_is_the_float_graph(graph: Graph) -> None:
    prepared, precision = prepare(graph, NOTHING)
    assert prepared.nodes == graph.nodes
    assert int8_taps(prepared, precision) == []


def test_a_value_has_one_entrance_for_all_its_readers(graph: Graph) -> None:
    prepared, _ = prepare(graph, EVERYTHING)
    sources = [node.inputs[0] for node in prepared.nodes if node.kind == "quantize"]
    assert len(sources) == len(set(sources))


@pytest.mark.parametrize("recipe", ["static", "everything"])
def test_float_grus_leave_all_else_as_it_was(recipe: str, quantized: Quantized, everything: Quantized) -> None:
    chosen = quantized if recipe == "static" else everything
    lowered, plan = with_float_grus(chosen.graph, chosen.plan)
    made = {node.name: node for node in lowered.nodes}
    for node in chosen.graph.nodes:
        if node.kind in RECURRENT:
            assert plan.precision[node.name] == "float"
        elif node.kind != "quantize":
            assert plan.precision[node.name] == chosen.plan.precision[node.name], node.name
    for node in lowered.nodes:
        reads = [plan.precision.get(name) == "int8" for name in node.inputs]
        if node.kind == "quantize":
            assert reads == [False]
        elif plan.is_int8(node):
            assert all(reads), node.name
            on = [plan.grids[name] for name in node.inputs]
            assert on == [chosen.plan.grids[name] for name in chosen.graph.node(node.name).inputs], "the same grids"
        elif node.kind in RECURRENT:
            assert made.get(node.inputs[0], node).kind != "quantize", "what was quantized for it alone"
    again = with_float_grus(lowered, plan)
    assert (again[0].nodes, again[1].precision) == (lowered.nodes, plan.precision)


# --- the plan ---------------------------------------------------------------------------------------------------


def test_every_8_bit_value_has_a_grid_and_no_other(quantized: Quantized) -> None:
    wanted = set()
    for node in quantized.graph.nodes:
        if quantized.plan.is_int8(node):
            wanted.add(node.name)
            if node.kind in ("gru", "bigru"):
                wanted |= {f"{node.name}.{role}" for role in (*GRU_RANGED, *GRU_FIXED)}
        elif quantized.plan.reads_int8(node):  # mixed
            wanted |= {f"{node.name}.{role}" for role in ("gates_x", "gates_h", "state")}
    assert set(quantized.plan.grids) == wanted
    assert {*GRU_RANGED, *GRU_FIXED} == set(GRU_TAPS)


def test_every_8_bit_weight_has_a_scale_a_row_and_no_other(quantized: Quantized) -> None:
    wanted = {}
    for node in quantized.graph.nodes:
        roles = {
            "conv": ("weight",),
            "gru": ("weight_ih", "weight_hh"),
            "bigru": ("weight_ih", "weight_hh"),
            "affine_relu": ("weight", "rise"),
        }
        if quantized.plan.reads_int8(node):
            names = [name for role in roles.get(node.kind, ()) for name in node.params[role]]
            wanted |= {name: len(quantized.graph.params[name]) for name in names}
    assert {name: len(scales) for name, scales in quantized.plan.weight_scales.items()} == wanted


def test_what_only_moves_values_keeps_their_grid(quantized: Quantized) -> None:
    for node in quantized.graph.nodes:
        if node.kind in SAME_GRID and quantized.plan.is_int8(node):
            assert quantized.plan.grids[node.name] == quantized.plan.grids[node.inputs[0]]


def test_halves_of_one_value_are_shuffled_on_their_grid(ulunas_quantized: Quantized) -> None:
    """Whatever range training learned for the result: a grid of its own would round every value once more."""
    graph, plan, ranges = ulunas_quantized.graph, ulunas_quantized.plan, ulunas_quantized.ranges
    shuffles = [n for n in graph.nodes if n.kind == "shuffle" and plan.grids[n.inputs[0]] == plan.grids[n.inputs[1]]]
    learned = {n.name: msgspec.structs.replace(ranges.values[n.name], high=9.0) for n in shuffles}
    again = make_plan(graph, plan.precision, Ranges({**ranges.values, **learned}, ranges.provenance))
    assert len(shuffles) > 5
    assert {again.grids[n.name] == again.grids[n.inputs[0]] for n in shuffles} == {True}


def test_recurrent_states_use_the_whole_range_of_tanh(quantized: Quantized) -> None:
    for node in quantized.graph.nodes:
        if node.kind in ("gru", "bigru") and quantized.plan.is_int8(node):
            assert quantized.plan.grids[node.name] == UNIT


@pytest.mark.parametrize(
    # The six convolutions over time; ONNX Runtime has no 8-bit GRU, whatever the plan says.
    ("recipe", "emit", "dtype", "shift", "n_int8"),
    [
        ("static", emit_onnx, "uint8", UINT8_SHIFT, 6),
        ("static", emit_tflite, "int8", 0, 6),
        ("everything", emit_onnx, "uint8", UINT8_SHIFT, 6),
        ("everything", emit_tflite, "int8", 0, 14),
    ],
)
def test_a_state_lies_on_the_grid_of_the_value_it_carries(
    recipe: str,
    emit: Callable[[Graph, Plan], Emitted],
    dtype: str,
    shift: int,
    n_int8: int,
    quantized: Quantized,
    everything: Quantized,
) -> None:
    chosen = quantized if recipe == "static" else everything
    entries = {state.name: state for state in emit(chosen.graph, chosen.plan).states}
    nodes = {node.state.name: node for node in chosen.graph.nodes if node.state is not None}
    assert entries.keys() == nodes.keys()
    for name, node in nodes.items():
        grid = chosen.plan.grids.get(node.inputs[0] if node.kind == "conv" else node.name)
        entry = entries[name]
        if entry.dtype == "float32":
            assert entry.scale is None
            assert node.kind == "gru"
        else:
            assert (entry.dtype, entry.scale, entry.zero_point) == (dtype, grid.scale, grid.zero_point + shift)
    assert sum(entry.dtype == dtype for entry in entries.values()) == n_int8


def test_the_table_covers_every_value_and_weight(quantized: Quantized) -> None:
    table = plan_table(quantized.graph, quantized.plan)
    taps = [row.tap for row in table]
    assert len(taps) == len(set(taps))
    assert {node.name for node in quantized.graph.nodes} <= set(taps)
    assert set(quantized.plan.grids) | set(quantized.plan.weight_scales) <= set(taps)
    for row in table:
        if row.type == "int8" and row.kind != "weight":
            q = quantized.plan.grids[row.tap]
            assert (row.scale, row.zero_point, row.low, row.high) == (q.scale, q.zero_point, q.low, q.high)
    assert [t for t in taps if t in quantized.graph.shapes] == [node.name for node in quantized.graph.nodes], "in order"
    json.dumps(msgspec.to_builtins(table), allow_nan=False)


def test_a_plan_follows_from_its_ranges(quantized: Quantized, graph: Graph, tmp_path: Path) -> None:
    """Through a file and back: the same graph, grids and weight scales, bit for bit."""
    quantized.ranges.save(tmp_path / "ranges.json")
    sha256 = quantized.ranges.provenance.checkpoint_sha256
    again = requantize(graph, load("static"), Ranges.load(tmp_path / "ranges.json"), sha256)
    assert again.plan.precision == quantized.plan.precision
    assert again.plan.grids == quantized.plan.grids
    assert again.graph.nodes == quantized.graph.nodes
    for mine, other in (
        (again.plan.weight_scales, quantized.plan.weight_scales),
        (again.graph.params, quantized.graph.params),
    ):
        assert mine.keys() == other.keys()
        for name, values in mine.items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_ranges_of_another_checkpoint_or_recipe_are_refused(quantized: Quantized, graph: Graph) -> None:
    with pytest.raises(Failure, match="another checkpoint"):
        requantize(graph, load("static"), quantized.ranges, "0" * 64)
    sha256 = quantized.ranges.provenance.checkpoint_sha256
    with pytest.raises(Failure, match=r"another recipe: no range for tap"):
        requantize(graph, EVERYTHING, quantized.ranges, sha256)


def test_every_recipe_can_be_planned(graph: Graph, quantized: Quantized) -> None:
    """With one made-up range for every tap: the plan needs nothing else."""
    some = next(iter(quantized.ranges.values.values()))
    for name, chosen in RECIPES.items():
        prepared, precision = prepare(graph, chosen)
        ranges = Ranges(dict.fromkeys(int8_taps(prepared, precision), some), quantized.ranges.provenance)
        plan = make_plan(prepared, precision, ranges)
        assert {n.name for n in prepared.nodes if plan.is_int8(n)} <= set(plan.grids), name
