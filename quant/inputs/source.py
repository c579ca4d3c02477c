"""What a build starts from: a checkpoint to calibrate, or a trained file to compile as it was trained; and sounds.

nothing named            the trained default of the network that comes with the project
--recipe R               the pulled official weights, calibrated
--checkpoint F           calibrated with the recipe of its network, or R
--checkpoint F.trained   as it was trained, with its own recipe and ranges
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.corpus import Corpus
from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from edge_runtime.quiet import Progress, silent
from edge_runtime.stft import HANN, HOP_SAMPLES, SQRT_HANN, WINDOW_SAMPLES, Float32Array, WindowName
from quant.inputs import assets, checkpoint, trained
from quant.inputs.checkpoint import Checkpoint
from quant.int8 import recipe
from quant.int8.recipe import Recipe
from quant.network import registry
from quant.network.family import Network
from quant.network.graph import Graph
from quant.network.passes import streaming_graph

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
    network: str | None = None  # a name of `network.registry`; weights that are named tell theirs

    def by_recipe(self) -> Inputs:
        """The same; where neither weights nor a recipe are named the pulled weights, not the trained default."""
        if self.recipe is not None or self.checkpoint is not None:
            return self
        return replace(self, recipe=registry.load(self.network).recipe)


@dataclass(frozen=True)
class Source:
    """A network to quantize. `network` is it before any pass (a trained file keeps only the streaming graph: a blank
    network of its sizes stands for it); `ranges` and `noisy` (clips, samples) come with a trained file."""

    name: str
    sha256: str
    family: Network
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
    return open_source(inputs.checkpoint, inputs.recipe, progress, inputs.window, inputs.network)


def sounds(inputs: Inputs, progress: Progress) -> tuple[Corpus, Corpus]:
    """Speech and noise that calibration clips are mixed from."""
    progress("mixing calibration speech")
    return open_sounds(inputs.speech, inputs.noise, progress)


def open_source(
    path: Path | None,
    recipe_name: str | None,
    progress: Progress = silent,
    window: WindowName | None = None,
    network: str | None = None,
) -> Source:
    """Read what was asked for. Failure: no such file, another network, a recipe or a window that does not fit."""
    if path is None and recipe_name is None:
        path = trained.embedded(registry.load(network))
    if path is not None and trained.is_one(path):
        return _trained(path, recipe_name, window, network)
    named = None if recipe_name is None else recipe.load(recipe_name)
    read = open_checkpoint(path, network, progress)
    chosen = named or recipe.load(read.network.recipe)
    if path is not None and window is None and read.window is None:
        progress(f"{path}: weights do not tell their window; taken is {_told(read)}; else give --window")
    require_names(chosen, read.config)
    before = read.graph(window)
    graph = streaming_graph(before)
    recipe.assign(chosen, graph)
    return Source(read.name, read.sha256, read.network, before, graph, chosen)


def open_checkpoint(path: Path | None, network: str | None, progress: Progress) -> Checkpoint:
    """The file, or the pulled weights of a network. Failure: of another network, or none are pulled."""
    family = registry.load(network)
    if path is None and not family.pulled:
        remedy = f"name a checkpoint with --checkpoint: {family.weights_at}"
        raise Failure(f"no weights of {family.title} are pulled", remedy=remedy)
    read = checkpoint.load(path or assets.weights(progress=progress), progress)
    require_network(read.network, network, path)
    return read


def require_network(found: Network, asked: str | None, where: Path | None) -> None:
    """Failure: it is not the one that was asked for."""
    if found is not registry.load(asked or found.name):
        raise Failure(f"is {found.title}, not {asked}", where=where, remedy="leave --network out")


def _told(read: Checkpoint) -> str:
    """The window of a network in words."""
    words = {SQRT_HANN: "the root of a Hann window", HANN: "a Hann window"}[read.network.window]
    return f"{words}, {WINDOW_SAMPLES} samples, hops of {HOP_SAMPLES}, as the published {read.network.title}'s"


def require_names(chosen: Recipe, config: Any) -> None:
    """The recipes that come with the project name layers as the paper has them: in a network of other layers the same
    name may be of another one than they mean."""
    network = registry.of_config(config)
    n, published = (network.n_named_blocks(sizes) for sizes in (config, network.published))
    if n != published and chosen.name in recipe.names():
        remedy = "copy it to a .toml file, rename its layers, and name that with --recipe"
        raise Failure(
            f"names the layers of {published} {network.blocks}, this has {n}", where=chosen.name, remedy=remedy
        )


def open_sounds(
    speech: Path | None, noise: Path | None, progress: Progress = assets.to_stderr
) -> tuple[Corpus, Corpus]:
    """Speech and noise: the user's, or the pulled ones. Failure: see `Corpus.open` and `assets.pull`."""
    found = Corpus.open(speech or assets.speech(progress=progress), progress)
    return found, Corpus.open(noise or assets.noise(progress=progress), progress)


def _trained(path: Path, recipe_name: str | None, window: WindowName | None, network: str | None) -> Source:
    if recipe_name is not None:
        remedy = "leave --recipe out, or name a checkpoint to calibrate"
        raise Failure("was trained for its own recipe", where=path, remedy=remedy)
    found = trained.load(path)
    if window not in (None, found.graph.window):
        raise Failure(f"was trained through the window {found.graph.window}", where=path, remedy=OWN_WINDOW)
    header, family = found.header, found.network
    require_network(family, network, path)
    before = replace(family.blank(found.config), window=found.graph.window)
    own = recipe.named_as_here(header.recipe, found.graph), header.ranges
    return Source(found.name, found.sha256, family, before, found.graph, *own, found.noisy, header.attribution)
