"""`make bench`: what is measured, as a table."""

from __future__ import annotations

from edge_runtime.bench import Spread
from edge_runtime.machine import Machine
from quant.cli.bench import BuiltQuality, Measured, markdown, ratio
from quant.quality.results import Difference, SystemPart
from quant.report.schema import FileSize

MEANS = {"pesq": 2.5, "stoi": 0.9, "sisdr": 11.25}
DIFFERENCES = {name: Difference(mean=-0.01, low=-0.02, high=0.0) for name in MEANS}
TIMES = {
    "official": Spread(p50=400.0, p95=500.0, p99=600.0, max=700.0, mean=410.0),
    "native int8": Spread(p50=100.0, p95=120.0, p99=130.0, max=140.0, mean=101.0),
}


def systems() -> tuple[SystemPart, ...]:
    float_ = SystemPart(system="float", n_clips=3, means=MEANS, against=None, differences={})
    return float_, SystemPart(system="int8", n_clips=3, means=MEANS, against="float", differences=DIFFERENCES)


def test_the_table_has_a_row_a_system_and_a_row_a_time():
    built = BuiltQuality(
        checkpoint="m.tar",
        recipe="static",
        build_s=1.0,
        files={"model.int8.onnx": FileSize(bytes=9, constant_bytes=8)},
        int8_share={"onnx": 0.5},
        n_pairs=3,
        systems=systems(),
    )
    machine = Machine(cpu="a CPU", arch="x86_64", os="an OS")
    found = Measured(date="2026-01-02", machine=machine, target="rpi4", quality=(built,), times=TIMES)
    lines = markdown(found).splitlines()
    assert lines[0] == "Measured 2026-01-02 on a CPU (an OS), target rpi4, one thread."
    assert "| m.tar, static, 3 clips | float | 2.500 | 0.9000 | 11.25 |  |  |  |" in lines
    differs = "-0.0100 (-0.0200 … +0.0000) | -0.0100 | -0.01"
    assert f"| m.tar, static, 3 clips | int8 | 2.500 | 0.9000 | 11.25 | {differs} |" in lines
    assert lines[-2:] == ["| official | 400 | 500 | 1.000 |", "| native int8 | 100 | 120 | 0.250 |"]
    assert ratio(TIMES, "native int8") == 0.25
