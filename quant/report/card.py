"""A model card in the format of the Hugging Face hub: what the artifact is, what it costs and loses, whose it is.

Every number comes out of the artifact's report, or out of `quant eval --json`; nothing is filled in by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from edge_runtime.errors import Failure
from edge_runtime.manifest import Artifact, Manifest
from edge_runtime.quoting import markdown, markdown_code
from quant.artifact.folder import renew
from quant.inputs import assets, trained
from quant.network import registry
from quant.network.family import Network
from quant.quality.results import TITLES, SystemPart, in_order, title, uneven
from quant.quality.shipped import ShippedPart
from quant.report.schema import Report

FILE: Final = "README.md"
TAGS: Final = ("speech-enhancement", "noise-suppression", "denoising"), ("streaming", "int8", "onnx", "tflite")
# What `quant eval` calls a figure -> what the hub calls it.
METRICS: Final = {name: name.replace("_", "-") for name in TITLES} | {"sisdr": "si-sdr"}
_WORST: Final = 5
_US: Final = "Copyright (c) 2026 The edge-denoise authors"

_USE: Final = """\
## Use

```
edge-denoise file noisy.wav clean.wav --model THIS_FOLDER
```

```python
from edge_runtime import Denoiser

denoiser = Denoiser.open("THIS_FOLDER")
clean = denoiser.feed(noisy)  # 16 kHz, mono, float32; any number of samples
```"""
_LIMITS: Final = """\
## Limits

- It takes noise away, not reverberation and not clipping; several voices at once all count as speech.
- On input far from speech, as pure tones, int8 differs from float more:
  `quant eval THIS_FOLDER --suite robustness` tells.
- The time of a hop depends on the board: `edge-denoise bench` tells."""
_UNMEASURED: Final = """\
## Quality

Not measured yet: `quant eval THIS_FOLDER --pairs PAIRS`, then `quant card THIS_FOLDER`."""


@dataclass(frozen=True)
class Origin:
    """Whose weights these are. `licence`: an identifier of the hub."""

    licence: str
    attribution: str
    data: str


def origin_of(manifest: Manifest) -> Origin:
    """By the hash of what was compiled; unknown weights are their owner's to state."""
    sha256, network = manifest.checkpoint.sha256, registry.load(manifest.network)
    if sha256 in _embedded_sha256(network):
        whose = f"{network.copyright} (weights, {network.licence}); {_US} (MIT)"
        data = network.trained_on or trained.load(trained.embedded(network)).header.attribution
        return Origin(network.licence.lower(), whose, data)
    for asset in assets.pinned():
        if sha256 in (member.sha256 for member in asset.members):
            return Origin(asset.licence.lower(), asset.attribution, f"Weights: {asset.source}.")
    unknown = "Not known to the compiler: state here whose weights these are, and what they were trained on."
    return Origin("other", unknown, unknown)


def _embedded_sha256(network: Network) -> Iterator[str]:
    """Of its trained default, where one comes with this version."""
    with suppress(Failure):
        yield hashlib.sha256(trained.embedded(network).read_bytes()).hexdigest()


def render(manifest: Manifest, report: Report, systems: Sequence[SystemPart] = (), dataset: str = "") -> str:
    """The card as Markdown. `systems` were measured on `dataset`."""
    origin, network = origin_of(manifest), registry.load(manifest.network)
    heading = f"{network.title} for {manifest.board}, int8"
    about = f"On {markdown(dataset)}. " if dataset else ""
    body = [
        f"# {heading}",
        "A streaming speech denoiser: 16 kHz mono, one hop of 256 samples (16 ms) at a time."
        f" [{network.title}]({network.paper.url}) compiled by edge-denoise for `{manifest.board}`,"
        f" recipe {markdown_code(manifest.recipe)}.",
        _USE,
        _files(manifest, report),
        _cost(report),
        _loss(report),
        _shipped(report.shipped) if report.shipped and not systems else _quality(systems, about),
        f"## Training data\n\n{origin.data}",
        _LIMITS,
        f"## Licence and attribution\n\n{origin.attribution}\n\nThe runtime is MIT. Checkpoint"
        f" {markdown_code(manifest.checkpoint.name)}, SHA-256 `{manifest.checkpoint.sha256}`.",
    ]
    front = _front(manifest, origin, heading, systems, dataset)
    return front + "\n\n".join(body) + "\n"


