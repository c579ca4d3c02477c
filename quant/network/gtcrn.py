"""GTCRN, written once: the network of Rong et al., "GTCRN: A Speech Enhancement Network Requiring Ultralow
Computational Resources" (ICASSP 2024), as a graph of one frame.

Every parameter keeps the name it has in the official checkpoints, so a state dict needs no translation.
Abbreviations of the paper: ERB equivalent rectangular bandwidth, SFE subband feature extraction, TRA temporal
recurrent attention, GT-conv grouped temporal convolution block, DPGRNN grouped dual-path recurrent network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.stft import Float32Array
from quant.network.erb import merging_matrix
from quant.network.graph import KINDS, Graph, Node, Shape, State

SPECTRUM = "spectrum"
N_BINS = 257
KERNELS = (3, 5)  # bands, of the convolutions with stride 2
GRU_ROLES = {role: f"{role}_l0" for role in KINDS["gru"]}


@dataclass(frozen=True)
class Config:
    """The sizes of the network (paper, section 3.2); the defaults are the published model."""

    channels: int = 16
    n_low_bins: int = 65
    n_high_bands: int = 64
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 5)
    n_dpgrnn: int = 2
    groups: int = 2

    def __post_init__(self) -> None:
        """An impossible network dies here, in one sentence."""
        if problem := next(self._problems(), None):
            raise ValueError(problem)

    def _problems(self) -> Iterator[str]:
        if self.groups < 1 or self.n_dpgrnn < 1:
            yield f"groups ({self.groups}) and DPGRNNs ({self.n_dpgrnn}) must be at least 1"
        if self.channels < 1 or self.channels % (2 * max(self.groups, 1)):
            yield (
                f"{self.channels} channels do not split into halves and {self.groups} groups of two directions: "
                f"channels must be a multiple of {2 * self.groups}"
            )
        if self.kernel not in KERNELS:  # `passes.fuse_neighbours` mends one band at each end
            yield f"a kernel of {self.kernel} bands is not written: it must be one of {KERNELS}"
        if not self.dilations or min(self.dilations) < 1:
            yield f"dilations {self.dilations} must be one or more numbers from 1"
        n_high_bins = N_BINS - self.n_low_bins
        if self.n_low_bins < 1 or self.n_high_bands < 2 or n_high_bins < self.n_high_bands:
            yield (
                f"{self.n_low_bins} low bins and {self.n_high_bands} ERB bands do not fit into {N_BINS} bins: "
                f"{n_high_bins} bins remain for bands that are merged"
            )
        if self.n_bands % 4 != 1:
            yield (
                f"{self.n_low_bins} low bins and {self.n_high_bands} ERB bands are {self.n_bands}: halved twice and "
                f"doubled again only 4 n + 1 bands come out as they went in, such as {self.n_bands // 4 * 4 + 1}"
            )

    @property
    def n_bands(self) -> int:
        """ERB bands: low bins copied, high bins merged."""
        return self.n_low_bins + self.n_high_bands


class _Builder:
    """Collects nodes; every method adds one and returns the name of its value."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {SPECTRUM: Shape(2, N_BINS)}

    def add(
        self,
        kind: str,
        name: str,
        inputs: tuple[str, ...],
        shape: Shape,
        *,
        state: State | None = None,
        params: Mapping[str, tuple[str, ...]] | None = None,
        **attrs: Any,
    ) -> str:
        self.nodes.append(Node(kind, name, inputs, dict(params or {}), attrs, state))
        self.shapes[name] = shape
        return name

    def layer(self, kind: str, name: str, x: str, shape: Shape, *, state: State | None = None, **attrs: Any) -> str:
        """A node whose parameters are called `<name>.<role>`."""
        params = {role: (f"{name}.{role}",) for role in KINDS[kind]}
        return self.add(kind, name, (x,), shape, params=params, state=state, **attrs)

    def erb(self, kind: str, name: str, x: str, shape: Shape, *, weight: str, n_low: int) -> str:
        """High bins to ERB bands or back; the low ones pass."""
        return self.add(kind, name, (x,), shape, params={"weight": (weight,)}, n_low=n_low)

    def conv_bn(
        self,
        conv: str,
        bn: str,
        x: str,
        shape: Shape,
        *,
        deconv: bool,
        kernel: tuple[int, int] = (1, 1),
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        state: State | None = None,
    ) -> str:
        kind = "conv_transpose" if deconv else "conv"
        y = self.layer(
            kind,
            conv,
            x,
            shape,
            kernel=kernel,
            stride=stride,
            groups=groups,
            pad=kernel[1] // 2,
            dilation=dilation,
            state=state,
        )
        return self.layer("batch_norm", bn, y, shape)

    def conv_block(
        self, prefix: str, x: str, shape: Shape, *, deconv: bool, kernel: int, groups: int, last: bool = False
    ) -> str:
        """Convolution over bands with stride 2, BatchNorm, PReLU (tanh after the last one)."""
        y = self.conv_bn(
            f"{prefix}.conv",
            f"{prefix}.bn",
            x,
            shape,
            deconv=deconv,
            kernel=(1, kernel),
            stride=2,
            groups=groups,
        )
        act = f"{prefix}.act"
        return self.add("tanh", act, (y,), shape) if last else self.layer("prelu", act, y, shape)

    def tra(self, prefix: str, x: str) -> str:
        """Temporal recurrent attention (section 3.2.3): a GRU over the frame energies gates each channel."""
        channels, bands = self.shapes[x]
        hidden = 2 * channels
        energy = self.add("mean_square", f"{prefix}.energy", (x,), Shape(channels, 1))
        gru = f"{prefix}.att_gru"
        h = self.add(
            "gru",
            gru,
            (energy,),
            Shape(hidden, 1),
            state=State(f"{gru}.state", 1, 1, hidden),
            params={role: (f"{gru}.{name}",) for role, name in GRU_ROLES.items()},
        )
        fc = self.layer("linear", f"{prefix}.att_fc", h, Shape(channels, 1))
        gate = self.add("sigmoid", f"{prefix}.att_act", (fc,), Shape(channels, 1))
        return self.add("gate", f"{prefix}.gated", (x, gate), Shape(channels, bands))

    def gt_conv_block(self, prefix: str, x: str, dilation: int, *, deconv: bool) -> str:
        """Half of the channels: SFE, pointwise, depthwise over time, pointwise, TRA; then shuffled with the rest."""
        channels, bands = self.shapes[x]
        half, wide, narrow = channels // 2, Shape(channels, bands), Shape(channels // 2, bands)
        x1 = self.add("slice", f"{prefix}.x1", (x,), narrow, start=0, stop=half)
        x2 = self.add("slice", f"{prefix}.x2", (x,), narrow, start=half, stop=channels)
        y = self.add("neighbours", f"{prefix}.sfe", (x1,), Shape(3 * half, bands))
        y = self.conv_bn(f"{prefix}.point_conv1", f"{prefix}.point_bn1", y, wide, deconv=deconv)
        y = self.layer("prelu", f"{prefix}.point_act", y, wide)
        history = State(f"{prefix}.depth_conv.state", 2 * dilation, bands, channels)
        y = self.conv_bn(
            f"{prefix}.depth_conv",
            f"{prefix}.depth_bn",
            y,
            wide,
            deconv=deconv,
            kernel=(3, 3),
            groups=channels,
            dilation=dilation,
            state=history,
        )
        y = self.layer("prelu", f"{prefix}.depth_act", y, wide)
        y = self.conv_bn(f"{prefix}.point_conv2", f"{prefix}.point_bn2", y, narrow, deconv=deconv)
        y = self.tra(f"{prefix}.tra", y)
        return self.add("shuffle", prefix, (y, x2), wide)

    def path(self, prefix: str, which: str, x: str, groups: int, shape: Shape) -> str:
        """One half of a DPGRNN: recurrent network, linear, LayerNorm, residual (section 3.2.4)."""
        rnn, suffixes = f"{prefix}.{which}_rnn", ("", "_reverse") if which == "intra" else ("",)
        params = {
            role: tuple(f"{rnn}.rnn{g + 1}.{name}{s}" for g in range(groups) for s in suffixes)
            for role, name in GRU_ROLES.items()
        }
        state = None if which == "intra" else State(f"{rnn}.state", 1, shape.bands, shape.channels)
        kind = "bigru" if which == "intra" else "gru"
        y = self.add(kind, rnn, (x,), shape, params=params, state=state, groups=groups)
        y = self.layer("linear", f"{prefix}.{which}_fc", y, shape)
        y = self.layer("layer_norm", f"{prefix}.{which}_ln", y, shape, eps=1e-8)
        return self.add("add", f"{prefix}.{which}_out", (x, y), shape)


