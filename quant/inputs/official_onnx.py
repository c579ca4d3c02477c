"""The official streaming ONNX -> parameters by official name, by the order of its nodes: the exporter renames most.

In either layout: since March 2025 the decoder's depth convolutions are written as convolutions, weights reversed.
Where the exporter folded BatchNorm into a convolution, an identity BatchNorm stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from quant.inputs import foreign
from quant.network.gtcrn import param_shapes

SUFFIX: Final = ".onnx"
_BEGINS: Final = b"\x08"  # its first field, the version
_CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
_BN_ROLES: Final = ("weight", "bias", "running_mean", "running_var")


def looks_like(path: Path, data: bytes) -> bool:
    """Whether it may be an ONNX file."""
    return data.startswith(_BEGINS) or path.suffix.lower() == SUFFIX


def read(path: Path, data: bytes, remedy: str) -> dict[str, Float32Array]:
    """Its parameters. Failure: no ONNX, another network, or weights in other files, which are not read."""
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
    foreign.refuse_onnx(path, model.producer_name, {value.name for value in graph.input})
    try:
        return dict(_params(graph))
    except Exception:  # another network can miss nearly anything
        raise Failure("an ONNX model, but not the official streaming GTCRN", where=path, remedy=remedy) from None


def _params(graph: Any) -> Iterator[tuple[str, Float32Array]]:
    from onnx import numpy_helper

    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    kinds = (_CONVOLUTIONS, ("PRelu",), ("GRU",), ("MatMul",))
    convolutions, activations, grus, products = (iter([n for n in graph.node if n.op_type in kind]) for kind in kinds)
    norms = {n.input[0]: n for n in graph.node if n.op_type == "BatchNormalization"}
    wanted, last = param_shapes(), None
    yield from ((name, arrays[name]) for name in wanted if name in arrays)
    for name in wanted:
        base, _, role = name.rpartition(".")
        layer = base.rpartition(".")[2]
        if role == "weight" and layer.endswith(("conv", "point_conv1", "point_conv2")):
            last = next(convolutions)
            yield from _convolution(base, last, arrays)
        elif role == "weight" and layer in ("bn", "point_bn1", "depth_bn", "point_bn2"):
            norm = norms.get(last.output[0]) if last else None
            values = [arrays[i] for i in norm.input[1:]] if norm else _identity_bn(wanted[name])
            yield from zip((f"{base}.{r}" for r in _BN_ROLES), values, strict=True)
        elif role == "weight" and layer.endswith("act"):
            yield name, arrays[next(activations).input[1]].reshape(1)
        elif role == "weight" and layer.endswith("fc"):
            yield name, arrays[next(products).input[1]].T
        elif role == "weight_ih_l0":
            yield from _gru(base, next(grus), arrays)


def _convolution(base: str, node: Any, arrays: Mapping[str, Float32Array]) -> Iterator[tuple[str, Float32Array]]:
    weight = arrays[node.input[1]]
    if base.startswith("decoder") and node.op_type == "Conv":
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        weight = transposed(weight, groups)
    yield f"{base}.weight", weight
    yield f"{base}.bias", arrays[node.input[2]]


def transposed(weight: Float32Array, groups: int) -> Float32Array:
    """The weights (in, out / groups, h, w) of the transposed convolution that equals a convolution with `weight`
    (out, in / groups, h, w): reversed, inputs and outputs exchanged within each group. Its own inverse."""
    n_out, n_in, *kernel = weight.shape
    parts = weight[:, :, ::-1, ::-1].reshape(groups, n_out // groups, n_in, *kernel)
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(groups * n_in, n_out // groups, *kernel))


def _identity_bn(shape: tuple[int, ...]) -> list[Float32Array]:
    one, zero = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return [one, zero, zero, one - np.float32(1e-5)]


def _gru(base: str, node: Any, arrays: Mapping[str, Float32Array]) -> Iterator[tuple[str, Float32Array]]:
    """ONNX keeps gates as z, r, n and both biases in one array; PyTorch as r, z, n and apart."""
    w_ih, w_hh, biases = (arrays[i] for i in node.input[1:4])
    for direction, suffix in zip(range(len(w_ih)), ("", "_reverse"), strict=False):
        b_ih, b_hh = np.split(biases[direction], 2)
        for role, value in (
            ("weight_ih", w_ih[direction]),
            ("weight_hh", w_hh[direction]),
            ("bias_ih", b_ih),
            ("bias_hh", b_hh),
        ):
            z, r, n = np.split(value, 3)
            yield f"{base}.{role}_l0{suffix}", np.concatenate([r, z, n])
