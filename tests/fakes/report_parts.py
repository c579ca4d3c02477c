"""Parts of a report as their JSON has them: benches, evaluations, rows of the robustness suite."""

from __future__ import annotations

from typing import Any

import msgspec

from quant.report.schema import Report

Json = dict[str, Any]


def with_parts(report: Report, **parts: Any) -> Report:
    """The report with these parts, given as JSON has them."""
    return msgspec.convert(msgspec.to_builtins(report) | parts, Report)


def bench_row(**changes: Any) -> Json:
    spread = {"p50": 158.0, "p95": 170.0, "p99": 190.0, "max": 900.0, "mean": 160.0}
    machine = {
        "cpu": "Raspberry Pi 4 Model B Rev 1.4",
        "arch": "aarch64",
        "os": "Debian",
        "n_cores": 4,
        "python": "3.11.2",
    }
    return {
        "engine": "tflite",
        "precision": "int8",
        "n_threads": 1,
        "n_frames": 2000,
        "frame_us": spread,
        "hop_us": spread,
        "rtf": 0.01,
        "load_ms": 12.0,
        "rss_bytes": 38_000_000,
        "machine": machine,
    } | changes


def evaluation(d_pesq: float) -> Json:
    """As `quant eval --json` prints it, with a clip that the report does not keep."""
    difference = {"mean": d_pesq, "low": d_pesq - 0.01, "high": d_pesq + 0.01}
    systems = [
        {"system": "noisy", "n_clips": 4, "means": {"pesq": 1.6}, "against": None, "differences": {}},
        {"system": "tflite fp32", "n_clips": 4, "means": {"pesq": 2.1}, "against": None, "differences": {}},
        {
            "system": "tflite int8",
            "n_clips": 4,
            "means": {"pesq": 2.1 + d_pesq},
            "against": "tflite fp32",
            "differences": {"pesq": difference},
        },
    ]
    by_snr = dict.fromkeys(("0 dB", "5 dB", "10 dB"), systems)
    return {"systems": systems, "groups": {"snr": by_snr}, "clips": [{"clip": "a"}]}


def hard_row(ok: bool) -> Json:
    return {
        "system": "tflite int8",
        "stimulus": "tone 440 Hz",
        "quantity": "difference to float, to the input",
        "unit": "dB",
        "value": -20.0 if ok else 3.0,
        "bound": -6,
        "is_upper": True,
        "why": "",
        "error": "",
        "ok": ok,
    }
