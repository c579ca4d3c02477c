"""Limits, CI formats and comparisons: what is over is named, what changed adds up."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_runtime.errors import Failure, printable
from quant.audit import budget, compare, gates
from quant.audit.findings import BudgetPart
from quant.cli import main
from quant.network import sizes

PUBLISHED = budget.for_target(None)
VALUES = {gate.name: gate.value(PUBLISHED) for gate in gates.GATES}


def side(text: str, recipe: str | None = None) -> compare.Side:
    return compare.open_side(text, None, recipe)


def test_limits_judge_the_published_figures() -> None:
    assert (VALUES["max_params"], VALUES["max_published_macs"]) == (23_669, 32_998_378)
    assert VALUES["max_macs"] == pytest.approx(358_006 * 62.5)
    assert VALUES["max_state"] == 4 * (2 * 16 * 16 * 33 + 6 * 16 + 2 * 33 * 16)


@pytest.mark.parametrize("gate", gates.GATES, ids=lambda gate: gate.name)
def test_a_limit_that_is_met_holds_and_one_below_breaks(gate: gates.Gate) -> None:
    value = VALUES[gate.name]
    assert gates.gated(PUBLISHED, {gate.name: value}).fits
    over = gates.gated(PUBLISHED, {gate.name: value - 1})
    assert over.exceeded == (gate.name,)
    with pytest.raises(Failure, match=gate.title):
        gates.check(over, "x")


def test_no_limit_and_no_board_judge_nothing() -> None:
    assert gates.gated(PUBLISHED, {}).budget == ()


def judged() -> BudgetPart:
    return gates.gated(PUBLISHED, {"max_macs": 20e6, "max_params": 30e3, "max_state": 1.0})


def test_junit_has_a_case_a_line() -> None:
    suites = ElementTree.fromstring(gates.junit(judged(), "a <b> & 'c'"))
    assert suites.attrib == {"tests": "3", "failures": "2", "errors": "0"}
    (suite,) = suites
    failed = {case.get("name"): case.find("failure") for case in suite}
    assert [name for name, failure in failed.items() if failure is not None] == ["max_macs", "max_state"]
    assert "MACs a second, executed: 22,375,375 exceeds 20,000,000" in failed["max_macs"].get("message")


def test_github_has_an_annotation_a_line() -> None:
    lines = gates.github(judged(), "a:b,c%").splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::notice", "::error"]
    assert all(line.split("::")[1].endswith("title=quant budget a%3Ab%2Cc%25") for line in lines)
    assert lines[1].endswith("79%25; most in encoder.en_convs.2.tra.att_gru, 1,248")


NAMES = ["a\x1b[2Jb", "nul\0", "two\nlines", "return\r", "half \udc80 a sign", "not a sign \uffff", "a bell \x07]]>"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_what_a_ci_job_reads(name: str) -> None:
    """No control character in it either: a terminal may show it."""
    text = gates.junit(judged(), name)
    (suite,) = ElementTree.fromstring(text.encode())
    assert suite.get("name") == f"quant budget {printable(name)}"
    assert all(line.isprintable() for line in [*text.splitlines(), *gates.github(judged(), name).splitlines()])
    assert len(gates.github(judged(), name).splitlines()) == 3


# --- comparisons ------------------------------------------------------------------------------------------------


def test_a_network_against_itself_changes_nothing() -> None:
    found = compare.compare(side("default"), side("default"))
    assert not found.layers
    assert all(change.difference == 0 for change in found.totals.values())


@pytest.mark.parametrize("line", ["channels=12,dpgrnn=1", "kernel=3", "dilations=1,2,4,8", "low_bins=33,erb_bands=32"])
def test_the_layers_that_changed_add_up_to_the_totals(line: str) -> None:
    found = compare.compare(side("default"), side(line))
    assert found.layers
    for title, of_layer in (
        ("learned parameters", lambda row: row.n_learned),
        ("fixed numbers (ERB)", lambda row: row.n_fixed),
        ("published MACs a second", lambda row: row.published_macs),
        ("executed MACs a frame", lambda row: row.macs_frame),
        ("weight bytes", lambda row: row.weight_bytes),
        ("state bytes", lambda row: row.state_bytes),
    ):
        assert sum(of_layer(row).difference for row in found.layers) == found.totals[title].difference, title


def test_a_layer_that_is_gone_has_no_figures_after() -> None:
    found = compare.compare(side("default"), side("dpgrnn=1"))
    assert {row.name.split(".")[0] for row in found.layers} == {"dpgrnn2"}
    assert all(row.precision.after is None and c.after is None for row in found.layers for c in row.figures)


def test_a_recipe_changes_bytes_and_precisions_alone() -> None:
    found = compare.compare(side("default"), side("default", "static"))
    totals = {title: change.difference for title, change in found.totals.items()}
    assert totals["executed MACs a frame"] == totals["learned parameters"] == 0
    assert totals["weight bytes"] < 0 < totals["of them in 8 bits"]
    assert {row.precision for row in found.layers} == {("float", "int8"), ("float", "mixed")}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--compare", "default", "channels=12,dpgrnn=1", "--max-params", "20k"],
        ["--set", "channels=12", "--set", "dpgrnn=1", "--target", "rpizero2w"],
    ],
)
def test_within_the_limits_is_status_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", *arguments]) == 0
    assert main(["budget", *arguments, "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text[text.index("\n{") :])["fits"] is True


def test_the_limits_are_those_of_b(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", "--compare", "channels=12", "default", "--max-params", "20k", "--format", "github"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("::error title=quant budget default::learned parameters: 23,669 exceeds 20,000")
    assert err.count("\n") == 1


def test_a_folder_that_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"no manifest\.json in it"):
        side(str(tmp_path))


def test_a_side_is_called_as_it_is_typed_again() -> None:
    assert side("channels=16").name == sizes.DEFAULT
    assert side("dpgrnn=1,channels=12").name == "channels=12,dpgrnn=1"
