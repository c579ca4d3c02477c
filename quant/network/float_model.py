"""The float model: PyTorch runs the graph over whole recordings, batched and differentiable, with every value tapped.

Values are (batch, channels, frames, bands). A tap is called with the name of each value as it is made and its result
is used instead: it may observe, record or fake-quantize, and by default it does nothing. Values inside a recurrent
layer are tapped under `<node>.<role>`, see `GRU_TAPS`; parameters are tapped under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_runtime.stft import Float32Array
from quant.network.graph import FLOOR, Graph, Node

Tap = Callable[[str, Tensor], Tensor]
States = dict[str, Tensor]

# The values inside a GRU cell, in the order in which they are made (see `gru_step`).
GRU_TAPS = (
    "gates_x",
    "state",
    "gates_h",
    "reset_update_sum",
    "reset_update",
    "reset_h",
    "new_sum",
    "new",
    "difference",
    "update",
)


def identity(name: str, value: Tensor) -> Tensor:
    """The tap that does nothing."""
    return value


def gru_step(name: str, gates_x: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor, tap: Tap) -> Tensor:
    """One step of a GRU: h' = n + z * (h - n), n = tanh(x_n + r * h_n); gates in the order r, z, n.

    `gates_x` (..., 3 * hidden) is W_ih x + b_ih, made for all steps at once; `h` is (..., hidden).
    Source: the equations of torch.nn.GRU, which the official checkpoints were trained with.
    """
    hidden = h.shape[-1]
    gates_h = tap(f"{name}.gates_h", F.linear(tap(f"{name}.state", h), w_hh, b_hh))
    total = tap(f"{name}.reset_update_sum", gates_x[..., : 2 * hidden] + gates_h[..., : 2 * hidden])
    r, z = tap(f"{name}.reset_update", torch.sigmoid(total)).split(hidden, -1)
    reset_h = tap(f"{name}.reset_h", r * gates_h[..., 2 * hidden :])
    n = tap(f"{name}.new", torch.tanh(tap(f"{name}.new_sum", gates_x[..., 2 * hidden :] + reset_h)))
    update = tap(f"{name}.update", z * tap(f"{name}.difference", h - n))
    return tap(name, n + update)


class FloatModel(nn.Module):
    """Runs a graph; `forward(spectrum, states, tap)` returns the enhanced spectrum and the states after it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._keys = {name: name.replace(".", "/") for name in graph.params}
        self._last_read = _last_read(graph)
        self.learns_statistics = False  # of BatchNorm: while training from scratch, not while fine-tuning
        for name, key in self._keys.items():
            self.register_parameter(key, nn.Parameter(torch.tensor(graph.params[name])))

    def forward(
        self,
        spectrum: Tensor,
        states: Mapping[str, Tensor] | None = None,
        tap: Tap = identity,
        fused: Container[str] | None = None,
    ) -> tuple[Tensor, States]:
        """Enhance `spectrum` (batch, 2, frames, 257), float32: real and imaginary parts.

        `states` maps state name -> (batch, channels, frames, bands); None starts every state at zero.
        `fused` names the recurrent nodes whose inner values need no tap: PyTorch's own kernel runs those, an order of
        magnitude faster. None means all of them without a tap, and none with one.
        """
        (source,) = self.graph.inputs
        values = {source: tap(source, spectrum)}
        old = dict(states or self.zero_states(spectrum))
        new: States = {}
        if fused is None:
            fused = frozenset(n.name for n in self.graph.nodes) if tap is identity else frozenset()
        run = _Run(self, tap, old, new, fused)
        for node in self.graph.nodes:
            y = run(node, [values[i] for i in node.inputs])
            values[node.name] = y if node.kind in ("gru", "bigru") else tap(node.name, y)
            for name in self._last_read.get(node.name, ()):
                del values[name]
        return values[self.graph.output], new

    def zero_states(self, spectrum: Tensor) -> States:
        """The states at the start of a stream, where `spectrum` is: one for each of its batch."""
        n = spectrum.shape[0]
        return {s.name: spectrum.new_zeros(n, s.channels, s.frames, s.bands) for s in self.graph.states}

    def weight(self, name: str) -> Tensor:
        """A parameter by its graph name."""
        parameter: Tensor = getattr(self, self._keys[name])
        return parameter

    def params(self) -> dict[str, Float32Array]:
        """The parameters as NumPy arrays, by graph name."""
        return {name: self.weight(name).detach().cpu().numpy() for name in self._keys}


def _last_read(graph: Graph) -> dict[str, list[str]]:
    """Node -> the values that no later node reads, so that a whole corpus fits into memory."""
    readers = {name: node.name for node in graph.nodes for name in node.inputs}
    last: dict[str, list[str]] = {}
    for name, reader in readers.items():
        last.setdefault(reader, []).append(name)
    return last


def _features(x: Tensor) -> Tensor:
    magnitude = torch.sqrt((x * x).sum(1, keepdim=True) + 1e-12)
    return torch.cat([magnitude, x], 1)


