"""The model card, the bill of materials and the viewer: numbers from files, the same bytes, remedies."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from msgspec import structs
from toy_artifact import toy
from toy_report import report

from edge_runtime import extras
from edge_runtime.errors import Failure
from edge_runtime.manifest import DIGEST_FILE, Checkpoint, FileEntry, digest_line, open_artifact
from quant.artifact import sbom, signing
from quant.artifact.folder import write_manifest
from quant.artifact.stable_bytes import file_entry, json_bytes
from quant.cli import main, viewer
from quant.inputs import assets, trained
from quant.report import card

SYSTEMS = {
    "systems": [
        {"system": "noisy", "n_clips": 128, "means": {"pesq": 1.596, "other": 3.0}, "against": None, "differences": {}},
        {
            "system": "rpi4:tflite:int8",
            "n_clips": 128,
            "means": {"pesq": 2.14811, "sisdr": 9.5},
            "against": "float",
            "differences": {"pesq": {"mean": -0.0066, "low": -0.0123, "high": -0.0007}},
        },
    ],
    "clips": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The toy artifact with a report in it."""
    copy = tmp_path / "artifact"
    copy.mkdir()
    for path in toy().directory.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "report.json").write_bytes(json_bytes(report()))
    index = toy().manifest
    entry = file_entry((copy / "report.json").read_bytes())
    write_manifest(copy, structs.replace(index, files={**index.files, "report.json": entry}))
    return copy


def front_matter(text: str) -> dict[str, object]:
    """The hub's fields: YAML that is JSON, a line a field."""
    _, front, _ = text.split("---\n", 2)
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in front.splitlines())}


def test_a_card_tells_what_the_report_holds(folder, capfd):
    assert main(["card", str(folder)]) == 0
    text = (folder / "README.md").read_text()
    worst = "| decoder.b | 20.0 dB |\n| encoder\\|a | 30.4"
    assert all(figure in text for figure in ("23,669", "33.0 M", "22.4 M", "21.0 KB", "53%", "80%", worst))
    assert "Not measured yet" in text
    fields = front_matter(text)
    assert fields["license"] == "other"
    assert fields["pipeline_tag"] == "audio-to-audio"
    assert "host" in fields["tags"]
    assert "model-index" not in fields


def test_an_evaluation_gets_into_the_card_and_the_manifest_agrees(folder, tmp_path, capfd):
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps(SYSTEMS))
    command = ["card", str(folder), "--eval", str(rows), "--dataset", "128 pairs"]
    assert main(command) == 0
    text = (folder / "README.md").read_text()
    assert "| rpi4:tflite:int8 | 128 | 2.148 (-0.0066, -0.0123 … -0.0007) | 9.500 |" in text
    fields = front_matter(text)
    assert fields["metrics"] == ["pesq", "si-sdr"]
    (model,) = fields["model-index"]
    noisy, ours = model["results"]
    assert noisy["metrics"] == [{"type": "pesq", "name": "PESQ-WB, noisy", "value": 1.596}]
    assert [m["value"] for m in ours["metrics"]] == [2.1481, 9.5]
    assert ours["dataset"]["name"] == "128 pairs"
    open_artifact(folder).check_whole()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_others_named_is_text_on_the_page(folder, tmp_path, capfd):
    """No markup, no second line, no cell too many."""
    rows = tmp_path / "rows.json"
    odd = "a|b\n# c <img src=x> [d](e) `f`"
    renamed = {**SYSTEMS["systems"][1], "system": odd}
    rows.write_text(json.dumps({"systems": [SYSTEMS["systems"][0], renamed]}))
    assert main(["card", str(folder), "--eval", str(rows), "--dataset", odd]) == 0
    text = (folder / "README.md").read_text()
    shown = "a\\|b # c \\<img src=x\\> \\[d\\](e) \\`f\\`"
    assert f"| {shown} | 128 |" in text
    assert f"On {shown}. In brackets" in text


def test_means_over_different_clips_are_told(folder, tmp_path, capfd):
    rows = tmp_path / "rows.json"
    few = SYSTEMS["systems"][1] | {"n_clips": 127}
    rows.write_text(json.dumps({"systems": [SYSTEMS["systems"][0], few]}))
    assert main(["card", str(folder), "--eval", str(rows)]) == 0
    told = "Means are over different clips, for some failed (noisy 128, rpi4:tflite:int8 127)"
    assert told in (folder / "README.md").read_text()


