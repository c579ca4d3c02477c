"""The frame time of a board: estimates from counts, replaced by what was measured on it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

import boards
from edge_runtime.bench import BenchPart
from edge_runtime.errors import Failure
from quant.audit import frame_time
from quant.audit.frame_time import LIBRARY

PIS = ["rpizero2w", "rpi3", "rpi4", "rpi5"]
HOP = {"p50": 900.0, "p95": 950.0, "p99": 1000.0, "max": 1500.0, "mean": 905.0}
BENCH = {
    "engine": "onnx",
    "precision": "int8",
    "n_threads": 1,
    "n_frames": 2000,
    "frame_us": HOP,
    "hop_us": HOP,
    "rtf": 0.06,
    "load_ms": 30.0,
    "rss_bytes": 60_000_000,
    "machine": {"cpu": "Raspberry Pi 4 Model B Rev 1.4", "arch": "aarch64", "os": "Debian"},
}


@pytest.mark.parametrize("name", PIS)
def test_every_engine_and_precision_is_estimated(name: str):
    rows = frame_time.frame_times(boards.load(name))
    engines = ("native", "onnx", "tflite", LIBRARY)
    assert {(row.engine, row.precision) for row in rows} == {(e, p) for e in engines for p in ("int8", "fp32")}
    for row in rows:
        assert 0 < row.low_ms < row.high_ms
        assert row.n_instructions
        assert not row.measured
        assert "estimate" in row.source
        assert "estimate" in frame_time.sentence(row)
    assert [row.middle_ms for row in rows] == sorted(row.middle_ms for row in rows)


def test_low_and_high_follow_from_the_data():
    """Instructions x cycles an instruction / clock, to the digit."""
    row = next(r for r in frame_time.frame_times(boards.load("rpi4")) if (r.engine, r.precision) == (LIBRARY, "fp32"))
    assert row.n_instructions is not None
    assert row.low_ms == pytest.approx(row.n_instructions * 0.5 / 1500e3)
    assert row.high_ms == pytest.approx(row.n_instructions * 1.1 / 1500e3)


def test_faster_boards_are_faster():
    low = [frame_time.estimates(boards.load(name))[0].low_ms for name in PIS]
    assert low == sorted(low, reverse=True)


def test_of_an_unknown_core_nothing_is_claimed():
    assert frame_time.estimates(boards.load("host")) == []


def test_without_a_system_the_library_alone_is_estimated():
    board = boards.load("generic-c")
    rows = frame_time.estimates(board)
    assert {(row.engine, row.precision) for row in rows} == {(LIBRARY, "int8"), (LIBRARY, "fp32")}
    assert frame_time.engine_of(board) == LIBRARY
    assert frame_time.engine_of(boards.load("rpi4")) == "native"
    assert all("cortex-m7" in row.source and "estimate" in row.source for row in rows)


def test_a_bench_replaces_its_row():
    board = boards.load("rpi4")
    bench = msgspec.convert(BENCH, BenchPart)
    rows, guessed = frame_time.frame_times(board, [bench]), frame_time.frame_times(board)
    (measured,) = [row for row in rows if row.measured]
    assert (measured.engine, measured.low_ms, measured.high_ms) == ("onnx", 0.9, 1.0)
    assert measured.fits
    assert "Raspberry Pi 4" in measured.source
    assert len(rows) == len(guessed)
    assert [r for r in rows if not r.measured] == [r for r in guessed if (r.engine, r.precision) != ("onnx", "int8")]


NO_BENCH = ["", "[]", "{}", '{"rows": 3}', '{"rows": []}', '{"engine": "onnx"}', '{"rows": [{}]}', "[" * 10_000]


@pytest.mark.parametrize("text", NO_BENCH)
def test_what_is_no_bench_is_refused(tmp_path: Path, text: str):
    (tmp_path / "bench.json").write_text(text)
    with pytest.raises(Failure, match=r"is not a bench .*edge-denoise bench --json"):
        frame_time.read_bench(tmp_path / "bench.json")


@pytest.mark.parametrize("printed", [BENCH, {"rows": [BENCH], "failed": [], "machine": BENCH["machine"]}, [BENCH]])
def test_a_bench_is_of_one_engine_of_all_or_a_list(tmp_path: Path, printed: object):
    """As `edge-denoise bench --json` prints it with and without --engine, and as people collect it."""
    (tmp_path / "bench.json").write_text(json.dumps(printed))
    assert frame_time.read_bench(tmp_path / "bench.json") == [msgspec.convert(BENCH, BenchPart)]


def test_a_bench_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(Failure, match="cannot be read"):
        frame_time.read_bench(tmp_path / "absent.json")
