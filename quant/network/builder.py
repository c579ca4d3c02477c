"""What networks are built of: layers that more than one of them has, and the shapes of what they learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_runtime.stft import Float32Array, WindowName
from quant.network.graph import KINDS, Graph, Node, Shape, State

SPECTRUM = "spectrum"
N_BINS = 257
KERNELS = (3, 5)  # bands, of the convolutions with stride 2 that `passes` splits into phases
GRU_ROLES = {role: f"{role}_l0" for role in KINDS["gru"]}


class Builder:
    """Collects nodes; every method adds some and returns the name of the last value. `network`: its name."""

    network = ""

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

    # `as_products` of a GRU: runtimes without an 8-bit one are to multiply in 8 bits and compute the gates themselves.

    def temporal_attention(
        self, prefix: str, x: str, *, energy: str, gru: str, linear: str, gate: str, **attrs: bool
    ) -> str:
        """A GRU over the energies of the frames, twice as wide as its input, gives a gate a channel.

        `attrs` are the GRU's.
        """
        channels = self.shapes[x].channels
        hidden, gru = 2 * channels, f"{prefix}.{gru}"
        y = self.add("mean_square", f"{prefix}.{energy}", (x,), Shape(channels, 1))
        params = {role: (f"{gru}.{name}",) for role, name in GRU_ROLES.items()}
        state = State(f"{gru}.state", 1, 1, hidden)
        y = self.add("gru", gru, (y,), Shape(hidden, 1), params=params, state=state, **attrs)
        y = self.layer("linear", f"{prefix}.{linear}", y, Shape(channels, 1))
        return self.add("sigmoid", f"{prefix}.{gate}", (y,), Shape(channels, 1))

    def path(self, prefix: str, which: str, x: str, groups: int, shape: Shape, **attrs: Any) -> str:
        """One half of a DPGRNN: recurrent network, linear, LayerNorm, residual (section 3.2.4)."""
        rnn, suffixes = f"{prefix}.{which}_rnn", ("", "_reverse") if which == "intra" else ("",)
        params = {
            role: tuple(f"{rnn}.rnn{g + 1}.{name}{s}" for g in range(groups) for s in suffixes)
            for role, name in GRU_ROLES.items()
        }
        state = None if which == "intra" else State(f"{rnn}.state", 1, shape.bands, shape.channels)
        kind = "bigru" if which == "intra" else "gru"
        y = self.add(kind, rnn, (x,), shape, params=params, state=state, groups=groups, **attrs)
        y = self.layer("linear", f"{prefix}.{which}_fc", y, shape)
        y = self.layer("layer_norm", f"{prefix}.{which}_ln", y, shape, eps=1e-8)
        return self.add("add", f"{prefix}.{which}_out", (x, y), shape)

    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order of the network; what a checkpoint must hold."""
        return {name: shape for n in self.nodes for name, shape in _node_param_shapes(n, self.shapes)}

    def graph(self, params: Mapping[str, Float32Array], window: WindowName) -> Graph:
        """The network with these parameters, trained through `window`; those of no node are left out."""
        wanted = self.param_shapes()
        kept = {k: np.asarray(v, np.float32) for k, v in params.items() if k in wanted}
        inputs, output = {SPECTRUM: self.shapes[SPECTRUM]}, self.nodes[-1].name
        return Graph(inputs, tuple(self.nodes), self.shapes, kept, output, window, self.network)


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
    elif node.kind == "affine_prelu":
        sizes = dict.fromkeys(("affine_weight", "affine_bias"), tuple(target)) | {"slope_weight": (n_out,)}
    elif node.kind == "layer_norm":
        sizes = dict.fromkeys(KINDS[node.kind], (target.bands, target.channels))
    elif node.kind in ("merge_bands", "split_bands"):
        n_low = node.attrs["n_low"]
        sizes = {"weight": (target.bands - n_low, source.bands - n_low)}
    else:
        sizes = dict.fromkeys(KINDS[node.kind], (1,) if node.kind == "prelu" else (n_out,))
    return [(name, sizes[role]) for role, names in node.params.items() for name in names]
