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


@pytest.mark.parametrize(("engine", "called"), [("onnx", "ONNX"), ("tflite", "TFLite"), ("native", "native")])
def test_the_losses_are_those_of_the_dated_page(engine: str, called: str) -> None:
    rows = cells("2026-11-25-quality.md", "streaming ONNX (**the default**)")
    row = next(row for row in rows if row[1] == f"trained, {called}")
    found = next(s for s in part("gtcrn").systems if s.system == f"{engine} int8")
    assert found.means == {"pesq": float(row[2])}
    for metric, cell in (("pesq", row[3]), ("sisdr", row[5]), ("dnsmos_ovrl", row[6])):
        d = found.differences[metric]
        assert [d.mean, d.low, d.high] == numbers(cell), metric


def test_the_reference_and_the_noisy_recordings_are_those_of_the_dated_page() -> None:
    means = {s.system: s.means["pesq"] for s in part("gtcrn").systems}
    default = cells("2026-11-25-quality.md", "streaming ONNX (**the default**)")
    assert means["fp32"] == float(default[0][2])
    noisy = next(row for row in cells("2026-11-25-quality.md", "") if row[1:2] == ["noisy"])
    assert means["noisy"] == float(noisy[2])


def test_every_bound_of_the_dated_page_is_there_and_holds() -> None:
    found = part("gtcrn").robustness
    assert all(row.ok for row in found)
    page = [row for row in cells("2026-11-25-robustness.md", "") if len(row) == 5 and row[0] not in ("input", "--")]
    wanted = [(row[0], v, b) for row in page for v, b in zip(numbers(row[2]), numbers(row[4]), strict=True)]
    assert [(row.stimulus, row.value, row.bound) for row in found] == wanted


def test_the_second_network_is_as_on_its_dated_page() -> None:
    found = {s.system: s for s in part("ul-unas").systems}
    for system in ("fp32", "native int8"):
        row = next(row for row in cells("2026-11-28-ul-unas.md", system) if row[0] == system)
        for metric, mean, difference in zip(("pesq", "stoi", "sisdr"), row[1::2], row[2::2], strict=True):
            assert [found[system].means[metric]] == numbers(mean)
            d = found[system].differences.get(metric)
            assert ([] if d is None else [d.mean, d.low, d.high]) == numbers(difference)