def _masked(x: Tensor, m: Tensor) -> Tensor:
    re, im = x[:, :1], x[:, 1:]
    m_re, m_im = m[:, :1], m[:, 1:]
    return torch.cat([re * m_re - im * m_im, im * m_re + re * m_im], 1)


# kind -> what a node computes that has neither parameters nor attributes
PLAIN: Final[Mapping[str, Callable[..., Tensor]]] = {
    "features": _features,
    "shuffle": lambda x, y: torch.stack([x, y], 2).flatten(1, 2),
    "mean_square": lambda x: (x * x).mean(-1, keepdim=True),
    "mean_square_channels": lambda x: (x * x).mean(1, keepdim=True),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gate": torch.mul,
    "band_gate": torch.mul,
    "add": torch.add,
    "quantize": lambda x: x,
    "mask": _masked,
    "real_mask": torch.mul,
}


class _Run:
    """One method a node kind; each takes the node and its inputs and returns its value."""

    def __init__(self, model: FloatModel, tap: Tap, old: States, new: States, fused: Container[str]) -> None:
        self.model, self.tap, self.old, self.new, self.fused = model, tap, old, new, fused

    def __call__(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        y: Tensor = PLAIN[node.kind](*inputs) if node.kind in PLAIN else getattr(self, node.kind)(node, *inputs)
        return y

    def _param(self, node: Node, role: str, group: int = 0) -> Tensor:
        name = node.params[role][group]
        return self.tap(name, self.model.weight(name))

    def log_magnitude(self, node: Node, x: Tensor) -> Tensor:
        least = 10.0 ** node.attrs.get("floor", FLOOR)
        return torch.log10(torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(least))

    def merge_bands(self, node: Node, x: Tensor) -> Tensor:
        n = node.attrs["n_low"]
        return torch.cat([x[..., :n], F.linear(x[..., n:], self._param(node, "weight"))], -1)

    split_bands = merge_bands

    def neighbours(self, node: Node, x: Tensor) -> Tensor:
        b, c, t, f = x.shape
        padded = F.pad(x, (1, 1))
        return torch.stack([padded[..., k : k + f] for k in range(3)], 2).reshape(b, 3 * c, t, f)

    def conv(self, node: Node, x: Tensor) -> Tensor:
        a = node.attrs
        if node.state is not None:
            x = torch.cat([self.old[node.state.name], x], 2)
            self.new[node.state.name] = x[:, :, x.shape[2] - node.state.frames :]
        return F.conv2d(
            x,
            self._param(node, "weight"),
            self._param(node, "bias"),
            (1, a["stride"]),
            (0, a["pad"]),
            (a["dilation"], 1),
            a["groups"],
        )

    def edge_bands(self, node: Node, x: Tensor, source: Tensor) -> Tensor:
        first, last = self._param(node, "weight")
        ends = (F.linear(source[..., i].transpose(1, 2), w).transpose(1, 2) for i, w in ((0, first), (-1, last)))
        low, high = (end[..., None] for end in ends)
        return torch.cat([x[..., :1] + low, x[..., 1:-1], x[..., -1:] + high], -1)

    def conv_transpose(self, node: Node, x: Tensor) -> Tensor:
        a, past = node.attrs, 0
        if node.state is not None:
            past = node.state.frames
            x = torch.cat([self.old[node.state.name], x], 2)
            self.new[node.state.name] = x[:, :, x.shape[2] - past :]
        return F.conv_transpose2d(
            x,
            self._param(node, "weight"),
            self._param(node, "bias"),
            (1, a["stride"]),
            (past, a["pad"]),
            0,
            a["groups"],
            (a["dilation"], 1),
        )

    def linear(self, node: Node, x: Tensor) -> Tensor:
        return F.conv2d(x, self._param(node, "weight")[:, :, None, None], self._param(node, "bias"))

    def batch_norm(self, node: Node, x: Tensor) -> Tensor:
        mean, var = self._param(node, "running_mean"), self._param(node, "running_var")
        weight, bias = self._param(node, "weight"), self._param(node, "bias")
        return F.batch_norm(x, mean, var, weight, bias, self.model.learns_statistics and self.model.training, eps=1e-5)

    def prelu(self, node: Node, x: Tensor) -> Tensor:
        return F.prelu(x, self._param(node, "weight"))

    def affine_prelu(self, node: Node, x: Tensor) -> Tensor:
        gain, bias = (self._param(node, f"affine_{what}")[:, None] for what in ("weight", "bias"))
        return gain * x + bias + F.prelu(x, self._param(node, "slope_weight"))

    def affine_relu(self, node: Node, x: Tensor) -> Tensor:
        weight, bias, rise = (self._param(node, role) for role in ("weight", "bias", "rise"))
        return weight[:, None] * x + bias[:, None] + rise[:, None, None] * F.relu(x)

    def leaky_relu(self, node: Node, x: Tensor) -> Tensor:
        return F.leaky_relu(x, node.attrs["slope"])

    def slice(self, node: Node, x: Tensor) -> Tensor:
        return x[:, node.attrs["start"] : node.attrs["stop"]]

    def band_energy(self, node: Node, x: Tensor) -> Tensor:
        return (self._param(node, "weight")[:, None, None] * x * x).sum(1, keepdim=True)

    def stack_bands(self, node: Node, x: Tensor) -> Tensor:
        n, n_steps = self.model.graph.shapes[node.name]
        b, _, t, f = x.shape
        return F.pad(x, (0, n * n_steps - f)).reshape(b, t, n_steps, n).permute(0, 3, 1, 2)

    def unstack_bands(self, node: Node, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(2)[:, None, :, : self.model.graph.shapes[node.name].bands]

    def layer_norm(self, node: Node, x: Tensor) -> Tensor:
        y = F.layer_norm(
            x.permute(0, 2, 3, 1),
            (x.shape[3], x.shape[1]),
            self._param(node, "weight"),
            self._param(node, "bias"),
            node.attrs["eps"],
        )
        return y.permute(0, 3, 1, 2)

    def interleave(self, node: Node, x: Tensor) -> Tensor:
        b, c, t, f = x.shape
        groups = node.attrs["groups"]
        y = x.reshape(b, groups, 2, c // 2 // groups, t, f).permute(0, 1, 3, 4, 5, 2)
        return y.reshape(b, c // 2, t, 2 * f)[..., : node.attrs["n_bands"]]

    def _gru_weights(self, node: Node, group: int) -> tuple[Tensor, ...]:
        return tuple(self._param(node, role, group) for role in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))

    def gru(self, node: Node, x: Tensor) -> Tensor:
        """Over time, each band for itself; groups split the channels."""
        assert node.state is not None
        groups = node.attrs.get("groups", 1)
        weights = _block_diagonal([self._gru_weights(node, g) for g in range(groups)])
        steps = x.permute(2, 0, 3, 1)  # frames, batch, bands, channels
        h = self.old[node.state.name][:, :, 0].permute(0, 2, 1)
        ys = self._scan(node.name, steps, h, weights)
        self.new[node.state.name] = ys[-1].permute(0, 2, 1)[:, :, None]
        return ys.permute(1, 3, 0, 2)

    def bigru(self, node: Node, x: Tensor) -> Tensor:
        """Over bands, both directions at once: the backward half reads the bands from the other end."""
        groups = node.attrs["groups"]
        steps = x.permute(3, 0, 2, 1)  # bands, batch, frames, channels
        both = torch.cat([steps, steps.flip(0)], -1)
        # Parameters come as group 0 forward, group 0 backward, group 1 forward, ...
        order = [2 * g + d for d in (0, 1) for g in range(groups)]
        weights = _block_diagonal([self._gru_weights(node, i) for i in order])
        hidden = weights[2].shape[1]
        ys = self._scan(node.name, both, both.new_zeros(*both.shape[1:-1], hidden), weights)
        forward, backward = ys.split(hidden // 2, -1)
        halves = (forward, backward.flip(0))
        parts = (
            halves
            if node.attrs.get("sorted")
            else [half.chunk(groups, -1)[g] for g in range(groups) for half in halves]
        )
        return torch.cat(parts, -1).permute(1, 3, 2, 0)

    def _scan(self, name: str, steps: Tensor, h: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        w_ih, b_ih, w_hh, b_hh = weights
        if name in self.fused:
            return self.tap(name, _fused_gru(steps, h, weights))
        gates_x = self.tap(f"{name}.gates_x", F.linear(steps, w_ih, b_ih))
        ys = []
        for gates in gates_x:
            h = gru_step(name, gates, h, w_hh, b_hh, self.tap)
            ys.append(h)
        return torch.stack(ys)


def _fused_gru(steps: Tensor, h: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """`gru_step` over all steps by torch.nn.GRU's kernel: steps (n, ..., inputs), h (..., hidden)."""
    w_ih, b_ih, w_hh, b_hh = weights
    flat, h0 = steps.flatten(1, -2), h.reshape(1, -1, h.shape[-1])
    ys, _ = torch._VF.gru(flat, h0, (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, False, False, False)
    return ys.reshape(*steps.shape[:-1], h.shape[-1])


def _block_diagonal(groups: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Merge the groups of a GRU into one: each gate's matrix becomes block-diagonal, gates stay in order r, z, n."""

    def merge(matrices: list[Tensor]) -> Tensor:
        gates = [m.chunk(3, 0) for m in matrices]
        return torch.cat([torch.block_diag(*(g[k] for g in gates)) for k in range(3)])

    def chain(vectors: list[Tensor]) -> Tensor:
        gates = [v.chunk(3, 0) for v in vectors]
        return torch.cat([g[k] for k in range(3) for g in gates])

    w_ih, b_ih, w_hh, b_hh = (list(role) for role in zip(*groups, strict=True))
    return merge(w_ih), chain(b_ih), merge(w_hh), chain(b_hh)