def gtcrn(params: Mapping[str, Float32Array], config: Config | None = None) -> Graph:
    """The streaming graph with a checkpoint's parameters (name -> array, see `quant.inputs.checkpoint.load`)."""
    b = _network(config or Config())
    wanted = param_shapes(config)
    kept = {k: np.asarray(v, np.float32) for k, v in params.items() if k in wanted}
    return Graph({SPECTRUM: b.shapes[SPECTRUM]}, tuple(b.nodes), b.shapes, kept, b.nodes[-1].name)


def blank(config: Config | None = None) -> Graph:
    """The network without a checkpoint, every parameter one but the ERB matrices: enough to count."""
    config = config or Config()
    params = {name: np.ones(shape, np.float32) for name, shape in param_shapes(config).items()}
    merging = merging_matrix(config.n_low_bins, config.n_high_bands)
    return gtcrn(params | {"erb.erb_fc.weight": merging, "erb.ierb_fc.weight": merging.T}, config)


def param_shapes(config: Config | None = None) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, in the order of the network; what a checkpoint must hold."""
    b = _network(config or Config())
    return {name: shape for n in b.nodes for name, shape in _node_param_shapes(n, b.shapes)}


def _node_param_shapes(node: Node, shapes: Mapping[str, Shape]) -> list[tuple[str, tuple[int, ...]]]:
    source, target = shapes[node.inputs[0]], shapes[node.name]
    groups = node.attrs.get("groups", 1)
    n_out = target.channels
    if node.kind in ("conv", "conv_transpose"):
        ends = (n_out, source.channels) if node.kind == "conv" else (source.channels, n_out)
        sizes: dict[str, tuple[int, ...]] = {
            "weight": (ends[0], ends[1] // groups, *node.attrs["kernel"]),
            "bias": (n_out,),
        }
    elif node.kind == "linear":
        sizes = {"weight": (n_out, source.channels), "bias": (n_out,)}
    elif node.kind in ("gru", "bigru"):
        n_in = source.channels // groups
        hidden = n_out // groups // (2 if node.kind == "bigru" else 1)
        sizes = {
            "weight_ih": (3 * hidden, n_in),
            "weight_hh": (3 * hidden, hidden),
            "bias_ih": (3 * hidden,),
            "bias_hh": (3 * hidden,),
        }
    elif node.kind == "layer_norm":
        sizes = dict.fromkeys(KINDS[node.kind], (target.bands, target.channels))
    elif node.kind in ("merge_bands", "split_bands"):
        n_low = node.attrs["n_low"]
        sizes = {"weight": (target.bands - n_low, source.bands - n_low)}
    else:
        sizes = dict.fromkeys(KINDS[node.kind], (1,) if node.kind == "prelu" else (n_out,))
    return [(name, sizes[role]) for role, names in node.params.items() for name in names]


def _network(c: Config) -> _Builder:
    b = _Builder()
    x = b.add("features", "features", (SPECTRUM,), Shape(3, N_BINS))
    x = b.erb("merge_bands", "erb.bands", x, Shape(3, c.n_bands), weight="erb.erb_fc.weight", n_low=c.n_low_bins)
    x = b.add("neighbours", "sfe", (x,), Shape(9, c.n_bands))
    skips = _encoder(b, c, x)
    x = skips[-1]
    for i in range(1, c.n_dpgrnn + 1):
        for which in ("intra", "inter"):
            x = b.path(f"dpgrnn{i}", which, x, c.groups, b.shapes[x])
    x = _decoder(b, c, x, skips)
    x = b.erb("split_bands", "erb.mask", x, Shape(2, N_BINS), weight="erb.ierb_fc.weight", n_low=c.n_low_bins)
    b.add("mask", "enhanced", (SPECTRUM, x), Shape(2, N_BINS))
    return b


def _encoder(b: _Builder, c: Config, x: str) -> list[str]:
    """The output of every block, which the decoder adds in reverse order."""
    skips = []
    for i, groups in enumerate((1, c.groups)):
        shape = Shape(c.channels, (b.shapes[x].bands + 1) // 2)
        x = b.conv_block(f"encoder.en_convs.{i}", x, shape, deconv=False, kernel=c.kernel, groups=groups)
        skips.append(x)
    for i, dilation in enumerate(c.dilations, start=len(skips)):
        x = b.gt_conv_block(f"encoder.en_convs.{i}", x, dilation, deconv=False)
        skips.append(x)
    return skips


def _decoder(b: _Builder, c: Config, x: str, skips: list[str]) -> str:
    for i, dilation in enumerate(reversed(c.dilations)):
        x = b.add("add", f"decoder.skips.{i}", (x, skips.pop()), b.shapes[x])
        x = b.gt_conv_block(f"decoder.de_convs.{i}", x, dilation, deconv=True)
    for i, (channels, groups) in enumerate(((c.channels, c.groups), (2, 1)), start=len(c.dilations)):
        x = b.add("add", f"decoder.skips.{i}", (x, skips.pop()), b.shapes[x])
        prefix, shape = f"decoder.de_convs.{i}", Shape(channels, 2 * b.shapes[x].bands - 1)
        x = b.conv_block(prefix, x, shape, deconv=True, kernel=c.kernel, groups=groups, last=channels == 2)
    return x
