"""The official streaming ONNX -> parameters by official name, by the order of its nodes: the exporter renames most.

In either layout: since March 2025 the decoder's depth convolutions are written as convolutions, weights reversed.
Where the exporter folded BatchNorm into a convolution, an identity BatchNorm stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from quant.inputs import foreign
from quant.network import registry
from quant.network.family import Network
from quant.network.graph import Node

SUFFIX: Final = ".onnx"
_BEGINS: Final = b"\x08"  # its first field, the version
CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
ALONE: Final = (("PRelu",), ("GRU",), ("MatMul",))
_BN_ROLES: Final = ("weight", "bias", "running_mean", "running_var")
_GRU_ROLES: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def looks_like(path: Path, data: bytes) -> bool:
    """Whether it may be an ONNX file."""
    return data.startswith(_BEGINS) or path.suffix.lower() == SUFFIX


def read(path: Path, data: bytes, remedy: str) -> tuple[Network, dict[str, Float32Array]]:
    """Which network it is, by its inputs, and its parameters.

    Failure: no ONNX, another network, or weights in other files, which are not read.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        raise Failure("truncated, or not an ONNX file", where=path, remedy=remedy) from None
    graph = model.graph
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        alone = "save it in one file: onnx.save(onnx.load(F), G)"
        raise Failure("its weights lie in other files, which are not read", where=path, remedy=alone)
    foreign.refuse_onnx(path, model.producer_name)
    inputs = [value.name for value in graph.input]
    network = next((each for each in registry.NETWORKS.values() if each.takes_inputs(inputs)), registry.DEFAULT)
    try:
        params = dict(_params(graph, network))
    except Exception:  # another network can miss nearly anything
        what = f"an ONNX model, but not the official streaming {network.title}"
        raise Failure(what, where=path, remedy=remedy) from None
    if odd := next(
        (f"{name} is of {values.dtype}" for name, values in params.items() if values.dtype.kind != "f"), None
    ):
        raise Failure(f"{odd}, not of floats", where=path, remedy="name the float model that it was made from")
    with np.errstate(over="ignore"):  # what is infinite then is refused by name
        return network, {name: np.ascontiguousarray(values, np.float32) for name, values in params.items()}


def _params(graph: Any, network: Network) -> Iterator[tuple[str, Float32Array]]:
    """By name what the exporter left its name; the rest node by node of the network, in whose order it exports."""
    from onnx import numpy_helper

    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    ours, exported = network.blank(), _Exported(graph, arrays)
    yield from ((name, arrays[name]) for name in ours.params if name in arrays)
    for node in ours.nodes:
        if node.kind in READERS:
            yield from READERS[node.kind](exported, node)


class _Exported:
    """Nodes of the exported graph by kind, each taken once, and its arrays."""

    def __init__(self, graph: Any, arrays: Mapping[str, Float32Array]) -> None:
        self.arrays = arrays
        kinds = {kind: [n for n in graph.node if n.op_type in kind] for kind in (CONVOLUTIONS, *ALONE)}
        self._left = {kind: iter(nodes) for kind, nodes in kinds.items()}
        self._affine = iter(filter(self._is_affine, graph.node))
        norms = {n.input[0]: n for n in graph.node if n.op_type == "BatchNormalization"}
        cut = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Slice"}  # a transposed convolution's frames
        self._norms = norms | {source: norms[name] for source, name in cut.items() if name in norms}
        self._last: Any = None  # the convolution that was read last

    def convolution(self, node: Node) -> Iterator[tuple[str, Float32Array]]:
        """Its weights are reversed where the exporter made a convolution of a transposed one."""
        found = next(self._left[CONVOLUTIONS])
        weight, self._last = self.arrays[found.input[1]], found
        if node.kind == "conv_transpose" and found.op_type == "Conv":
            weight = transposed(weight, next((a.i for a in found.attribute if a.name == "group"), 1))
        yield node.param("weight"), weight
        yield node.param("bias"), self.arrays[found.input[2]]

    def norm(self, node: Node) -> Iterator[tuple[str, Float32Array]]:
        """Of the last convolution; an identity where it was folded into that."""
        found, bias = self._norms.get(self._last.output[0]), self.arrays[self._last.input[2]]
        values = [self.arrays[i] for i in found.input[1:]] if found else _identity_bn(bias.shape)
        yield from zip((node.param(role) for role in _BN_ROLES), values, strict=True)

    def product(self, node: Node) -> Iterator[tuple[str, Float32Array]]:
        """A linear layer, or bands."""
        yield node.param("weight"), self.arrays[next(self._left[("MatMul",)]).input[1]].T

    def prelu(self, node: Node) -> Iterator[tuple[str, Float32Array]]:
        """One slope."""
        yield node.param("weight"), self.arrays[next(self._left[("PRelu",)]).input[1]].reshape(1)

    def affine_prelu(self, node: Node) -> Iterator[tuple[str, Float32Array]]:
        """A product, a sum, and the product with the slopes."""
        for role in ("affine_weight", "affine_bias", "slope_weight"):
            (constant,) = (self.arrays[name] for name in next(self._affine).input if name in self.arrays)
            values = constant[0, :, 0]
            yield node.param(role), values[:, 0] if role == "slope_weight" else values

    def _is_affine(self, node: Any) -> bool:
        constants = [self.arrays[name] for name in node.input if name in self.arrays]
        return node.op_type in ("Mul", "Add") and [c.ndim for c in constants] == [4]

    def gru(self, node: Node) -> Iterator[tuple[str, Float32Array]]:
        """ONNX keeps gates as z, r, n and both biases in one array; PyTorch as r, z, n and apart."""
        n_directions = 2 if node.kind == "bigru" else 1
        for first in range(0, len(node.params["weight_ih"]), n_directions):
            w_ih, w_hh, biases = (self.arrays[i] for i in next(self._left[("GRU",)]).input[1:4])
            for direction in range(n_directions):
                b_ih, b_hh = np.split(biases[direction], 2)
                for role, value in zip(_GRU_ROLES, (w_ih[direction], w_hh[direction], b_ih, b_hh), strict=True):
                    z, r, n = np.split(value, 3)
                    yield node.params[role][first + direction], np.concatenate([r, z, n])


READERS: Final[Mapping[str, Callable[[_Exported, Node], Iterator[tuple[str, Float32Array]]]]] = {
    "conv": _Exported.convolution,
    "conv_transpose": _Exported.convolution,
    "batch_norm": _Exported.norm,
    "linear": _Exported.product,
    "merge_bands": _Exported.product,
    "split_bands": _Exported.product,
    "prelu": _Exported.prelu,
    "affine_prelu": _Exported.affine_prelu,
    "gru": _Exported.gru,
    "bigru": _Exported.gru,
}


def transposed(weight: Float32Array, groups: int) -> Float32Array:
    """The weights (in, out / groups, h, w) of the transposed convolution that equals a convolution with `weight`
    (out, in / groups, h, w): reversed, inputs and outputs exchanged within each group. Its own inverse."""
    n_out, n_in, *kernel = weight.shape
    parts = weight[:, :, ::-1, ::-1].reshape(groups, n_out // groups, n_in, *kernel)
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(groups * n_in, n_out // groups, *kernel))


def _identity_bn(shape: tuple[int, ...]) -> list[Float32Array]:
    one, zero = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return [one, zero, zero, one - np.float32(1e-5)]
