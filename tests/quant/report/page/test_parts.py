"""What the page says in its parts: axes, figures, map, waterfall, sides, hard input."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from report_parts import bench_row, evaluation, hard_row, with_parts

import boards
from quant.audit import frame_time
from quant.quality.results import RobustnessRow, title
from quant.report import regressions, remake, verdict
from quant.report.page import delays, first, hard, network, pictures, sides, whole, words
from quant.report.schema import Report

NUMBERS = [
    (words.signed(-0.0039, 3), "−0.004"),
    (words.signed(0.0028, 3), "+0.003"),
    (words.signed(-0.0004, 3), "0.000"),
    (frame_time.span(0.1307, 0.2871), "0.13 to 0.29"),
    (frame_time.span(1.0, 1.04), "1.0"),
    (frame_time.span(5.7, 120.4), "5.7 to 120"),
    (frame_time.span(11.42, 15.51), "11.4 to 15.5"),
    (words.percent(0), "0%"),
    (words.percent(0.013), "1.3%"),
    (words.kilobytes(56_272), "55.0 KB"),
    (words.decibels(200), "exact"),
    (words.with_minus("-0.004 on 2026-11-25, bench --json, -5 … -10"), "−0.004 on 2026-11-25, bench --json, −5 … −10"),
]


@pytest.mark.parametrize(("found", "wanted"), NUMBERS)
def test_figures_read_as_people_write_them(found: str, wanted: str) -> None:
    assert found == wanted


def test_a_log_axis_has_plain_decades() -> None:
    axis = words.LogAxis.around(0.13, 3.2, 16)
    assert [text for text, _ in axis.ticks()] == ["0.1", "1", "10", "100"]
    assert [at for _, at in axis.ticks()] == [0, 33.33, 66.67, 100]
    assert sides.bar(axis, (1, 10)) == (33.33, 33.34)


def test_log_ticks_of_pictures_are_plain_too(built: Report) -> None:
    for picture in (pictures.pareto(built), pictures.histograms(built)):
        assert picture is not None
        assert "10^" not in picture.svg
        assert "mathdefault" not in picture.svg


# --- the first screen ---------------------------------------------------------------------------------------------


def test_the_five_figures_each_say_where_they_come_from(built: Report) -> None:
    found = {f.name: f for f in first.figures(built)}
    assert list(found) == ["Time a hop", "Cost of 8 bits", "Flash", "RAM", "Delay"]
    assert found["Time a hop"].origin == "estimated for Raspberry Pi 4 Model B"
    assert (found["Cost of 8 bits"].value, found["Cost of 8 bits"].unit) == ("−0.011", "PESQ")
    assert found["Cost of 8 bits"].origin == "measured by edge-denoise, 2026-11-29"
    assert found["Flash"].value == f"{built.files['model.native'].bytes / 1024:.1f}"
    assert found["RAM"].value == f"{verdict.ram_bytes(built) / 1024:.1f}"
    assert (found["Delay"].value, "45 ms" in found["Delay"].detail) == ("32", True)


def test_own_measurements_take_the_place_of_what_came_with_the_default(built: Report) -> None:
    rows = [bench_row(engine="native")]
    own = with_parts(built, clips=[], benches=rows, quality=evaluation(-0.03) | {"date": "2026-12-01"})
    found = {f.name: f for f in first.figures(own)}
    assert found["Time a hop"].origin == "measured on Raspberry Pi 4 Model B Rev 1.4"
    assert found["Cost of 8 bits"].value == "−0.030"
    assert found["Cost of 8 bits"].origin == "measured by you, 2026-12-01"


def test_what_nobody_knows_is_a_question_mark(built: Report) -> None:
    unknown = with_parts(built, clips=[], shipped=None, estimates=[])
    assert [f.value for f in first.figures(unknown)][:2] == ["?", "?"]


def test_figures_have_an_arrow_against_an_older_artifact(built: Report) -> None:
    files = msgspec.to_builtins(built.files)
    files["model.native"]["bytes"] //= 2
    changed = with_parts(built, clips=[], history=regressions.compare(with_parts(built, files=files), built, "old"))
    size = next(f for f in first.figures(changed) if f.name == "Flash")
    assert size.change is not None
    assert size.change.regressed
    assert "▲ +100.0%, worse than allowed" in whole.render(changed, []).decode()


def test_the_headline_names_what_keeps_it_from_more(built: Report) -> None:
    assert first.headline(built).startswith("Good to try, with a caution: Is it fast enough?")


# --- side by side -------------------------------------------------------------------------------------------------


def test_every_engine_and_precision_is_one_row(built: Report) -> None:
    rows = {(r.engine, r.precision): r for r in sides.engines(built)}
    assert next(iter(rows)) == ("native", "int8"), "what the board runs"
    assert len(rows) == 6
    for (engine, precision), row in rows.items():
        assert row.ms is not None
        assert (row.pesq is not None) == (precision == "int8"), engine
        assert (row.int8_share > 0.5) == (precision == "int8")


def test_an_engine_has_one_name(built: Report) -> None:
    """The library is native, called from C."""
    html = whole.render(with_parts(built, clips=[]), []).decode()
    assert "native from C int8" in html
    assert "libedge_denoise" not in html


def test_a_bench_of_another_machine_is_listed_and_changes_no_row(built: Report) -> None:
    pc = {"cpu": "AMD EPYC", "arch": "x86_64", "os": "Debian", "n_cores": 2}
    with_bench = with_parts(built, clips=[], benches=[bench_row(engine="native", machine=pc)])
    assert sides.engines(with_bench) == sides.engines(built)
    assert first.figures(with_bench)[0] == first.figures(built)[0]
    assert "AMD EPYC, x86_64" in whole.render(with_bench, []).decode()


def test_a_source_of_estimates_is_told_once(built: Report) -> None:
    html = whole.render(with_parts(built, clips=[]), []).decode()
    assert html.count("llvm-mca") == len({e.source for e in built.estimates if "llvm-mca" in e.source})


# --- the network --------------------------------------------------------------------------------------------------


def test_the_map_holds_every_mac_once_in_the_order_of_the_network(built: Report) -> None:
    found = network.stages(built)
    assert [stage.title for stage in found] == ["features, ERB", "encoder", "DPGRNN", "decoder", "ERB, enhanced"]
    assert sum(stage.macs for stage in found) == built.budget.totals.macs_frame
    for box in (box for stage in found for box in stage.boxes):
        assert sum(box.shares.values()) == pytest.approx(1 if box.macs else 0), box.title


def test_the_map_is_of_any_network(built: Report) -> None:
    """Names of layers are all that it goes by."""
    counted = msgspec.to_builtins(built.budget)
    for layer in counted["layers"]:
        layer["name"] = layer["name"].replace("encoder.en_convs", "front.blocks").replace("dpgrnn", "middle.")
    found = network.stages(with_parts(built, clips=[], budget=counted, losses=[]))
    assert [stage.title for stage in found] == ["features, ERB", "front", "middle", "decoder", "ERB, enhanced"]
    assert [box.title for box in found[2].boxes] == ["middle 1", "middle 2"]


def test_the_waterfall_adds_up_to_what_the_output_lost(built: Report) -> None:
    steps = network.waterfall(built)
    assert steps[0].title == "all weights"
    assert sum(step.share for step in steps) == pytest.approx(100, abs=0.2)
    for before, after in pairwise(steps):
        assert after.start == pytest.approx(before.start + before.share, abs=0.02)
    assert sum(step.named for step in steps) == 5
    assert min(s.share for s in steps if s.named) >= max(s.share for s in steps if not s.named)
    output = next(row for row in built.accuracy if row.tap == "enhanced")
    assert network.output_db(built) == pytest.approx(output.cumulative_sqnr_db, abs=0.05)


def test_a_waterfall_that_rises_above_its_end_stays_on_the_page(built: Report) -> None:
    """A later block takes away what earlier ones added: the second network does so."""
    noises = [0.2, 1.1, -0.5, 0.2]
    losses = [{"block": part.block, "noise": noise} for part, noise in zip(built.losses, noises, strict=False)]
    own = with_parts(built, clips=[], losses=losses)
    steps = network.waterfall(own)
    assert [step.share for step in steps] == [20, 110, -50, 20]
    assert all(step.left >= 0 and step.left + step.width <= 100.02 for step in steps)
    assert steps[2].left + steps[2].width == pytest.approx(100, abs=0.02), "it goes back from where it stood"
    assert sum(network.whole_bar(steps)) == pytest.approx(steps[3].left + steps[3].width, abs=0.05)


def test_a_report_of_before_the_waterfall_is_drawn_without_it(built: Report) -> None:
    html = whole.render(with_parts(built, clips=[], losses=[], boards=[]), []).decode()
    assert "Where the output lost" not in html


# --- the rest -----------------------------------------------------------------------------------------------------


def test_the_ladder_of_delays_adds_up() -> None:
    steps = delays.ladder()
    assert [step.ms for step in steps] == [16, 16, 1, 12]
    assert delays.total_ms() == 45
    assert delays.IN_SOUND_MS == 32


def robustness_row(**changes: Any) -> RobustnessRow:
    return msgspec.convert(hard_row(True) | changes, RobustnessRow)


def test_hard_input_is_drawn_as_the_distance_to_the_nearest_bound() -> None:
    rows = [
        robustness_row(),
        robustness_row(quantity="change in SI-SDR", value=-3.0, bound=-4, is_upper=False),
        robustness_row(system="onnx int8", value=None, ok=False),
        robustness_row(stimulus="impulses", value=-4.0, ok=False),
    ]
    found = hard.rows(rows)
    assert [row.stimulus for row in found] == ["tone 440 Hz", "impulses"], "nearest first"
    assert [mark.distance_db for mark in found[0].marks] == [1.0, None]
    assert (found[1].nearest_db, found[1].ok) == (-2.0, False)
    assert hard.at(-200) == 0
    assert hard.at(110) == 100


def test_no_title_of_a_metric_begins_small() -> None:
    assert all(title(name)[0].isupper() for name in ("pesq", "stoi", "sisdr", "dnsmos_ovrl"))


def test_boards_are_drawn_by_name_and_the_own_is_marked(built: Report) -> None:
    html = whole.render(with_parts(built, clips=[]), []).decode()
    for name in set(boards.names()) - {"host"}:
        assert boards.load(name).title in html
    assert remake.HTML_FILE == "report.html"


def test_clips_are_counted_in_whole_numbers(built: Report) -> None:
    means, lost = {"pesq": 2.0}, {"pesq": {"mean": -0.01, "low": -0.02, "high": 0.0}}
    systems = [
        {"system": "native int8", "n_clips": 4, "means": means, "against": "native fp32", "differences": lost},
    ]
    by_clip = [{"clip": f"{k}.wav", "system": "native int8", "differences": {"pesq": -0.01 * k}} for k in range(4)]
    own = with_parts(built, clips=[], quality={"systems": systems, "by_clip": by_clip})
    picture = pictures.by_clip(own)
    assert picture is not None
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", picture.svg)
    assert {"1", "2", "3", "4"} <= set(texts)
    assert not {"1.0", "1.5", "2.5"} & set(texts)
