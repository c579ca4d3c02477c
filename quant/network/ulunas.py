"""UL-UNAS, written once: the network of Rong et al., "UL-UNAS: Ultra-Lightweight U-Nets for Real-Time Speech
Enhancement via Network Architecture Search" (IEEE TASLP 34, 2026), as a graph of one frame.

Every parameter keeps the name it has in the official checkpoints, so a state dict needs no translation.
Abbreviations of the paper: APReLU affine PReLU, cTFA causal time-frequency attention, DWS depthwise separable, MB
mobile block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal

from edge_runtime.stft import HANN
from quant.network.builder import GRU_ROLES, KERNELS, N_BINS, SPECTRUM, Builder
from quant.network.family import Cache, Network, Paper, Setting, Shapes, n_numbered, with_state
from quant.network.graph import MOST_BLOCKS, Shape, State

NAME = "ul-unas"
KINDS = ("conv", "dws", "mb")
BANDS_A_STEP = 4  # bands that are one step of the recurrent network over bands


@dataclass(frozen=True)
class Block:
    """One block of the encoder (paper, table of the found architecture); the decoder has its mirror image."""

    kind: Literal["conv", "dws", "mb"]
    channels: int
    kernel: tuple[int, int]  # frames, bands
    stride: int = 1  # over bands
    groups: int = 2

    def problems(self, n_in: int, bands: int) -> Iterator[str]:
        """Why it cannot follow `n_in` channels over so many bands."""
        if self.kind not in KINDS:
            yield f"no kind {self.kind!r}: it is one of {', '.join(KINDS)}"
        if self.groups not in (1, 2) or self.channels < 1:
            yield f"{self.channels} channels in {self.groups} groups: it takes 1 or more, in 1 or 2"
        elif n_in % self.groups or self.channels % self.groups:
            yield f"{n_in} channels to {self.channels} do not split into {self.groups} groups"
        if self.stride not in (1, 2) or (self.stride == 2 and (bands % 2 == 0 or self.kernel[1] not in KERNELS)):
            yield f"a stride of {self.stride} over {bands} bands: it is 1, or 2 over an odd number with {KERNELS} bands"
        if min(self.kernel) < 1 or self.kernel[1] % 2 == 0:
            yield f"a kernel of {self.kernel[0]}x{self.kernel[1]}: it has frames x bands, an odd number of these"


PUBLISHED = (
    Block("conv", 12, (3, 3), 2, 1),
    Block("mb", 24, (2, 3), 2),
    Block("dws", 24, (2, 3)),
    Block("mb", 32, (1, 5)),
    Block("dws", 16, (1, 5)),
)


@dataclass(frozen=True)
class Config:
    """The sizes of the network; the defaults are the published model."""

    blocks: tuple[Block, ...] = PUBLISHED
    n_low_bins: int = 65
    n_high_bands: int = 64
    n_dpgrnn: int = 2
    groups: int = 2

    def __post_init__(self) -> None:
        """An impossible network dies here, in one sentence."""
        if problem := next(self._problems(), None):
            raise ValueError(problem)

    def _problems(self) -> Iterator[str]:
        if self.groups < 1 or self.n_dpgrnn < 1 or not self.blocks:
            yield f"blocks, groups ({self.groups}) and DPGRNNs ({self.n_dpgrnn}) must be at least 1"
        if max(len(self.blocks), self.n_dpgrnn) > MOST_BLOCKS:
            yield f"{len(self.blocks)} blocks and {self.n_dpgrnn} DPGRNNs: at most {MOST_BLOCKS} of each are compiled"
        if self.n_low_bins < 1 or self.n_high_bands < 2 or N_BINS - self.n_low_bins < self.n_high_bands:
            yield f"{self.n_low_bins} low bins and {self.n_high_bands} ERB bands do not fit into {N_BINS} bins"
        channels, bands = 1, self.n_bands
        for i, block in enumerate(self.blocks):
            yield from (f"block {i}: {problem}" for problem in block.problems(channels, bands))
            channels, bands = block.channels, (bands - 1) // max(block.stride, 1) + 1
        if channels % (2 * max(self.groups, 1)):
            yield f"{channels} channels of the last block do not split into {self.groups} groups of two directions"

    @property
    def n_bands(self) -> int:
        """ERB bands: low bins copied, high bins merged."""
        return self.n_low_bins + self.n_high_bands


class _Ulunas(Builder):
    """What UL-UNAS has beside the layers of every network here."""

    network = NAME

    def kernel_conv(
        self, conv: str, bn: str, x: str, shape: Shape, block: Block, *, deconv: bool, depthwise: bool
    ) -> str:
        """The convolution of a block that looks at other frames and bands; BatchNorm."""
        source = self.shapes[x]
        past = block.kernel[0] - 1
        return self.conv_bn(
            conv,
            bn,
            x,
            shape,
            deconv=deconv,
            kernel=block.kernel,
            stride=block.stride,
            groups=source.channels if depthwise else block.groups,
            state=State(f"{conv}.state", past, source.bands, source.channels) if past else None,
        )

    def pointwise(self, prefix: str, x: str, channels: int, groups: int) -> str:
        """1x1 convolution, BatchNorm."""
        shape = Shape(channels, self.shapes[x].bands)
        return self.conv_bn(f"{prefix}.0", f"{prefix}.1", x, shape, deconv=False, groups=groups)

    def aprelu(self, name: str, x: str) -> str:
        """Affine PReLU: a weight and a bias a channel and band, a slope a channel."""
        return self.layer("affine_prelu", name, x, self.shapes[x])

    def shuffled(self, name: str, x: str, groups: int) -> str:
        """The halves of the channels, interleaved; nothing of a block with one group."""
        if groups == 1:
            return x
        channels, bands = self.shapes[x]
        half = Shape(channels // 2, bands)
        x1 = self.add("slice", f"{name}.x1", (x,), half, start=0, stop=channels // 2)
        x2 = self.add("slice", f"{name}.x2", (x,), half, start=channels // 2, stop=channels)
        return self.add("shuffle", name, (x1, x2), self.shapes[x])

    def ctfa(self, prefix: str, x: str) -> str:
        """Causal time-frequency attention: one recurrent network over the frames gates each channel, another over
        the bands each band."""
        shape = self.shapes[x]
        over_time = self.temporal_attention(
            prefix, x, energy="ta_energy", gru="ta_gru", linear="ta_fc", gate="ta", as_products=True
        )
        over_bands = self.band_attention(prefix, x)
        y = self.add("gate", f"{prefix}.over_time", (x, over_time), shape)
        return self.add("band_gate", prefix, (y, over_bands), shape)

    def band_attention(self, prefix: str, x: str) -> str:
        """A GRU over the energies of the bands, both ways, a few neighbours a step, gives a gate a band."""
        bands = self.shapes[x].bands
        n_steps = -(-bands // BANDS_A_STEP)
        y = self.add("mean_square_channels", f"{prefix}.fa_energy", (x,), Shape(1, bands))
        y = self.add("stack_bands", f"{prefix}.fa_steps", (y,), Shape(BANDS_A_STEP, n_steps))
        gru = f"{prefix}.fa.gru"
        params = {role: tuple(f"{gru}.{name}{s}" for s in ("", "_reverse")) for role, name in GRU_ROLES.items()}
        y = self.add("bigru", gru, (y,), Shape(2 * BANDS_A_STEP, n_steps), params=params, groups=1)
        y = self.layer("linear", f"{prefix}.fa.fc", y, Shape(BANDS_A_STEP, n_steps))
        y = self.add("unstack_bands", f"{prefix}.fa_bands", (y,), Shape(1, bands))
        return self.add("sigmoid", f"{prefix}.fa", (y,), Shape(1, bands))

    def conv(self, prefix: str, x: str, shape: Shape, block: Block, *, deconv: bool, last: bool) -> str:
        """X-conv."""
        names = [f"{prefix}.ops.{i}" for i in range(1, 5)]
        y = self.kernel_conv(names[0], names[1], x, shape, block, deconv=deconv, depthwise=False)
        y = y if last else self.aprelu(names[2], y)
        y = self.ctfa(names[3], y)
        return y if last else self.shuffled(f"{prefix}.shuffled", y, block.groups)

    def dws(self, prefix: str, x: str, shape: Shape, block: Block, *, deconv: bool, last: bool) -> str:
        """X-DWS."""
        y = self.aprelu(f"{prefix}.pconv.2", self.pointwise(f"{prefix}.pconv", x, shape.channels, block.groups))
        y = self.shuffled(f"{prefix}.pconv.shuffled", y, block.groups)
        names = [f"{prefix}.dconv.{i}" for i in range(1, 5)]
        y = self.kernel_conv(names[0], names[1], y, shape, block, deconv=deconv, depthwise=True)
        return self.ctfa(names[3], y if last else self.aprelu(names[2], y))

    def mb(self, prefix: str, x: str, shape: Shape, block: Block, *, deconv: bool, last: bool) -> str:
        """X-MB."""
        y = self.aprelu(f"{prefix}.pconv1.2", self.pointwise(f"{prefix}.pconv1", x, shape.channels, block.groups))
        y = self.shuffled(f"{prefix}.pconv1.shuffled", y, block.groups)
        names = [f"{prefix}.dconv.{i}" for i in range(1, 4)]
        y = self.kernel_conv(names[0], names[1], y, shape, block, deconv=deconv, depthwise=True)
        y = self.aprelu(names[2], y)
        y = self.ctfa(f"{prefix}.pconv2.2", self.pointwise(f"{prefix}.pconv2", y, shape.channels, block.groups))
        if self.shapes[x] == shape:
            y = self.add("add", f"{prefix}.residual", (x, y), shape)
        return self.shuffled(f"{prefix}.shuffled", y, block.groups)


def _network(c: Config) -> _Ulunas:
    b = _Ulunas()
    x = b.add("log_magnitude", "features", (SPECTRUM,), Shape(1, N_BINS))
    x = b.erb("merge_bands", "erb.bands", x, Shape(1, c.n_bands), weight="erb.erb_fc.weight", n_low=c.n_low_bins)
    before, skips = [b.shapes[x]], []
    for i, block in enumerate(c.blocks):
        shape = Shape(block.channels, (b.shapes[x].bands - 1) // block.stride + 1)
        x = getattr(b, block.kind)(f"encoder.en_convs.{i}", x, shape, block, deconv=False, last=False)
        before.append(shape)
        skips.append(x)
    b.nodes = [replace(n, attrs={**n.attrs, "wide_input": True}) if n.inputs == ("erb.bands",) else n for n in b.nodes]
    for i in range(c.n_dpgrnn):
        for which in ("intra", "inter"):
            x = b.path(f"dpgrnn.{i}", which, x, c.groups, b.shapes[x], as_products=which == "inter")
    before.pop()
    for i, block in enumerate(reversed(c.blocks)):
        x = b.add("add", f"decoder.skips.{i}", (x, skips.pop()), b.shapes[x])
        last = i + 1 == len(c.blocks)
        x = getattr(b, block.kind)(f"decoder.de_convs.{i}", x, before.pop(), block, deconv=True, last=last)
    x = b.add("sigmoid", "decoder.mask", (x,), b.shapes[x])
    x = b.erb("split_bands", "erb.mask", x, Shape(1, N_BINS), weight="erb.ierb_fc.weight", n_low=c.n_low_bins)
    b.add("real_mask", "enhanced", (SPECTRUM, x), Shape(2, N_BINS))
    return b


# --- what the rooms above know of it ------------------------------------------------------------------------------

WEIGHTS = {"conv": "ops.1", "dws": "dconv.1", "mb": "dconv.1"}  # of each kind: the convolution over frames and bands
ACTIVATIONS = {"conv": "ops.3", "dws": "dconv.3", "mb": "dconv.3"}  # what follows that
ENTRIES = {"conv": "ops.1", "dws": "pconv.0", "mb": "pconv1.0"}  # the convolution that the block begins with


def sized(values: Mapping[str, Any]) -> Config:
    """The sizes of these settings. ValueError: lists of different lengths, or an impossible network."""
    columns = [values[name] for name in ("blocks", "channels", "kernels", "strides", "groups")]
    if len({len(column) for column in columns}) > 1:
        raise ValueError("blocks, channels, kernels, strides and groups list as many as there are blocks")
    return Config(
        blocks=tuple(Block(*row) for row in zip(*columns, strict=True)),
        n_low_bins=values["low_bins"],
        n_high_bands=values["erb_bands"],
        n_dpgrnn=values["dpgrnn"],
        groups=values["dpgrnn_groups"],
    )


def of_shapes(shapes: Shapes) -> Config | None:
    """The network of parameters with official names and these shapes; None where they are of no UL-UNAS."""
    try:
        n_high_bands, n_high_bins = shapes["erb.erb_fc.weight"]
        n_low = N_BINS - n_high_bins
        blocks, channels, bands = list[Block](), 1, n_low + n_high_bands
        while kind := _kind(shapes, prefix := f"encoder.en_convs.{len(blocks)}"):
            weight = shapes[f"{prefix}.{WEIGHTS[kind]}.weight"]
            entry = shapes[f"{prefix}.{ENTRIES[kind]}.weight"]
            after = shapes[f"{prefix}.{ACTIVATIONS[kind]}.affine_weight"][1]
            n_out = weight[0] if kind == "conv" else shapes[f"{prefix}.{LASTS[kind]}.weight"][0]
            stride = 1 if after == bands else 2
            blocks.append(Block(kind, n_out, (weight[2], weight[3]), stride, channels // entry[1]))
            channels, bands = n_out, after
        first = shapes["dpgrnn.0.inter_rnn.rnn1.weight_ih_l0"]
        n_dpgrnn = n_numbered(shapes, "dpgrnn.{}.intra_fc.weight", 0)
        return Config(tuple(blocks), n_low, n_high_bands, n_dpgrnn, channels // first[1])
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        return None


LASTS = {"dws": "pconv.0", "mb": "pconv2.0"}  # the convolution that makes the channels of the block


def _kind(shapes: Shapes, prefix: str) -> Literal["conv", "dws", "mb"] | None:
    found: tuple[Literal["conv", "dws", "mb"], ...] = ("conv", "dws", "mb")
    return next((kind for kind in found if f"{prefix}.{ENTRIES[kind]}.weight" in shapes), None)


def n_fft(shapes: Shapes) -> int | None:
    """The samples of the window whose bins the first block, which halves them, and the ERB filters share out."""
    erb = shapes.get("erb.erb_fc.weight", ())
    after = shapes.get("encoder.en_convs.0.ops.3.affine_weight", ())
    if len(erb) != 2 or len(after) != 2:
        return None
    n_low = 2 * after[1] - 1 - erb[0]
    return 2 * (n_low + erb[1] - 1) if n_low > 0 else None


NETWORK = Network(
    name=NAME,
    title="UL-UNAS",
    config=Config,
    layers=_network,
    of_shapes=of_shapes,
    n_fft=n_fft,
    n_named_blocks=lambda config: 0,  # its recipe names kinds of layers
    blocks="blocks",
    attentions=(),
    settings={
        "blocks": Setting("words", lambda c: tuple(block.kind for block in c.blocks)),
        "channels": Setting("numbers", lambda c: tuple(block.channels for block in c.blocks)),
        "kernels": Setting("kernels", lambda c: tuple(block.kernel for block in c.blocks)),
        "strides": Setting("numbers", lambda c: tuple(block.stride for block in c.blocks)),
        "groups": Setting("numbers", lambda c: tuple(block.groups for block in c.blocks)),
        "low_bins": Setting("number", attrgetter("n_low_bins")),
        "erb_bands": Setting("number", attrgetter("n_high_bands")),
        "dpgrnn": Setting("number", attrgetter("n_dpgrnn")),
        "dpgrnn_groups": Setting("number", attrgetter("groups")),
    },
    sized=sized,
    window=HANN,
    recipe="ul-unas",
    embedded="ul-unas.trained",
    trained_on="",
    pulled=False,
    weights_at="https://github.com/Xiaobin-Rong/ul-unas",
    caches=(
        Cache("conv_cache", lambda graph: (with_state(graph, "conv"),), "flat"),
        Cache("tfa_cache", lambda graph: (with_state(graph, "gru", ".ta_gru"),), "flat"),
        Cache("inter_cache", lambda graph: (with_state(graph, "gru", ".inter_rnn"),), "flat"),
    ),
    paper=Paper(
        citation=(
            'Rong et al., "UL-UNAS: Ultra-Lightweight U-Nets for Real-Time Speech Enhancement via Network Architecture'
            ' Search", IEEE TASLP 34 (2026)'
        ),
        url="https://arxiv.org/abs/2503.00340",
        n_parameters=169_000,
        mmacs_per_s=34.0,
    ),
    copyright="Copyright (c) 2026 Xiaobin Rong",
    licence="MIT",
    advice="the later network, of about as many MACs, with more memory: for Linux boards",
)