def write(opened: Artifact, text: str) -> None:
    """Replace the card of an artifact, and make its manifest agree. Failure: it is signed, or was changed meanwhile."""
    renew(opened, {FILE: text.encode()})


def _front(manifest: Manifest, origin: Origin, name: str, systems: Sequence[SystemPart], dataset: str) -> str:
    """YAML, whose values are written as JSON, which YAML contains."""
    fields: dict[str, object] = {
        "license": origin.licence,
        "library_name": "edge-denoise",
        "pipeline_tag": "audio-to-audio",
        "tags": [*TAGS[0], manifest.network, *TAGS[1], manifest.board],
    }
    if systems:
        task = {"type": "audio-to-audio", "name": "Speech enhancement"}
        data = {"type": "paired-speech", "name": dataset or "noisy and clean pairs"}
        results = [{"task": task, "dataset": data, "metrics": _metrics(system)} for system in systems]
        metrics = sorted({METRICS[m] for system in systems for m in system.means if m in METRICS})
        fields |= {"metrics": metrics, "model-index": [{"name": name, "results": results}]}
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()) + "---\n\n"


def _metrics(system: SystemPart) -> list[dict[str, str | float]]:
    return [
        {"type": METRICS[metric], "name": f"{title(metric)}, {system.system}", "value": round(value, 4)}
        for metric, value in system.means.items()
        if metric in METRICS
    ]


def _files(manifest: Manifest, report: Report) -> str:
    shares = {engine: f"{found.int8_share:.0%}" for engine, found in report.coverage.items()}
    rows = [
        (
            entry.file,
            engine,
            precision,
            f"{manifest.files[entry.file].bytes / 1024:.0f} KB",
            shares.get(engine, "") if precision == "int8" else "",
        )
        for engine, models in sorted(manifest.models.items())
        for precision, entry in sorted(models.items())
    ]
    head = ("file", "engine", "precision", "size", "MACs in int8, as the runtime executes them")
    return "## Files\n\n" + _table(head, rows)


def _cost(report: Report) -> str:
    totals, published = report.budget.totals, report.budget.published
    rows = [
        ("learned parameters", f"{published.n_learned:,}"),
        ("MACs a second, as published", f"{published.mmacs_per_s:.1f} M"),
        ("MACs a second, as executed", f"{totals.mmacs_per_s:.1f} M"),
        ("state", f"{totals.state_bytes / 1024:.1f} KB"),
        ("flash: the 8-bit file of the C engine", f"{totals.flash_bytes / 1024:.1f} KB"),
        ("RAM of the C engine, without Python and libraries", f"{totals.ram_bytes / 1024:.1f} KB"),
    ]
    return "## Cost\n\n" + _table(("what", "how much"), rows)


def _loss(report: Report) -> str:
    worst = sorted(report.accuracy, key=lambda row: row.isolated_output_sqnr_db)[:_WORST]
    rows = [(row.tap, f"{row.isolated_output_sqnr_db:.1f} dB") for row in worst]
    head = ("value", "SNR of the output when it alone is int8")
    return "## What int8 costs\n\nThe values that cost the output most:\n\n" + _table(head, rows)


def _quality(systems: Sequence[SystemPart], about: str) -> str:
    if not systems:
        return _UNMEASURED
    metrics = [metric for metric in in_order(m for s in systems for m in s.means) if metric in METRICS]
    table = [(s.system, str(s.n_clips), *(_figure(s, metric) for metric in metrics)) for s in systems]
    explained = f"{about}In brackets: mean paired difference to its own float model, with a bootstrap 95 % interval."
    told = " ".join(filter(None, [explained, markdown(uneven(systems))]))
    return f"## Quality\n\n{told}\n\n" + _table(("system", "clips", *map(title, metrics)), table)


def _shipped(found: ShippedPart) -> str:
    """What came with the weights, until somebody measures this artifact."""
    told = f"Measured by edge-denoise on {found.date} on these weights and ranges, not on this artifact"
    return _quality(found.systems, f"{told}: {found.recordings}. ")


def _figure(system: SystemPart, metric: str) -> str:
    if metric not in system.means:
        return ""
    d = system.differences.get(metric)
    paired = f" ({d.mean:+.4f}, {d.low:+.4f} … {d.high:+.4f})" if d else ""
    return f"{system.means[metric]:.3f}{paired}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    above, *below = ["| " + " | ".join(map(markdown, line)) + " |" for line in (head, *rows)]
    return "\n".join([above, "| " + " | ".join(["---"] * len(head)) + " |", *below])
