"""A model card in the format of the Hugging Face hub: what the artifact is, what it costs and loses, whose it is.

Every number comes out of the artifact's report, or out of `quant eval --json`; nothing is filled in by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure
from edge_runtime.manifest import Artifact, Manifest
from quant.artifact.folder import renew
from quant.inputs import assets, trained

FILE: Final = "README.md"
REPORT: Final = "report.json"
PAPER: Final = "https://ieeexplore.ieee.org/document/10448310"
TAGS: Final = ("speech-enhancement", "noise-suppression", "denoising", "gtcrn", "streaming", "int8", "onnx", "tflite")
# What `quant eval` calls a figure -> what the hub calls it, and how people read it.
METRICS: Final = {
    "pesq": ("pesq", "PESQ-WB"),
    "stoi": ("stoi", "STOI"),
    "estoi": ("estoi", "ESTOI"),
    "sisdr": ("si-sdr", "SI-SDR dB"),
    "dnsmos_ovrl": ("dnsmos-ovrl", "DNSMOS OVRL"),
    "dnsmos_sig": ("dnsmos-sig", "DNSMOS SIG"),
    "dnsmos_bak": ("dnsmos-bak", "DNSMOS BAK"),
}
_WORST: Final = 5
_AUTHOR: Final = "Copyright (c) 2024 Rong Xiaobin"
_US: Final = "Copyright (c) 2026 The edge-denoise authors"
_DEFAULT_DATA: Final = (
    "Weights: GTCRN trained on the DNS Challenge 3 corpus by its authors, then trained further here under 8-bit"
    " rounding. Sounds of that training: LibriSpeech (Panayotov et al. 2015, CC BY 4.0), CSTR VCTK (Yamagishi et al.,"
    " CC BY 4.0), Picovoice's speech-to-intent benchmark (Apache-2.0), ESC-10 (Piczak 2015, CC BY 3.0)."
)

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
- On input far from speech, as pure tones, int8 differs from float more: `quant eval DIR --suite robustness` tells.
- The time of a frame depends on the board: `edge-denoise bench` tells."""
_UNMEASURED: Final = """\
## Quality

Not measured yet: `quant eval DIR --pairs DIR --json >rows.json`, then `quant card DIR --eval rows.json`."""

Row = Mapping[str, Any]  # a system of `quant eval --json`


@dataclass(frozen=True)
class Origin:
    """Whose weights these are. `licence`: an identifier of the hub."""

    licence: str
    attribution: str
    data: str


def origin_of(manifest: Manifest) -> Origin:
    """By the hash of what was compiled; unknown weights are their owner's to state."""
    sha256 = manifest.checkpoint.sha256
    if sha256 == hashlib.sha256(trained.embedded().read_bytes()).hexdigest():
        return Origin("mit", f"{_AUTHOR} (weights, MIT); {_US} (MIT)", _DEFAULT_DATA)
    for asset in assets.pinned():
        if sha256 in (member.sha256 for member in asset.members):
            return Origin(asset.licence.lower(), asset.attribution, f"Weights: {asset.source}.")
    unknown = "Not known to the compiler: state here whose weights these are, and what they were trained on."
    return Origin("other", unknown, unknown)


def render(manifest: Manifest, report: Mapping[str, Any], rows: Sequence[Row] = (), dataset: str = "") -> str:
    """The card as Markdown. `rows`: "systems" of `quant eval --json`, measured on `dataset`."""
    origin = origin_of(manifest)
    title = f"GTCRN for {manifest.board}, int8"
    body = [
        f"# {title}",
        "A streaming speech denoiser: 16 kHz mono, one hop of 256 samples (16 ms) at a time."
        f" [GTCRN]({PAPER}) compiled by edge-denoise for `{manifest.board}`, recipe `{manifest.recipe}`.",
        _USE,
        _files(manifest, report),
        _cost(report),
        _loss(report),
        _quality(rows, dataset),
        f"## Training data\n\n{origin.data}",
        _LIMITS,
        f"## Licence and attribution\n\n{origin.attribution}\n\nThe runtime is MIT. Checkpoint"
        f" `{manifest.checkpoint.name}`, SHA-256 `{manifest.checkpoint.sha256}`.",
    ]
    front = _front(manifest, origin, title, rows, dataset)
    return front + "\n\n".join(body) + "\n"


def write(opened: Artifact, text: str) -> None:
    """Replace the card of an artifact, and make its manifest agree. Failure: it is signed, or was changed meanwhile."""
    renew(opened, {FILE: text.encode()})


