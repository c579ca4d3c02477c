"""What a build is asked for: from what, for which board, with how much effort, into what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from calibration.mixing import Mix
from edge_runtime.errors import Failure
from edge_runtime.stft import SAMPLE_RATE_HZ
from quant.inputs.source import Inputs
from quant.network import registry
from quant.ptq.quantize import CALIBRATION_MIX
from quant.search import climb, validation


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is heard: clips to calibrate on, the golden vectors, what the error of every tap is measured on.

    `validation` and `n_again` are a search's: the clips that judge, and the groups measured anew at each step.
    """

    mix: Mix = CALIBRATION_MIX
    golden_samples: int = 2 * SAMPLE_RATE_HZ
    n_accuracy_clips: int = 8
    accuracy_samples: int = int(1.5 * SAMPLE_RATE_HZ)
    validation: Mix = validation.SPLIT
    n_again: int = climb.N_AGAIN


@dataclass(frozen=True, kw_only=True)
class Search:
    """A recipe to search for: int8 where PESQ stays so near to float. `state`: its journal; default: in the cache."""

    max_pesq_drop: float
    state: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is left where. `folder`: default build/BOARD; `force` replaces an artifact that is there.

    `official_io` and `tensorrt` write the ONNX models once more: with the official signature, by TensorRT's rules.
    """

    folder: Path | None = None
    force: bool = False
    html: bool = True  # report.html, which takes seconds
    official_io: bool = False
    tensorrt: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for. `target`: a board's name, or its .toml file."""

    target: str
    inputs: Inputs = field(default_factory=Inputs)
    search: Search | None = None
    effort: Effort = Effort()
    outputs: Outputs = Outputs()

    def __post_init__(self) -> None:
        if self.search is not None and self.inputs.ranges is not None:
            raise Failure("--max-pesq-drop measures ranges of its own", remedy="leave --ranges out")

    @property
    def start(self) -> Inputs:
        """What to start from; a search changes a recipe, so it needs one."""
        return self.inputs.by_recipe() if self.search is not None else self.inputs

    @property
    def folder(self) -> Path:
        """Where the artifact goes."""
        folder = self.outputs.folder
        return folder if folder is not None else registry.built_folder(self.target, self.inputs.network)
