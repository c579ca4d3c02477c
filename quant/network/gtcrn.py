"""GTCRN, written once: the network of Rong et al., "GTCRN: A Speech Enhancement Network Requiring Ultralow
Computational Resources" (ICASSP 2024), as a graph of one frame.

Every parameter keeps the name it has in the official checkpoints, so a state dict needs no translation.
Abbreviations of the paper: ERB equivalent rectangular bandwidth, SFE subband feature extraction, TRA temporal
recurrent attention, GT-conv grouped temporal convolution block, DPGRNN grouped dual-path recurrent network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from edge_runtime.stft import SQRT_HANN
from quant.network.builder import KERNELS, N_BINS, SPECTRUM, Builder
from quant.network.family import Cache, Network, Paper, Setting, Shapes, n_numbered, with_state
from quant.network.graph import MOST_BLOCKS, Graph, Node, Shape, State

NAME = "gtcrn"


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
        if max(len(self.dilations), self.n_dpgrnn) > MOST_BLOCKS:
            yield f"{len(self.dilations)} dilations and {self.n_dpgrnn} DPGRNNs: at most {MOST_BLOCKS} are compiled"
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


class _Gtcrn(Builder):
    """What GTCRN has beside the layers of every network here."""

    network = NAME

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
        gate = self.temporal_attention(prefix, x, energy="energy", gru="att_gru", linear="att_fc", gate="att_act")
        return self.add("gate", f"{prefix}.gated", (x, gate), self.shapes[x])

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


def _network(c: Config) -> _Gtcrn:
    b = _Gtcrn()
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


def _encoder(b: _Gtcrn, c: Config, x: str) -> list[str]:
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


def _decoder(b: _Gtcrn, c: Config, x: str, skips: list[str]) -> str:
    for i, dilation in enumerate(reversed(c.dilations)):
        x = b.add("add", f"decoder.skips.{i}", (x, skips.pop()), b.shapes[x])
        x = b.gt_conv_block(f"decoder.de_convs.{i}", x, dilation, deconv=True)
    for i, (channels, groups) in enumerate(((c.channels, c.groups), (2, 1)), start=len(c.dilations)):
        x = b.add("add", f"decoder.skips.{i}", (x, skips.pop()), b.shapes[x])
        prefix, shape = f"decoder.de_convs.{i}", Shape(channels, 2 * b.shapes[x].bands - 1)
        x = b.conv_block(prefix, x, shape, deconv=True, kernel=c.kernel, groups=groups, last=channels == 2)
    return x


# --- what the rooms above know of it ------------------------------------------------------------------------------

FIELDS = {
    "channels": "channels",
    "low_bins": "n_low_bins",
    "erb_bands": "n_high_bands",
    "kernel": "kernel",
    "dilations": "dilations",
    "dpgrnn": "n_dpgrnn",
    "groups": "groups",
}  # as typed -> the field of Config


def of_shapes(shapes: Shapes) -> Config | None:
    """The network of parameters with official names and these shapes; None where they are of no GTCRN, or where another
    number of GT-conv blocks than three leaves the dilations unknown."""
    try:
        first = shapes["encoder.en_convs.0.conv.weight"]
        second = shapes["encoder.en_convs.1.conv.weight"]
        n_high_bands, n_high_bins = shapes["erb.erb_fc.weight"]
        if n_numbered(shapes, "encoder.en_convs.{}.depth_conv.weight", 2) != len(Config().dilations):
            return None
        return Config(
            channels=first[0],
            n_low_bins=N_BINS - n_high_bins,
            n_high_bands=n_high_bands,
            kernel=first[3],
            n_dpgrnn=n_numbered(shapes, "dpgrnn{}.intra_fc.weight", 1),
            groups=second[0] // second[1],
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        return None


def n_fft(shapes: Shapes) -> int | None:
    """The samples of the window whose bins the DPGRNN and the ERB filters share out."""
    bands, erb = shapes.get("dpgrnn1.intra_ln.weight", ()), shapes.get("erb.erb_fc.weight", ())
    if len(bands) != 2 or len(erb) != 2:
        return None
    n_low = 4 * bands[0] - 3 - erb[0]  # halved twice, and doubled again, come out as they went in
    return 2 * (n_low + erb[1] - 1) if n_low > 0 else None


def _conv_sides(graph: Graph) -> tuple[tuple[Node, ...], ...]:
    """Of the encoder, of the decoder: by rising dilation index."""
    return with_state(graph, "conv", "encoder."), with_state(graph, "conv", "decoder.")[::-1]


NETWORK = Network(
    name=NAME,
    title="GTCRN",
    config=Config,
    layers=_network,
    of_shapes=of_shapes,
    n_fft=n_fft,
    n_named_blocks=lambda config: len(config.dilations),
    blocks="GT-conv blocks",
    attentions=(".tra",),
    settings={
        name: Setting("numbers" if name == "dilations" else "number", attrgetter(field))
        for name, field in FIELDS.items()
    },
    sized=lambda values: Config(**{FIELDS[name]: value for name, value in values.items()}),
    window=SQRT_HANN,
    recipe="static",
    embedded="default.trained",
    trained_on=(
        "Weights: GTCRN trained on the DNS Challenge 3 corpus by its authors, then trained further here under 8-bit"
        " rounding. Sounds of that training: LibriSpeech (Panayotov et al. 2015, CC BY 4.0), CSTR VCTK (Yamagishi et"
        " al., CC BY 4.0), Picovoice's speech-to-intent benchmark (Apache-2.0), ESC-10 (Piczak 2015, CC BY 3.0)."
    ),
    pulled=True,
    weights_at="https://github.com/Xiaobin-Rong/gtcrn",
    caches=(
        Cache("conv_cache", _conv_sides, "convolutions"),
        Cache("tra_cache", lambda graph: (with_state(graph, "gru", ".att_gru"),), "recurrent"),
        Cache("inter_cache", lambda graph: (with_state(graph, "gru", ".inter_rnn"),), "recurrent"),
    ),
    paper=Paper(
        citation=(
            'Rong et al., "GTCRN: A Speech Enhancement Network Requiring Ultralow Computational Resources", ICASSP 2024'
        ),
        url="https://ieeexplore.ieee.org/document/10448310",
        n_parameters=23_700,
        mmacs_per_s=33.0,
    ),
    copyright="Copyright (c) 2024 Rong Xiaobin",
    licence="MIT",
    advice="the smallest: for microcontrollers, little memory and slow boards",
)

gtcrn, blank, param_shapes = NETWORK.build, NETWORK.blank, NETWORK.param_shapes
