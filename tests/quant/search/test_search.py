"""The accuracy-aware search: what it may raise, what it decides, and that it goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from ended import ended
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_build import TOY, toy

from calibration.corpus import Corpus
from calibration.mixing import Mix
from calibration.ranges import Provenance
from edge_runtime.errors import Failure
from edge_runtime.quiet import silent
from quant.build import stages
from quant.build.settings import Search
from quant.emit.tflite.emitter import emit_tflite
from quant.inputs.source import Inputs
from quant.int8 import recipe
from quant.int8.recipe import QUANTIZABLE, RECURRENT, Recipe, Rule, assign
from quant.network.graph import Graph
from quant.ptq.quantize import CalibrationSet, quantize
from quant.search import climb, tails, validation
from quant.search.climb import Found
from quant.search.groups import Group, groups, recipe_of
from quant.search.journal import Journal
from quant.search.validation import Heard, Score

BASE = Recipe("searched", (), name="searched")
TINY = Mix(n_clips=2, clip_ms=1500, seed=1, share_clean=0, share_noise_alone=0, level_dbfs=(-30, -20))


# --- groups and recipes ---------------------------------------------------------------------------------------------


def test_every_node_that_can_be_int8_is_in_one_group(graph: Graph) -> None:
    names = [name for group in groups(graph) for name in group.nodes]
    assert sorted(names) == sorted(n.name for n in graph.nodes if n.kind in QUANTIZABLE)
    assert len({group.name for group in groups(graph)}) == len(groups(graph))


def test_grus_alone_can_be_mixed_and_only_float_costs_macs(graph: Graph) -> None:
    for group in groups(graph):
        recurrent = RECURRENT.issuperset(group.kinds)
        assert group.levels == (("int8", "mixed", "float") if recurrent else ("int8", "float"))
        costs = [group.cost(level) for level in range(1, len(group.levels))]
        assert min(costs) > 0, "nothing is free, or its gain a MAC would be endless"
        assert costs[-1] == group.n_values + group.macs
        assert costs == sorted(costs)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_recipe_says_exactly_the_levels_it_was_made_from(data: st.DataObject, graph: Graph) -> None:
    levels = {g: data.draw(st.integers(0, len(g.levels) - 1), g.name) for g in groups(graph)}
    made = recipe_of(BASE, graph, levels, {})
    precision = assign(made, graph)
    for group, level in levels.items():
        for name in group.nodes:
            node = graph.node(name)
            mixed_in_company = group.levels[level] == "mixed" and node.kind not in RECURRENT
            assert mixed_in_company or precision[name] == group.levels[level]


def test_a_recipe_file_reads_back_as_the_same_recipe(graph: Graph, tmp_path: Path) -> None:
    rules = (Rule("*", "int8", "é \t why", ("conv",)),)
    odd = Recipe('a "title"\\ \x7f\n', rules, "min_mse", 99.5, False, 95.0, True, True)
    searched = recipe_of(BASE, graph, {g: len(g.levels) - 1 for g in groups(graph)}, {})
    for number, made in enumerate((odd, searched, recipe.load("static"))):
        path = tmp_path / f"r{number}.toml"
        path.write_text(recipe.to_toml(made), "utf-8")
        assert recipe.to_toml(recipe.load(str(path))) == recipe.to_toml(made)
        assert recipe.load(str(path)).rules == made.rules


# --- ranges of every recipe from one observation --------------------------------------------------------------------

RECIPES = {
    "static": recipe.load("static"),
    "everything": Recipe("all", (Rule("*", "int8", "all of it"),)),
    "mixed": Recipe("mixed", (Rule("*", "mixed", "products", ("gru", "bigru")),)),
    "unmigrated": Recipe("plain", (Rule("*", "int8", "all of it"),), migrate_scales=False),
}


@pytest.fixture(scope="module")
def seen(graph: Graph, calibration: CalibrationSet) -> tuple[CalibrationSet, tails.Tails]:
    few = replace(calibration, clips=calibration.clips[:2])
    provenance = Provenance("percentile", few.mix, "0" * 64, "0" * 64, "0" * 64)
    return few, tails.observe(graph, BASE, few.noisy, few.mix.warmup_samples, provenance)


@pytest.mark.parametrize("name", RECIPES)
def test_ranges_from_the_tails_are_those_that_a_build_measures(
    name: str, graph: Graph, seen: tuple[CalibrationSet, tails.Tails]
) -> None:
    few, observed = seen
    exact, found = quantize(graph, RECIPES[name], few, "0" * 64).ranges, observed.ranges(RECIPES[name])
    assert found.channel_peaks == exact.channel_peaks
    assert found.values.keys() == exact.values.keys()
    for tap, r in exact.values.items():
        bin_width = 2.5e-4 * max(-r.min, r.max)  # a histogram has at least 4096 bins up to the largest magnitude
        assert abs(found.values[tap].low - r.low) <= bin_width, tap
        assert abs(found.values[tap].high - r.high) <= bin_width, tap


# --- decisions ------------------------------------------------------------------------------------------------------


class Simulated:
    """A bench on which every group costs so much PESQ while it is int8, half of it while mixed, and losses add up."""

    def __init__(self, graph: Graph, losses: Mapping[str, float], rest: float = 0.0) -> None:
        self.graph, self.losses, self.rest, self.why = graph, losses, rest, dict[str, str]()
        self.progress, self.n_again, self.n_trials = silent, climb.N_AGAIN, 0

    def loss(self, levels: Mapping[Group, int]) -> float:
        return self.rest + sum(
            self.losses.get(g.name, 0.0) * (1 - level / (len(g.levels) - 1)) for g, level in levels.items()
        )

    def guide(self, trials: Sequence[Mapping[Group, int]]) -> list[float]:
        self.n_trials += len(trials)
        return [4.64 - self.loss(levels) for levels in trials]

    def built(self, levels: Mapping[Group, int]) -> Score:
        return Score(("d_pesq", "snr_db"), ((-self.loss(levels), 0.0),) * 2)

    def recipe(self, levels: Mapping[Group, int]) -> Recipe:
        return recipe_of(BASE, self.graph, levels, self.why)


FIRST, SECOND, SUM, GRU = "encoder.en_convs.0.*", "encoder.en_convs.1.*", "decoder.skips.0", "dpgrnn1.inter_rnn"
# losses, budget -> what is raised, in order
PATHS: dict[str, tuple[dict[str, float], float, list[str]]] = {
    "nothing to do": ({}, 0.0, []),
    "one culprit": ({FIRST: 0.5}, 0.1, [FIRST]),
    "it stops when the budget holds": ({FIRST: 0.5, SECOND: 0.05}, 0.06, [FIRST]),
    "and not before": ({FIRST: 0.5, SECOND: 0.05}, 0.04, [FIRST, SECOND]),
    "the cheaper of two that gain alike": ({SECOND: 0.3, SUM: 0.3}, 0.3, [SUM]),
    "what gains little is no bargain": ({SECOND: 0.3, SUM: 0.03}, 0.1, [SECOND]),
    "a GRU is mixed first": ({GRU: 0.4}, 0.2, [GRU]),
    "then float": ({GRU: 0.4}, 0.1, [GRU, GRU]),
}


def climbed(bench: Simulated, max_pesq_drop: float) -> Found:
    return climb._climb(bench, max_pesq_drop)


@pytest.mark.parametrize("name", PATHS)
def test_the_path(name: str, graph: Graph) -> None:
    losses, max_pesq_drop, raised = PATHS[name]
    found = climbed(Simulated(graph, losses), max_pesq_drop)
    assert [step.group for step in found.steps] == ["", *raised]
    shares = [step.int8_share for step in found.steps]
    assert shares == sorted(shares, reverse=True)
    assert found.steps[-1].d_pesq >= -max_pesq_drop
    assert len([r for r in found.recipe.rules if r.precision != "int8"]) == len(set(raised))


def test_macs_that_leave_int8_add_up(graph: Graph) -> None:
    found = climbed(Simulated(graph, {FIRST: 0.5, GRU: 0.4, SUM: 0.2}), 0.0)
    n_macs = sum(climb.count(graph)[i].macs_frame for i in range(len(graph.nodes)))
    left = sum(step.macs for step in found.steps[1:])
    assert found.steps[0].int8_share - found.steps[-1].int8_share == pytest.approx(left / n_macs)


def test_a_budget_that_cannot_be_met_is_one_line_with_what_was_reached(graph: Graph) -> None:
    with pytest.raises(Failure, match=r"no recipe loses at most 0\.01 PESQ: .* 0\.0300 may be lost; give") as failed:
        climbed(Simulated(graph, {FIRST: 0.5}, rest=0.03), 0.01)
    assert "\n" not in str(failed.value)


def test_luck_does_not_end_the_search() -> None:
    lucky = Score(("d_pesq", "snr_db"), ((0.5, 0.0), (-0.45, 0.0)) * 36)
    step = climb._step("", "int8", 0, 1.0, lucky)
    assert lucky.mean("d_pesq") > 0
    assert step.lost > 0.05


# --- the journal ----------------------------------------------------------------------------------------------------

SCORE = Score(("d_pesq", "snr_db"), ((-0.1, 30.0), (0.2, 1 / 3)))


def test_a_journal_gives_back_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "j.jsonl"
    Journal(path, "k").add("trial", SCORE)
    assert Journal(path, "k").scores == {"trial": SCORE}


def test_the_line_that_was_being_written_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path, "k")
    journal.add("whole", SCORE)
    journal.add("torn", SCORE)
    path.write_bytes(path.read_bytes()[:-9])
    again = Journal(path, "k")
    assert again.scores == {"whole": SCORE}
    again.add("torn", SCORE)
    assert Journal(path, "k").scores == {"whole": SCORE, "torn": SCORE}


def test_a_kill_when_a_search_is_taken_up_loses_nothing_that_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path, "k").add("whole", SCORE)
    Journal(path, "k").add("torn", SCORE)
    torn = path.read_bytes()[:-9]

    def take_up() -> int:
        Journal(path, "k")
        return 0

    status, n = -1, 0
    while status != 0:
        n += 1
        path.write_bytes(torn)
        status = ended(take_up, tmp_path, n).status
        assert Journal(path, "k").scores == {"whole": SCORE}, n
        assert [left.name for left in tmp_path.iterdir()] == ["j.jsonl"] or path.read_bytes() != torn, n


HEAD = json.dumps({"format": "edge-denoise search", "key": "k"}) + "\n"
BAD: dict[str, tuple[bytes, str]] = {
    "another": (HEAD.replace('"k"', '"other"').encode(), "is the journal of another search"),
    "text": (b"hello\n", "is the journal of another search"),
    "rows": (HEAD.encode() + b'{"trial": 1}\n', "is no journal of a search"),
    "json": (HEAD.encode() + b"what\n", "is no journal of a search"),
    "binary": (b"\xff\xfe\n", "is no journal of a search"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_this_search_s_is_left_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    content, words = BAD[name]
    path.write_bytes(content)
    with pytest.raises(Failure, match=words):
        Journal(path, "k")
    assert path.read_bytes() == content


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="name another --search-state"):
        Journal(tmp_path, "k")


# --- measuring ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(graph: Graph, pulled: tuple[Corpus, Corpus]) -> tuple[Heard, ...]:
    return validation.listen(emit_tflite(graph), *pulled, TINY)


def test_float_against_itself_loses_nothing(graph: Graph, heard: tuple[Heard, ...]) -> None:
    (score,) = validation.score([emit_tflite(graph)], heard)
    assert score.mean("d_pesq") == score.mean("d_si_sdr") == 0
    assert score.mean("fidelity") == pytest.approx(4.644, abs=1e-3)
    assert score.mean("snr_db") > 100
    assert len(score.clips) == len(heard)


def test_models_are_scored_in_order_and_alike_alone(graph: Graph, heard: tuple[Heard, ...], quantized: object) -> None:
    models = [emit_tflite(graph), emit_tflite(quantized.graph, quantized.plan)]
    both = list(validation.score(models, heard, figures=("snr_db",)))
    alone = [next(iter(validation.score([model], heard, figures=("snr_db",)))) for model in models]
    assert both == alone
    assert both[0].mean("snr_db") > both[1].mean("snr_db")


def test_silence_is_the_worst_there_is(heard: tuple[Heard, ...]) -> None:
    (h, *_) = heard
    silent = {name: figure(h, 0 * h.enhanced) for name, figure in validation.FIGURES.items()}
    assert silent["fidelity"] == silent["d_pesq"] + h.pesq == validation.WORST_PESQ
    assert silent["d_si_sdr"] + h.si_sdr_db == validation.NO_TRACE_DB
    assert silent["snr_db"] == 0


# --- as a user runs it ----------------------------------------------------------------------------------------------


def test_a_search_is_resumed_and_its_recipe_builds_the_same_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the first eight groups, one of which is enough."""
    monkeypatch.setattr(climb, "groups", lambda graph: groups(graph)[:8])
    state = tmp_path / "journal"
    effort = replace(TOY, mix=Mix(n_clips=2, clip_ms=1500), validation=TINY, n_again=2)
    asked = partial(toy, "rpi4", search=Search(max_pesq_drop=0.3, state=state), effort=effort)
    first = stages.build(asked(tmp_path / "a"), silent)
    assert first.report.search is not None
    start, *raised = first.report.search.path
    assert start.group == ""
    assert start.lost > 0.3 >= raised[-1].lost
    lines = state.read_text().splitlines(keepends=True)
    state.write_text("".join(lines[:-5]))  # killed on the way
    again = stages.build(asked(tmp_path / "b"), silent)
    assert (again.folder / "report.json").read_bytes() == (first.folder / "report.json").read_bytes()
    assert sorted(state.read_text().splitlines()) == sorted(line.rstrip("\n") for line in lines)
    found = Inputs(recipe=str(first.folder / "recipe.toml"))
    given = stages.build(toy("rpi4", tmp_path / "c", inputs=found, effort=effort), silent)
    for model in ("model.onnx", "model.tflite", "recipe.toml"):
        assert (given.folder / model).read_bytes() == (first.folder / model).read_bytes()


def test_ranges_and_a_search_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="leave --ranges out"):
        toy("rpi4", inputs=Inputs(ranges=tmp_path / "ranges.json"), search=Search(max_pesq_drop=0.1))
