"""UL-UNAS, written once: the network of Rong et al., "UL-UNAS: Ultra-Lightweight U-Nets for Real-Time Speech
Enhancement via Network Architecture Search" (IEEE TASLP 34, 2026), as a graph of one frame.

Every parameter keeps the name it has in the official checkpoints, so a state dict needs no translation.
Abbreviations of the paper: APReLU affine PReLU, cTFA causal time-frequency attention, DWS depthwise separable, MB
mobile block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.stft import HANN, Float32Array, WindowName
from quant.network.builder import GRU_ROLES, N_BINS, SPECTRUM, Builder
from quant.network.erb import merging_matrix
from quant.network.graph import Graph, Shape, State

BANDS_A_STEP = 4  # bands that are one step of the recurrent network over bands


@dataclass(frozen=True)
class Block:
    """One block of the encoder (paper, table of the found architecture); the decoder has its mirror image."""

    kind: Literal["conv", "dws", "mb"]
    channels: int
    kernel: tuple[int, int]  # frames, bands
    stride: int = 1  # over bands
    groups: int = 2


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

    @property
    def n_bands(self) -> int:
        """ERB bands: low bins copied, high bins merged."""
        return self.n_low_bins + self.n_high_bands


class _Ulunas(Builder):
    """What UL-UNAS has beside the layers of every network here."""

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
        over_time = self.temporal_attention(prefix, x, energy="ta_energy", gru="ta_gru", linear="ta_fc", gate="ta")
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


def ulunas(params: Mapping[str, Float32Array], config: Config | None = None, window: WindowName = HANN) -> Graph:
    """The streaming graph with a checkpoint's parameters (name -> array, see `quant.inputs.checkpoint.load`), that
    were trained on spectra through `window`."""
    return _network(config or Config()).graph(params, window)


def blank(config: Config | None = None) -> Graph:
    """The network without a checkpoint, every parameter one but the ERB matrices: enough to count."""
    config = config or Config()
    params = {name: np.ones(shape, np.float32) for name, shape in param_shapes(config).items()}
    merging = merging_matrix(config.n_low_bins, config.n_high_bands)
    return ulunas(params | {"erb.erb_fc.weight": merging, "erb.ierb_fc.weight": merging.T}, config)


def param_shapes(config: Config | None = None) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, in the order of the network; what a checkpoint must hold."""
    return _network(config or Config()).param_shapes()


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
    for i in range(c.n_dpgrnn):
        for which in ("intra", "inter"):
            x = b.path(f"dpgrnn.{i}", which, x, c.groups, b.shapes[x])
    before.pop()
    for i, block in enumerate(reversed(c.blocks)):
        x = b.add("add", f"decoder.skips.{i}", (x, skips.pop()), b.shapes[x])
        last = i + 1 == len(c.blocks)
        x = getattr(b, block.kind)(f"decoder.de_convs.{i}", x, before.pop(), block, deconv=True, last=last)
    x = b.add("sigmoid", "decoder.mask", (x,), b.shapes[x])
    x = b.erb("split_bands", "erb.mask", x, Shape(1, N_BINS), weight="erb.ierb_fc.weight", n_low=c.n_low_bins)
    b.add("real_mask", "enhanced", (SPECTRUM, x), Shape(2, N_BINS))
    return b
