"""`quant plan | build | ablate`: what is typed is what is asked of the compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import Failure
from quant.build import stages
from quant.build.settings import Outputs, Search, Settings
from quant.cli import main
from quant.inputs.source import Inputs
from quant.search import ablation

NAMED = ["--checkpoint", "c.tar", "--recipe", "static", "--speech", "s", "--noise", "n"]
INPUTS = Inputs(checkpoint=Path("c.tar"), recipe="static", speech=Path("s"), noise=Path("n"))
RANGES = Inputs(ranges=Path("r.json"))

# what is typed -> what is asked for
TYPED: list[tuple[list[str], Any]] = [
    (["build", "--target", "rpi4"], Settings(target="rpi4")),
    (["build", "--target", "rpi4", *NAMED], Settings(target="rpi4", inputs=INPUTS)),
    (["build", "--target", "x.toml", "--ranges", "r.json"], Settings(target="x.toml", inputs=RANGES)),
    (
        ["build", "--target", "rpi4", "--out", "o", "--force", "--no-report"],
        Settings(target="rpi4", outputs=Outputs(folder=Path("o"), force=True, html=False)),
    ),
    (
        ["build", "--target", "rpi4", "--io", "official", "--qdq", "tensorrt"],
        Settings(target="rpi4", outputs=Outputs(official_io=True, tensorrt=True)),
    ),
    (
        ["build", "--target", "rpi4", "--max-pesq-drop", "0"],
        Settings(target="rpi4", search=Search(max_pesq_drop=0.0)),
    ),
    (
        ["build", "--target", "rpi4", "--max-pesq-drop", "0.05", "--search-state", "j"],
        Settings(target="rpi4", search=Search(max_pesq_drop=0.05, state=Path("j"))),
    ),
    (["build", "--target", "rpi4", "--window", "hann"], Settings(target="rpi4", inputs=Inputs(window="hann"))),
    (["plan", "--window", "sqrt-hann"], Settings(target="host", inputs=Inputs(window="sqrt_hann"))),
    (["plan"], Settings(target="host")),
    (["plan", "--target", "rpi4", "--ranges", "r.json"], Settings(target="rpi4", inputs=RANGES)),
    (["ablate"], Inputs()),
    (["ablate", *NAMED], INPUTS),
]


@pytest.mark.parametrize(("argv", "asked"), TYPED, ids=[" ".join(argv) for argv, _ in TYPED])
def test_what_is_typed_is_what_is_asked_for(
    argv: list[str], asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def refuse(given: Any, progress: object) -> None:
        seen.append(given)
        raise Failure("seen")

    for module, name in ((stages, "build"), (stages, "plan"), (ablation, "ablate")):
        monkeypatch.setattr(module, name, refuse)
    assert main(argv) == 1
    assert capsys.readouterr().err == "quant: error: seen\n"
    assert seen == [asked]
