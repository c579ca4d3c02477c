"""What a build starts from: a checkpoint to calibrate, or a trained file to compile as it was trained; and sounds.

nothing named            the trained default that comes with the project
--recipe R               the pulled official weights, calibrated
--checkpoint F           calibrated with recipe static, or R
--checkpoint F.trained   as it was trained, with its own recipe and ranges
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from calibration.corpus import Corpus
from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from edge_runtime.quiet import Progress, silent
from edge_runtime.stft import HOP_SAMPLES, WINDOW_SAMPLES, Float32Array, WindowName
from quant.inputs import assets, checkpoint, trained
from quant.int8 import recipe
from quant.int8.recipe import Recipe
from quant.network.graph import Graph
from quant.network.gtcrn import Config, blank, gtcrn
from quant.network.passes import streaming_graph

DEFAULT_RECIPE = "static"
WINDOW = f"the root of a Hann window, {WINDOW_SAMPLES} samples, hops of {HOP_SAMPLES}, as the published network's"
OWN_WINDOW = "leave --window out, or name a checkpoint to calibrate"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the user named to start from; None takes the default."""

    checkpoint: Path | None = None
    recipe: str | None = None
    speech: Path | None = None
    noise: Path | None = None
    ranges: Path | None = None  # of an earlier build, in place of measuring them
    window: WindowName | None = None  # that the weights were trained through, where they do not tell

    def by_recipe(self) -> Inputs:
        """The same; where neither weights nor a recipe are named the pulled weights, not the trained default."""
        return replace(self, recipe=self.recipe or DEFAULT_RECIPE)


@dataclass(frozen=True)
class Source:
    """A network to quantize. `network` is it before any pass (a trained file keeps only the streaming graph: a blank
    network of its sizes stands for it); `ranges` and `noisy` (clips, samples) come with a trained file."""

    name: str
    sha256: str
    network: Graph
    graph: Graph
    recipe: Recipe
    ranges: Ranges | None = None
    noisy: Float32Array | None = None
    attribution: str = ""  # whose weights and sounds a trained file is made from


def read(inputs: Inputs, progress: Progress = silent) -> Source:
    """What to build from; whatever does not fit fails here, before the slow work."""
    import torch

    torch.set_num_threads(1)  # sums in the same order on every machine; for tensors this small it is faster, too
    progress("reading the weights")
    return open_source(inputs.checkpoint, inputs.recipe, progress, inputs.window)


def sounds(inputs: Inputs, progress: Progress) -> tuple[Corpus, Corpus]:
    """Speech and noise that calibration clips are mixed from."""
    progress("mixing calibration speech")
    return open_sounds(inputs.speech, inputs.noise, progress)


def open_source(
    path: Path | None, recipe_name: str | None, progress: Progress = silent, window: WindowName | None = None
) -> Source:
    """Read what was asked for. Failure: no such file, another network, a recipe or a window that does not fit."""
    if path is None and recipe_name is None:
        path = trained.embedded()
    if path is not None and trained.is_one(path):
        return _trained(path, recipe_name, window)
    chosen = recipe.load(recipe_name or DEFAULT_RECIPE)
    read = checkpoint.load(path or assets.weights(progress=progress), progress)
    if path is not None and window is None and read.window is None:
        progress(f"{path}: weights do not tell their window; taken is {WINDOW}; else give --window")
    require_names(chosen, read.config)
    network = gtcrn(read.params, read.config, read.window_or(window))
    graph = streaming_graph(network)
    recipe.assign(chosen, graph)
    return Source(read.name, read.sha256, network, graph, chosen)


def require_names(chosen: Recipe, config: Config) -> None:
    """The recipes that come with the project name the layers of as many GT-conv blocks as the paper has: with more,
    the convolution that makes the mask would be another one than they mean."""
    n, published = len(config.dilations), len(Config().dilations)
    if n != published and chosen.name in recipe.names():
        remedy = "copy it to a .toml file, rename its layers, and name that with --recipe"
        raise Failure(f"names the layers of {published} GT-conv blocks, this has {n}", where=chosen.name, remedy=remedy)


def open_sounds(
    speech: Path | None, noise: Path | None, progress: Progress = assets.to_stderr
) -> tuple[Corpus, Corpus]:
    """Speech and noise: the user's, or the pulled ones. Failure: see `Corpus.open` and `assets.pull`."""
    found = Corpus.open(speech or assets.speech(progress=progress), progress)
    return found, Corpus.open(noise or assets.noise(progress=progress), progress)


def _trained(path: Path, recipe_name: str | None, window: WindowName | None) -> Source:
    if recipe_name is not None:
        remedy = "leave --recipe out, or name a checkpoint to calibrate"
        raise Failure("was trained for its own recipe", where=path, remedy=remedy)
    found = trained.load(path)
    if window not in (None, found.graph.window):
        raise Failure(f"was trained through the window {found.graph.window}", where=path, remedy=OWN_WINDOW)
    header, network = found.header, blank(found.config)
    whose = header.attribution
    return Source(found.name, found.sha256, network, found.graph, header.recipe, header.ranges, found.noisy, whose)
