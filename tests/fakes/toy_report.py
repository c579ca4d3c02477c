"""The report of an artifact that nobody built: the published network, with errors and coverage to tell apart."""

from __future__ import annotations

from msgspec import structs

import boards
from quant.audit import budget
from quant.audit.findings import AccuracyRow, CoveragePart, MemoryPart
from quant.report import schema
from quant.report.provenance import Provenance
from quant.report.schema import Report


def report() -> Report:
    """The published network on a PC, with errors and coverage to tell apart."""
    host, counted = boards.load("host"), budget.for_target("host")
    zeros = dict.fromkeys(AccuracyRow.__struct_fields__, 0.0) | {"type": "int8"}
    costs = {"encoder|a": 30.44, "decoder.b": 20.02}
    shares = {"onnx": 0.5275, "tflite": 0.8003}
    return Report(
        format=schema.FORMAT,
        version=schema.VERSION,
        board=host.name,
        target=host,
        recipe="static",
        checkpoint=schema.Weights(name="x", sha256="0" * 64),
        files={"model.native": schema.FileSize(bytes=56_272, constant_bytes=46_336)},
        budget=structs.replace(counted, totals=structs.replace(counted.totals, state_bytes=21_504)),
        memory=MemoryPart(arena_bytes=0, peak_live_bytes=0, peak_node="", live_bytes=(), tensors=()),
        coverage={
            e: CoveragePart(engine=e, macs_frame=1, int8_share=share, multiplied={}, nodes=())
            for e, share in shares.items()
        },
        plan=(),
        accuracy=tuple(AccuracyRow(**zeros | {"tap": t, "isolated_output_sqnr_db": db}) for t, db in costs.items()),
        histograms=(),
        provenance=Provenance(built_with={}, command="", inputs={}, licences=()),
        verdict=(),
    )
