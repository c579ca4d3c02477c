"""What the audit finds, as report.json holds it: structs alone, so that whoever reads a report loads nothing heavy.

Units are in the names, shares are 0 to 1, MACs are of one frame unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from quant.network.graph import Shape

Counted = int | float  # a count stays a whole number in JSON


class LayerCount(msgspec.Struct, frozen=True, kw_only=True):
    """What one node of the streaming graph needs.

    `nonzero_macs_frame` leaves out weights that are zero. `n_stored` are parameters as they are kept, BatchNorm folded.
    `activation_bytes` is every value alive while the node runs: inputs, output, what later nodes wait for.
    """

    name: str
    kind: str
    shape: Shape
    precision: str
    macs_frame: int
    nonzero_macs_frame: int
    weight_bytes: int
    state_bytes: int
    activation_bytes: int
    n_stored: int


class Layer(LayerCount, frozen=True, kw_only=True):
    """A node, with the published counts of the layers that it does the work of. `share`: of the executed MACs.

    `n_parameters` are the network's own, learned and fixed, before BatchNorm is folded; `published_macs` of one second.
    """

    mmacs_per_s: float
    share: float
    n_learned: int
    n_fixed: int
    n_parameters: int
    published_macs: int

    @property
    def quiet(self) -> bool:
        """Whether the node multiplies nothing, keeps nothing and came from no layer with parameters."""
        return not (self.macs_frame or self.state_bytes or self.n_parameters)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The sums over all layers; activations are a maximum, for they share memory.

    `flash_bytes`, `ram_bytes`: see `footprint`. Where no model file can be made the one is 0, and the other weights,
    states and activations as they are counted.
    """

    n_parameters: int
    macs_frame: int
    nonzero_macs_frame: int
    int8_macs_frame: int
    weight_bytes: int
    state_bytes: int
    peak_activation_bytes: int
    mmacs_per_s: float
    int8_share: float
    ram_bytes: int
    frames_per_s: float
    flash_bytes: int = 0


class PublishedCount(msgspec.Struct, frozen=True, kw_only=True):
    """One layer under the published convention; `macs` is for all frames together."""

    name: str
    kind: str
    n_learned: int
    n_fixed: int
    macs: int


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The network as papers count it: `macs` of `n_frames` frames, one second."""

    convention: str
    n_frames: int
    macs: int
    mmacs_per_s: float
    n_learned: int
    n_fixed: int
    layers: tuple[PublishedCount, ...]

    @property
    def n_parameters(self) -> int:
        """Learned and fixed."""
        return self.n_learned + self.n_fixed


class BudgetLine(msgspec.Struct, frozen=True, kw_only=True):
    """A figure against its limit, in the unit that `name` ends with, and the layer that needs most of it.

    `name` is a field of the board's budget, or the option that set the limit.
    """

    name: str
    title: str
    value: Counted
    limit: Counted
    largest_layer: str
    largest_value: Counted
    exceeded: bool

    @property
    def sentence(self) -> str:
        """What was found and what is allowed, on one line."""
        verdict = "exceeds" if self.exceeded else "of at most"
        return (
            f"{self.title} {_number(self.value)} {verdict} {_number(self.limit)}, "
            f"{self.value / self.limit:.0%}; most in {self.largest_layer}, {_number(self.largest_value)}"
        )


class BudgetPart(msgspec.Struct, frozen=True, kw_only=True):
    """Every layer, the totals, and each line of a board's budget and of limits given beside it."""

    board: str | None
    fits: bool
    exceeded: tuple[str, ...]
    budget: tuple[BudgetLine, ...]
    totals: Totals
    layers: tuple[Layer, ...]
    published: Published

    def line(
        self, name: str, title: str, value: Counted, limit: Counted, of_layer: Callable[[Layer], Counted]
    ) -> BudgetLine:
        """`value` of the whole against its limit; `of_layer` says what a layer has of it."""
        largest = max(self.layers, key=of_layer)
        return BudgetLine(
            name=name,
            title=title,
            value=value,
            limit=limit,
            largest_layer=largest.name,
            largest_value=of_layer(largest),
            exceeded=value > limit,
        )

    def judged_by(self, lines: Sequence[BudgetLine]) -> BudgetPart:
        """The same counts under these lines."""
        exceeded = tuple(line.name for line in lines if line.exceeded)
        return msgspec.structs.replace(self, fits=not exceeded, exceeded=exceeded, budget=tuple(lines))


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in the arena: `n_bytes` at `offset`, from the node numbered `first` to the one numbered `last`."""

    name: str
    n_bytes: int
    first: int
    last: int
    offset: int

    def meets(self, other: Tensor) -> bool:
        """Whether both live at the same time."""
        return self.first <= other.last and other.first <= self.last


class MemoryPart(msgspec.Struct, frozen=True, kw_only=True):
    """Peak activation memory of one frame. `live_bytes`: for each node in order, the bytes alive while it runs.

    `peak_live_bytes` is the most of them: no placement needs less.
    """

    arena_bytes: int
    peak_live_bytes: int
    peak_node: str
    live_bytes: tuple[int, ...]
    tensors: tuple[Tensor, ...]


class CoverageNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node in one engine: planned and executed precision, its MACs a frame, and how many of them in 8 bits."""

    node: str
    kind: str
    planned: str
    executed: str
    macs: int
    int8_macs: int


class CoveragePart(msgspec.Struct, frozen=True, kw_only=True):
    """Every node of a model; `int8_share` is the part of the MACs executed in 8 bits.

    `multiplied`: MACs of the engine's own operators by type of their result, zeros counted too; empty where not read.
    """

    engine: str
    macs_frame: int
    int8_share: float
    multiplied: dict[str, int]
    nodes: tuple[CoverageNode, ...]


class AccuracyRow(msgspec.Struct, frozen=True, kw_only=True):
    """SQNR in dB, cosine similarity, worst error in the value's own units; a float value loses nothing alone."""

    tap: str
    type: str
    isolated_sqnr_db: float
    isolated_cosine: float
    isolated_worst: float
    isolated_output_sqnr_db: float
    cumulative_sqnr_db: float
    cumulative_cosine: float
    cumulative_worst: float


class HistogramPart(msgspec.Struct, frozen=True, kw_only=True):
    """How often a float value takes which size, and what its 8-bit grid keeps: `counts` in bins of equal width from
    `minimum` to `maximum`; what lies outside `low` .. `high` is clipped."""

    tap: str
    minimum: float
    maximum: float
    low: float
    high: float
    n_values: int
    clipped_share: float
    counts: tuple[int, ...]


class LossPart(msgspec.Struct, frozen=True, kw_only=True):
    """What rounding one block more adds to the noise at the output, over the output's energy: see `audit.losses`."""

    block: str
    noise: float


class EstimatePart(msgspec.Struct, frozen=True, kw_only=True):
    """Time of a whole hop through one engine, one thread: a range, and where it comes from."""

    engine: str
    precision: str
    low_ms: float
    high_ms: float
    source: str


class FrameTime(EstimatePart, frozen=True, kw_only=True):
    """An estimate, or what a bench of the board measured: then from the median to the 99th percentile.

    `n_instructions` of a hop, None where measured. `fits`: within the board's `budget.rtf`, an estimate even at its
    highest, a measurement in the mean.
    """

    n_instructions: int | None
    fits: bool
    measured: bool
    label: Literal["measured", "estimate"]  # never let an estimate pass for a measurement

    @property
    def middle_ms(self) -> float:
        """Geometric mean of the range."""
        return float((self.low_ms * self.high_ms) ** 0.5)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