def test_a_card_elsewhere_leaves_the_artifact_alone(folder, tmp_path, capfd):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["card", str(folder), "-o", str(tmp_path / "card.md"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"card": str(tmp_path / "card.md"), "n_systems": 0}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for taken in (tmp_path / "card.md", folder / "manifest.json"):
        assert main(["card", str(folder), "-o", str(taken)]) == 1
        assert f"{taken.name}: exists already; pass --force to replace it" in capfd.readouterr().err
    assert main(["card", str(folder), "-o", str(tmp_path / "card.md"), "--force"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_no_card_is_made_of(folder, tmp_path, capfd):
    signing.keygen(tmp_path / "key")
    (tmp_path / "rows.json").write_text('{"systems": [{"system": "a"}]}')
    for argv, message in (
        (["card", str(toy().directory)], "has no report.json; build it again with"),
        (["card", str(folder), "--dataset", "x"], "--dataset: nothing was measured"),
        (["card", str(folder), "--eval", str(tmp_path / "gone")], "gone: cannot be read"),
        (["card", str(folder), "--eval", str(tmp_path / "rows.json")], "rows.json: is not an evaluation"),
    ):
        assert main(argv) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert message in line
    signing.sign(folder, tmp_path / "key")
    assert main(["card", str(folder)]) == 1
    assert "is signed; do this first, then sign" in capfd.readouterr().err
    assert (folder / DIGEST_FILE).read_bytes() == digest_line((folder / "manifest.json").read_bytes())


def test_whose_weights_these_are():
    def origin(sha256: str) -> card.Origin:
        return card.origin_of(structs.replace(toy().manifest, checkpoint=Checkpoint(name="x", sha256=sha256)))

    default = origin(file_entry(trained.embedded().read_bytes()).sha256)
    assert default.licence == "mit"
    assert "CC BY 4.0" in default.data
    (weights,) = (asset for asset in assets.pinned() if asset.kind == "weights")
    assert origin(weights.members[0].sha256).attribution == weights.attribution
    assert origin("0" * 64).licence == "other"


# --- bill of materials --------------------------------------------------------------------------------------------


def materials(board: str = "rpi4") -> bytes:
    entries = {"model.onnx": FileEntry(sha256="b" * 64, bytes=1)}
    return sbom.make(board, Checkpoint(name="w", sha256="a" * 64), entries)


def test_the_same_inputs_make_the_same_bill_and_others_another():
    assert materials() == materials()
    one, other = json.loads(materials()), json.loads(materials("rpi5"))
    assert one["serialNumber"] != other["serialNumber"]
    assert "timestamp" not in one["metadata"]


def test_a_bill_names_the_compiler_whole_and_what_it_made():
    bill = json.loads(materials())
    names = {component["name"]: component for component in bill["components"]}
    assert {"edge-denoise", "torch", "numpy", "onnx", "onnxruntime", "ai-edge-litert", "python", "w"} <= set(names)
    assert "pytest" not in names
    assert names["w"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert all(names[name].get("licenses") for name in ("numpy", "onnxruntime", "rich"))
    refs = {component["bom-ref"] for component in bill["components"]}
    needs = {entry["ref"]: set(entry.get("dependsOn", [])) for entry in bill["dependencies"]}
    assert all(needed <= refs for needed in needs.values())
    assert names["numpy"]["bom-ref"] in needs[names["edge-denoise"]["bom-ref"]]


def test_a_bill_keeps_to_the_schema_of_cyclonedx():
    pytest.importorskip("jsonschema", reason="cyclonedx-python-lib validates with jsonschema")
    pytest.importorskip("referencing")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(materials().decode()) is None


# --- viewer -------------------------------------------------------------------------------------------------------

FAKE = """
import pathlib
LOG = pathlib.Path(__file__).with_suffix(".log")
def note(*a, **k): LOG.write_text(LOG.read_text() + repr((a, k)) + "\\n" if LOG.exists() else repr((a, k)) + "\\n")
start = wait = visualize = note
"""


@pytest.fixture
def no_viewers(monkeypatch, tmp_path):
    """No viewer is installed but those a test writes into the folder."""
    real = viewer.importlib.util.find_spec
    here = tmp_path / "viewers"
    here.mkdir()
    monkeypatch.syspath_prepend(str(here))
    found = lambda name: real(name) if (here / f"{name}.py").exists() else None  # noqa: E731
    monkeypatch.setattr(viewer.importlib.util, "find_spec", found)
    for each in viewer.VIEWERS.values():
        monkeypatch.delitem(sys.modules, each.module, raising=False)
    return here


def test_without_a_viewer_the_remedy_is_named(no_viewers, capfd):
    assert main(["view", str(toy().directory)]) == 1
    line = capfd.readouterr().err.splitlines()[-1]
    offers = " or ".join(map(extras.pip_install, ("netron", "ai-edge-model-explorer")))
    assert line == f"quant: error: no viewer is installed; {offers}"
    with pytest.raises(Failure, match=f"netron is not installed; {re.escape(extras.pip_install('netron'))}"):
        viewer.choose("netron")


CALLS = [
    ("netron", [], ["model.tflite',), {'address': ('localhost', 8080), 'browse': True})", "((), {})"]),
    (
        "netron",
        ["--engine=onnx", "--precision=fp32", "--port=9000", "--no-browser"],
        ["model.fp32.onnx',), {'address': ('localhost', 9000), 'browse': False})", "((), {})"],
    ),
    ("model_explorer", [], ["model.tflite',), {'host': 'localhost', 'port': 8080, 'no_open_in_browser': False})"]),
]


@pytest.mark.parametrize(("module", "options", "calls"), CALLS)
def test_a_viewer_is_called_as_it_wants(no_viewers, capfd, module, options, calls):
    (no_viewers / f"{module}.py").write_text(FAKE)
    assert main(["view", str(toy().directory), *options]) == 0
    lines = (no_viewers / f"{module}.log").read_text().splitlines()
    assert len(lines) == len(calls)
    assert all(line.endswith(call) for line, call in zip(lines, calls, strict=True))
