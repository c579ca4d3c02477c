"""`quant budget`: counts and verdicts, for people, for programs, for a CI job."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest
from places import ROOT
from quant_desk import main, refuses

from quant.cli.budget import amount
from quant.inputs import trained


def budget(target: str, *more: str) -> list[str]:
    return ["budget", "--target", target, *more]


BAD = [
    ("nothing to judge", ["budget", "--format", "junit"], "nothing to judge; give --target, or a limit"),
    ("two formats", budget("host", "--format", "junit", "--json"), "two formats"),
    ("an impossible network", ["budget", "--set", "channels=14"], "no such network: 14 channels do not split"),
    ("sizes of a checkpoint", budget("host", "--checkpoint", "good.pt", "--set", "channels=12"), "its own sizes"),
    ("nothing to compare", ["budget", "--compare", "default", "smaller"], "no network 'smaller'; name an artifact"),
    ("a limit", ["budget", "--max-params", "20k"], "learned parameters: 23,669 exceeds 20,000, 118%"),
]


@pytest.mark.parametrize(("argv", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_cannot_be_judged_or_is_too_much_is_one_line(desk, capfd, argv, message):
    refuses(argv, 1, message, capfd)


TINY = [
    ("n_parameters", "parameters: 48,245 exceeds 1"),
    ("mmacs_per_s", "MMAC/s: 22.39 exceeds 1"),
    ("model_bytes", "flash bytes: 55,088 exceeds 1"),
]


@pytest.mark.parametrize(("limit", "message"), TINY, ids=[row[0] for row in TINY])
def test_over_a_boards_budget_the_table_is_printed_too(desk, capfd, limit, message):
    host = (ROOT / "boards" / "host.toml").read_text()
    Path("tiny.toml").write_text(re.sub(rf"(?s)(\[budget\].*?\n{limit} = )\S+", r"\g<1>1", host))
    assert main(budget("tiny.toml")) == 1
    out, err = capfd.readouterr()
    assert out.startswith("exceeds the budget of tiny\n"), "the answer comes first"
    assert message in err
    assert main(budget("tiny.toml", "--json")) == 1
    assert json.loads(capfd.readouterr().out)["exceeded"] == [limit]


def test_budget_counts_what_build_makes_and_says_the_answer_first(capfd):
    assert main(budget("rpi4")) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "fits rpi4"
    assert "flash bytes: 55,088 of at most" in lines[3], "the file of the trained default in 8 bits"
    assert any("23.67 K learned (48.2 K with ERB), 33.0 MMAC/s" in line for line in lines)
    assert any(line.startswith("executed: ") and line.endswith("81% in int8") for line in lines)
    (total,) = (line for line in lines if line.startswith("total"))
    assert {"48,245", "100.0%", "32.998"} <= set(total.split())
    assert sum(line.startswith("encoder.en_convs.2 ") for line in lines) == 1, "a row a block"
    assert main(budget("rpi4", "--layers")) == 0
    assert "\nencoder.en_convs.2.point_bn1 " in capfd.readouterr().out


PLANNED = [
    ([], "81% in int8"),
    (["--recipe", "float"], "0% in int8"),
    (["--set", "channels=12"], "80% in int8"),
    (["--set", "dilations=1,2"], "0% in int8"),
    (["--set", "dilations=1,2", "--recipe", "float"], "0% in int8"),
]


@pytest.mark.parametrize(("more", "share"), PLANNED, ids=[" ".join(more) for more, _ in PLANNED])
def test_what_is_not_told_is_planned_as_build_would(more, share, capfd):
    assert main(["budget", *more]) == 0
    out, err = capfd.readouterr()
    assert share in out
    said = "quant: counted in float: static: names the layers of 3 GT-conv blocks, this has 2; copy it"
    assert err.startswith(said if more == ["--set", "dilations=1,2"] else "")
    assert bool(err) == (more == ["--set", "dilations=1,2"])


def test_two_networks_are_planned_alike(capfd):
    assert main(["budget", "--compare", "default", "dilations=1,2"]) == 0
    out, err = capfd.readouterr()
    assert "counted in float" in err
    assert re.search(r"of them in 8 bits +0 +0 +=", out)
    assert re.search(r"\d+ layers differ: --layers prints them\n$", out)
    assert main(["budget", "--compare", "default", "channels=12", "--layers"]) == 0
    assert re.search(r"\n *encoder\.en_convs\.1\.bn .* 21,120 > 11,880", capfd.readouterr().out)


def test_budget_estimates_the_trained_default_and_no_other_size(capfd):
    embedded = ["budget", "--target", "rpi4", "--checkpoint", str(trained.embedded())]
    rows = [(embedded, 1), ([*embedded, "--layers"], 8), (["budget", "--target", "rpi4", "--set", "channels=12"], 0)]
    for command, n_rows in rows:
        assert main(command) == 0
        assert capfd.readouterr().out.count("estimate a hop") == n_rows


def test_budget_as_json(desk, capfd):
    assert main(budget("rpi4", "--checkpoint", "good.pt", "--json")) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["fits"] is True
    assert (report["published"]["n_learned"], report["published"]["macs"]) == (23_669, 32_998_378)
    assert sum(layer["macs_frame"] for layer in report["layers"]) == report["totals"]["macs_frame"]


AMOUNTS = [
    ("48000", 48_000), ("20k", 20_000), ("30M", 30e6), ("1.5M", 1.5e6), ("0.5G", 5e8), ("64Ki", 65_536), ("1Mi", 2**20),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), AMOUNTS)
def test_a_limit_may_have_a_unit(text, value):
    assert amount(text) == value


@pytest.mark.parametrize("text", ["", "k", "0", "-3", "3m", "3 k", "nan", "inf", "1kk", "1e6", "1e400"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number such as 48000, 48k, 30M or 64Ki"):
        amount(text)