def read_report(opened: Artifact) -> dict[str, Any]:
    """The artifact's report. Failure: it has none."""
    if REPORT not in opened.manifest.files:
        raise Failure(f"no {REPORT} in it", where=opened.directory, remedy="build it with `quant build`")
    report: dict[str, Any] = json.loads(opened.read(REPORT))
    return report


def read_rows(path: Path) -> list[dict[str, Any]]:
    """ "systems" of a file that `quant eval --json` wrote. Failure: it is none."""
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_bytes())["systems"]
        for row in rows:
            _ = str(row["system"]), int(row["n_clips"]), {k: float(v) for k, v in row["means"].items()}
            _ = {k: (d["mean"], d["low"], d["high"]) for k, d in row["differences"].items()}
        return rows
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror})", where=path, remedy="see its name") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        remedy = "write it with `quant eval DIR --pairs DIR --json >FILE`"
        raise Failure("no evaluation in it", where=path, remedy=remedy) from None


def _front(manifest: Manifest, origin: Origin, title: str, rows: Sequence[Row], dataset: str) -> str:
    """YAML, whose values are written as JSON, which YAML contains."""
    metrics = {METRICS[name][0] for row in rows for name in row["means"] if name in METRICS}
    fields: dict[str, Any] = {
        "license": origin.licence,
        "library_name": "edge-denoise",
        "pipeline_tag": "audio-to-audio",
        "tags": [*TAGS, manifest.board],
    }
    if rows:
        task = {"type": "audio-to-audio", "name": "Speech enhancement"}
        results = [
            {
                "task": task,
                "dataset": {"type": "paired-speech", "name": dataset or "noisy and clean pairs"},
                "metrics": [
                    {"type": METRICS[name][0], "name": f"{METRICS[name][1]}, {row['system']}", "value": round(value, 4)}
                    for name, value in row["means"].items()
                    if name in METRICS
                ],
            }
            for row in rows
        ]
        fields |= {"metrics": sorted(metrics), "model-index": [{"name": title, "results": results}]}
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()) + "---\n\n"


def _files(manifest: Manifest, report: Mapping[str, Any]) -> str:
    coverage = report["coverage"]
    rows = [
        (
            entry.file,
            engine,
            precision,
            f"{manifest.files[entry.file].bytes / 1024:.0f} KB",
            f"{coverage[engine]['int8_share']:.0%}" if precision == "int8" and engine in coverage else "",
        )
        for engine, models in sorted(manifest.models.items())
        for precision, entry in sorted(models.items())
    ]
    head = ("file", "engine", "precision", "size", "MACs in int8, as the runtime executes them")
    return "## Files\n\n" + _table(head, rows)


def _cost(report: Mapping[str, Any]) -> str:
    totals, published = report["budget"]["totals"], report["budget"]["published"]
    rows = [
        ("learned parameters", f"{published['n_learned']:,}"),
        ("MACs a second, as published", f"{published['mmacs_per_s']:.1f} M"),
        ("MACs a second, as executed", f"{totals['mmacs_per_s']:.1f} M"),
        ("state", f"{totals['state_bytes'] / 1024:.1f} KB"),
        ("RAM, an estimate without the runtime's own", f"{totals['ram_bytes'] / 1024:.0f} KB"),
    ]
    return "## Cost\n\n" + _table(("what", "how much"), rows)


def _loss(report: Mapping[str, Any]) -> str:
    worst = sorted(report["accuracy"], key=lambda row: row["isolated_output_sqnr_db"])[:_WORST]
    rows = [(row["tap"], f"{row['isolated_output_sqnr_db']:.1f} dB") for row in worst]
    head = ("value", "SNR of the output when it alone is int8")
    return "## What int8 costs\n\nThe values that cost the output most:\n\n" + _table(head, rows)


def _quality(rows: Sequence[Row], dataset: str) -> str:
    if not rows:
        return _UNMEASURED
    names = [name for name in METRICS if any(name in row["means"] for row in rows)]
    table = [(row["system"], str(row["n_clips"]), *(_figure(row, name) for name in names)) for row in rows]
    about = f"On {dataset}. " if dataset else ""
    explained = f"{about}In brackets: mean paired difference to its own float model, with a bootstrap 95 % interval."
    return f"## Quality\n\n{explained}\n\n" + _table(("system", "clips", *(METRICS[n][1] for n in names)), table)


def _figure(row: Row, name: str) -> str:
    if name not in row["means"]:
        return ""
    difference = row["differences"].get(name)
    paired = f" ({difference['mean']:+.4f}, {difference['low']:+.4f} … {difference['high']:+.4f})" if difference else ""
    return f"{row['means'][name]:.3f}{paired}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
