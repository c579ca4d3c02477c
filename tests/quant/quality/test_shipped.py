"""What was measured of the default is what the dated pages say, and of the default alone."""

from __future__ import annotations

import hashlib
import re

import pytest
from places import ROOT

from quant.inputs import trained
from quant.network import registry
from quant.quality import shipped
from quant.quality.shipped import ShippedPart

MEASURED = ("gtcrn", "ul-unas")


def cells(page: str, first: str) -> list[list[str]]:
    """The rows of a page's tables that begin so."""
    lines = (ROOT / "docs" / "measured" / page).read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[0].startswith(first)]


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"[-+]?\d*\.?\d+", text)]


def part(name: str) -> ShippedPart:
    """What was measured of the trained default of a network."""
    embedded = trained.load(trained.embedded(registry.load(name)))
    found = shipped.measured_of(embedded.sha256, hashlib.sha256(embedded.header.ranges.to_json()).hexdigest())
    assert found is not None
    return found


@pytest.mark.parametrize("name", MEASURED)
def test_it_is_of_the_embedded_weights_and_ranges(name: str) -> None:
    found = part(name)
    assert found in shipped.read()
    assert shipped.measured_of("0" * 64, found.ranges_sha256) is None
    assert shipped.measured_of(found.weights_sha256, "0" * 64) is None


PAGES = {"gtcrn": "2026-11-28-quality.md", "ul-unas": "2026-11-29-ul-unas.md"}
SYSTEMS = ("fp32", "native int8", "onnx int8", "tflite int8")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", MEASURED)
def test_means_and_losses_are_those_of_the_dated_page(name: str, system: str) -> None:
    found = next(s for s in part(name).systems if s.system == system)
    row = next(row for row in cells(PAGES[name], system) if row[0] == system)
    for metric, mean, difference in zip(("pesq", "stoi", "sisdr"), row[1::2], row[2::2], strict=True):
        assert [found.means[metric]] == numbers(mean)
        d = found.differences.get(metric)
        assert ([] if d is None else [d.mean, d.low, d.high]) == numbers(difference)
    assert f"docs/measured/{PAGES[name]}" in part(name).pages


def test_every_bound_of_the_dated_page_is_there_and_holds() -> None:
    found = part("gtcrn").robustness
    assert all(row.ok for row in found)
    page = [row for row in cells(PAGES["gtcrn"], "") if len(row) == 4 and row[0] not in ("input", "--")]
    wanted = [(row[0], row[1], *numbers(row[2]), *numbers(row[3])) for row in page if row[1] != "two roundings"]
    assert [(row.stimulus, row.quantity, row.value, row.bound) for row in found] == wanted
