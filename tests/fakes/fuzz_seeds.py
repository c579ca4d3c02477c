"""Where the fuzzer of the native engine starts: weights of small networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from random_networks import random_network, with_erb_bands

from calibration.mixing import Clip, Mix
from quant.emit.native.emitter import emit_native
from quant.int8 import recipe
from quant.int8.recipe import Recipe, Rule
from quant.network.gtcrn import Config, gtcrn
from quant.network.passes import streaming_graph
from quant.ptq.quantize import CalibrationSet, quantize
from quant.training.runs import initial_params

SIZES = {
    "small": Config(channels=4, n_low_bins=5, n_high_bands=4, dilations=(1, 2), n_dpgrnn=1),
    "wide": Config(channels=16, n_low_bins=5, n_high_bands=4, kernel=3, dilations=(2,), n_dpgrnn=1),
}
SECOND = "ul-unas"  # network and recipe
RECIPES = {
    "static": lambda: recipe.load("static"),
    SECOND: lambda: recipe.load(SECOND),
    "everything": lambda: Recipe("everything", (Rule("*", "int8", "all"),)),
}
NO_HASH = "0" * 64


def networks() -> Iterator[tuple[str, bytes]]:
    """Untrained ones in float and in 8 bits, with the usual widths of the kernels and with odd ones."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    clip = Clip(noise, noise, "noise", -np.inf, -20, "", "noise")
    heard = CalibrationSet((clip,), Mix(n_clips=1, clip_ms=1000), NO_HASH, NO_HASH)
    graphs = {size: gtcrn(initial_params(1, config), config) for size, config in SIZES.items()}
    for size, network in (graphs | {SECOND: with_erb_bands(random_network("ul-unas, small"))}).items():
        graph = streaming_graph(network)
        yield f"{size}-fp32", emit_native(graph).data
        for name in ("static" if size != SECOND else SECOND, "everything"):
            quantized = quantize(graph, RECIPES[name](), heard, NO_HASH)
            yield f"{size}-{name}", emit_native(quantized.graph, quantized.plan).data
