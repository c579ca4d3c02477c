"""What a board has to hold of a network, in the one definition that every output has.

flash    the model file that the C engine reads
RAM      what that engine sets aside for one stream (states, arena, audio), and the model file where the board's system
         loads it into memory; a microcontroller leaves it in flash

Both are the engine's own figures: the file is emitted, and the engine is asked. Before there are weights a stand-in of
the same sizes has them drawn, for what is equal is stored once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from boards import Board
from calibration.mixing import Mix
from calibration.ranges import Provenance, Ranges, TapRange
from edge_runtime.errors import Failure
from edge_runtime.native import Stream
from edge_runtime.stft import Float32Array
from quant.audit.findings import Totals
from quant.emit.native import limits
from quant.emit.native.emitter import emit_native
from quant.int8.plan import int8_taps, make_plan
from quant.int8.recipe import Precision
from quant.network import registry
from quant.network.graph import Graph

NOWHERE: Final = Provenance("min_max", Mix(), "0" * 64, "0" * 64, "0" * 64)


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the model file, and of what the C engine sets aside for one stream of it."""

    model_bytes: int
    stream_bytes: int

    @classmethod
    def of(cls, model: bytes) -> Footprint:
        """Of a file of the C engine. Failure: it refuses it. ImportError: the engine is not here."""
        return cls(model_bytes=len(model), stream_bytes=Stream(model).n_bytes)

    def needed(self, totals: Totals, board: Board | None) -> Totals:
        """The totals with this flash and RAM; without a board as on one that runs a system."""
        loaded = 0 if board is not None and board.bare else self.model_bytes
        return msgspec.structs.replace(totals, flash_bytes=self.model_bytes, ram_bytes=loaded + self.stream_bytes)


def footprint(
    streaming: Graph, precision: Mapping[str, Precision] | None, ranges: Ranges | None = None
) -> Footprint | None:
    """Of a streaming graph as `prepare` gives it; None where the C engine does not take such a network, or is not here.

    Without `ranges` every grid is of one width: a file is as long on any.
    """
    try:
        limits.require(streaming)
        if precision is None:
            return Footprint.of(emit_native(streaming).data)
        known = ranges or Ranges({tap: TapRange(-1, 1, 1, -1, 1) for tap in int8_taps(streaming, precision)}, NOWHERE)
        return Footprint.of(emit_native(streaming, make_plan(streaming, precision, known)).data)
    except (Failure, ImportError):
        return None


def stand_in(config: Any) -> Graph:
    """A network of these sizes, with the ERB matrices that it would have and weights that nobody trained."""
    network, rng = registry.of_config(config), np.random.default_rng(0)

    def drawn(shape: tuple[int, ...]) -> Float32Array:
        return rng.uniform(0.1, 1.0, shape).astype(np.float32)

    weights = {name: drawn(shape) for name, shape in network.param_shapes(config).items()}
    return network.build(weights | network.fixed(config), config, network.window)
