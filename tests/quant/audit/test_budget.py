"""Budget: the table adds up, each line can break alone, and nothing heavy is imported to say so."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

import boards
from edge_runtime.errors import Failure
from edge_runtime.native import Stream
from quant.audit import budget, budget_table, gates
from quant.audit.findings import BudgetPart
from quant.audit.footprint import Footprint
from quant.emit.native.emitter import emit_native
from quant.inputs import trained
from quant.inputs.checkpoint import Checkpoint
from quant.int8.plan import make_plan, prepare
from quant.int8.recipe import load
from quant.network.gtcrn import Config, blank
from quant.network.passes import streaming_graph

NETWORK = blank()
RPI4 = boards.load("rpi4")
REPORT = budget.report(RPI4, NETWORK)


def int8_report() -> BudgetPart:
    prepared, precision = prepare(streaming_graph(NETWORK), load("static"))
    return budget.report(RPI4, NETWORK, precision, streaming=prepared)


def board(**limits) -> boards.Board:
    return msgspec.structs.replace(RPI4, budget=msgspec.structs.replace(RPI4.budget, **limits))


@pytest.mark.parametrize("name", boards.names())
def test_the_published_network_fits_every_board(name):
    report = budget.report(boards.load(name), NETWORK)
    assert report.fits
    assert not report.exceeded
    gates.check(report, name)


def test_layers_add_up_to_the_totals():
    assert sum(row.share for row in REPORT.layers) == pytest.approx(1)
    assert sum(row.n_parameters for row in REPORT.layers) == REPORT.published.n_parameters == 48_245
    assert sum(row.published_macs for row in REPORT.layers) == REPORT.published.macs == 32_998_378
    assert sum(row.macs_frame for row in REPORT.layers) == REPORT.totals.macs_frame


def test_the_published_figures_name_their_convention():
    assert budget_table.published(REPORT.published) == (
        "as published: 23.67 K learned (48.2 K with ERB), 33.0 MMAC/s, ptflops 0.7 over 63 frames"
    )


TOTALS = REPORT.totals


@pytest.mark.parametrize(
    ("limits", "line", "value", "layer"),
    [
        ({"n_parameters": 48_244}, "n_parameters", 48_245, "erb.bands"),
        ({"mmacs_per_s": 20.0}, "mmacs_per_s", TOTALS.mmacs_per_s, "dpgrnn1.inter_rnn"),
        ({"model_bytes": TOTALS.weight_bytes - 1}, "model_bytes", TOTALS.weight_bytes, "erb.bands"),
        (
            {"ram_bytes": TOTALS.ram_bytes - 1, "model_bytes": TOTALS.weight_bytes},
            "ram_bytes",
            TOTALS.ram_bytes,
            "erb.bands",
        ),
    ],
)
def test_the_line_that_broke_is_named_with_its_largest_layer(limits, line, value, layer):
    report = budget.report(board(**limits), NETWORK)
    (broken,) = (each for each in report.budget if each.exceeded)
    assert (broken.name, broken.value, broken.largest_layer) == (line, value, layer)
    with pytest.raises(Failure) as caught:
        gates.check(report, "here")
    message = str(caught.value)
    assert broken.sentence in message
    assert layer in broken.sentence
    assert (report.fits, report.exceeded) == (False, (line,))
    assert "\n" not in message


def test_a_limit_that_is_met_exactly_holds():
    limits = {
        "n_parameters": 48_245,
        "model_bytes": TOTALS.weight_bytes,
        "ram_bytes": TOTALS.ram_bytes,
        "mmacs_per_s": TOTALS.mmacs_per_s,
    }
    assert not budget.report(board(**limits), NETWORK).exceeded


def test_every_broken_line_is_in_the_failure():
    report = budget.report(board(n_parameters=1, mmacs_per_s=1.0, model_bytes=1, ram_bytes=1), NETWORK)
    assert len(report.exceeded) == 4
    with pytest.raises(Failure) as caught:
        gates.check(report, "here")
    assert all(line.title in str(caught.value) for line in report.budget)


def test_int8_changes_bytes_and_no_macs():
    report = int8_report()
    assert report.totals.macs_frame == REPORT.totals.macs_frame
    assert report.totals.weight_bytes < REPORT.totals.weight_bytes
    assert report.totals.state_bytes < REPORT.totals.state_bytes
    assert 0.5 < report.totals.int8_share < 1
    assert REPORT.totals.int8_share == 0
    assert report.published == REPORT.published


def test_the_report_is_json():
    read = json.loads(json.dumps(msgspec.to_builtins(REPORT)))
    assert read["fits"] is True
    assert read["exceeded"] == []
    assert read["published"]["macs"] == 32_998_378
    assert (read["published"]["n_learned"], read["published"]["n_fixed"]) == (23_669, 24_576)
    assert read["totals"]["macs_frame"] == sum(layer["macs_frame"] for layer in read["layers"])
    assert sum(layer["n_parameters"] for layer in read["layers"]) == 48_245
    first = next(layer for layer in read["layers"] if layer["name"] == "encoder.en_convs.0.bn")
    assert first["shape"] == [16, 65]
    lines = [line["name"] for line in read["budget"]]
    assert lines == ["n_parameters", "mmacs_per_s", "model_bytes", "ram_bytes"]


@pytest.mark.parametrize("make", [lambda: REPORT, int8_report], ids=["float", "int8"])
def test_every_layer_that_counts_has_a_row_and_a_share_in_its_block(make):
    report = make()
    rows = budget_table.layer_rows(report)
    assert {row[0] for row in rows[:-2]} == {layer.name for layer in report.layers if not layer.quiet}
    assert all(len(row) == len(budget_table.HEADINGS) for row in rows)
    *blocks, total = budget_table.block_rows(report)
    assert all(len(row) == len(budget_table.BLOCK_HEADINGS) for row in (*blocks, total))
    for column in (1, 2, 6, 7):
        assert sum(int(row[column].replace(",", "")) for row in blocks) == int(total[column].replace(",", ""))
    names = [row[0] for row in blocks]
    assert len(set(names)) == len(names) == 16
    assert {"erb.bands", "encoder.en_convs.4", "dpgrnn1", "decoder.de_convs.0", "erb.mask"} < set(names)


def test_zero_weights_are_told_where_there_are_any():
    for n_zero, told in ((0, ""), (5, f" ({TOTALS.macs_frame - 5:,} without zero weights)")):
        totals = msgspec.structs.replace(TOTALS, nonzero_macs_frame=TOTALS.macs_frame - n_zero)
        assert budget_table.executed(totals).startswith(
            f"executed: {TOTALS.macs_frame:,} MACs a frame{told}, 22.4 MMAC/s"
        )


# --- flash and RAM ------------------------------------------------------------------------------------------------


def test_flash_and_ram_are_the_c_engines_own():
    data = stages_model()
    held = Footprint.of(data)
    assert (held.model_bytes, held.stream_bytes) == (len(data), Stream(data).n_bytes)
    on_pi, on_chip = (held.needed(TOTALS, boards.load(name)) for name in ("rpi4", "generic-c"))
    assert (on_pi.flash_bytes, on_pi.ram_bytes) == (len(data), len(data) + held.stream_bytes)
    assert (on_chip.flash_bytes, on_chip.ram_bytes) == (len(data), held.stream_bytes), "weights stay in flash"


def stages_model() -> bytes:
    """The file that the trained default makes."""
    source = trained.load(trained.embedded())
    prepared, precision = prepare(source.graph, source.header.recipe)
    return emit_native(prepared, make_plan(prepared, precision, source.header.ranges)).data


def test_the_trained_default_is_counted_by_the_file_that_a_build_makes():
    totals = budget.for_target("rpi4", trained.embedded()).totals
    assert (totals.flash_bytes, totals.ram_bytes) == (len(data := stages_model()), len(data) + Stream(data).n_bytes)


def test_a_network_without_weights_has_the_flash_of_one_with_them(official, quantized):
    """Within 3 %: what is equal is stored once, and drawn weights are equal elsewhere than trained ones."""
    real = len(emit_native(quantized.graph, quantized.plan).data)
    assert budget.for_target(None, recipe="static").totals.flash_bytes == pytest.approx(real, rel=0.03)


def test_what_the_c_engine_does_not_take_is_counted_as_it_is_planned():
    totals = budget.for_target(None, config=Config(dilations=(1, 65))).totals
    assert totals.flash_bytes == 0
    assert totals.ram_bytes == totals.weight_bytes + totals.state_bytes + totals.peak_activation_bytes
    assert "does not take" in budget_table.held(totals)


def test_a_target_is_counted_as_its_recipe_plans():
    assert budget.for_target("rpi4").layers == REPORT.layers
    assert budget.for_target("rpi4", recipe="static").layers == int8_report().layers


def test_a_checkpoint_is_counted_by_its_own_weights(monkeypatch):
    """A pruned layer shows in the MACs without zero weights, and only there."""
    name = "dpgrnn1.intra_fc.weight"
    sparse = NETWORK.params | {name: 0 * NETWORK.params[name]}
    monkeypatch.setattr("quant.inputs.checkpoint.load", lambda path, *_: Checkpoint("any.tar", "", sparse))
    totals = budget.for_target("rpi4", "any.tar").totals
    assert totals.nonzero_macs_frame == TOTALS.nonzero_macs_frame - 16 * 16 * 33
    assert totals.macs_frame == TOTALS.macs_frame


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rpi9",), "unknown board 'rpi9'"),
        (("rpi4", None, "statik"), "unknown recipe 'statik'"),
        (("rpi4", "missing.tar"), "missing.tar"),
    ],
)
def test_what_is_unknown_fails_in_one_line(arguments, message):
    with pytest.raises(Failure, match=message):
        budget.for_target(*arguments)


def test_counting_imports_nothing_heavy():
    heavy = "{'torch', 'onnx', 'onnxruntime', 'ai_edge_litert', 'rich'}"
    code = (
        "import sys; from quant.audit import budget; budget.for_target('rpi4', recipe='static'); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
