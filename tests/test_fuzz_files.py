"""Seconds of `make fuzz` on files: bundles as a board takes them, reports as their page is made."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import fuzz_files
import pytest

from quant.report.page import whole

N_BUNDLES, N_REPORTS = 120, 60


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_bundle_is_what_was_signed_and_packed_or_refused_in_one_line(in_memory: Path) -> None:
    found = Counter(fuzz_files.a_bundle(random.Random(f"bundle {n}"), in_memory) for n in range(N_BUNDLES))
    assert min(found["accepted"], found["refused"]) > 2, found


def test_a_report_is_drawn_without_markup_of_its_names_or_refused_in_one_line(
    rpi4: Path, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("memory", "histograms", "quality", "clips", "snr", "pareto")
    monkeypatch.setattr(whole, "_pictures", lambda report: dict.fromkeys(names))  # they take a second
    good = json.loads((rpi4 / "report.json").read_text())
    found = Counter(fuzz_files.a_report(random.Random(f"report {n}"), in_memory, good) for n in range(N_REPORTS))
    assert min(found["accepted"], found["refused"]) > 2, found
