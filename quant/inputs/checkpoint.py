"""Checkpoints in: the official .tar, a plain state dict, or the official streaming ONNX -> named float32 arrays.

Nothing pickled is executed: PyTorch files are read with `weights_only`. A file of another network is refused in one
line that names what is missing, unexpected or misshaped.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from quant.network import sizes
from quant.network.gtcrn import Config, param_shapes

IGNORED = "num_batches_tracked"
VARIANT_KEY = "variant"  # beside the weights: sizes of a network other than the published one
REMEDY = "give a GTCRN checkpoint: an official .tar, its state dict, or the official streaming .onnx"


@dataclass(frozen=True)
class Checkpoint:
    """Parameters by official name, the sizes of their network, and the file they came from."""

    name: str
    sha256: str
    params: Mapping[str, Float32Array]
    config: Config = field(default_factory=Config)


def load(path: str | Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises Failure when the file is missing, unreadable, of another network, or holds NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise Failure("no such checkpoint", where=path, remedy="run `quant pull`, or name a file with --checkpoint")
    data = path.read_bytes()
    read = _read_onnx if path.suffix == ".onnx" else _read_torch
    params, config = read(path, data)
    _check(path, params, config)
    return Checkpoint(path.name, hashlib.sha256(data).hexdigest(), params, config)


def _check(path: Path, params: Mapping[str, Float32Array], config: Config) -> None:
    wanted = param_shapes(config)
    missing = [k for k in wanted if k not in params]
    unexpected = [k for k in params if k not in wanted]
    misshaped = [
        f"{k} is {params[k].shape}, not {wanted[k]}" for k in wanted if k in params and params[k].shape != wanted[k]
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
        if names
    ]
    if problems:
        raise Failure(f"not a GTCRN checkpoint: {'; '.join(problems)}", where=path, remedy=REMEDY)
    if bad := [k for k, v in params.items() if not np.isfinite(v).all()]:
        raise Failure(f"{bad[0]} holds NaN or infinity", where=path, remedy="this checkpoint is damaged; get it again")
    if bad := [k for k, v in params.items() if k.endswith("running_var") and (v < 0).any()]:
        raise Failure(f"{bad[0]} is negative", where=path, remedy="this checkpoint is damaged; get it again")


def _read_torch(path: Path, data: bytes) -> tuple[dict[str, Float32Array], Config]:
    import io

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an opinion about the pickle would be a second line
            loaded: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise Failure(
            "holds pickled code or is not a PyTorch file; it was not executed", where=path, remedy=REMEDY
        ) from None
    except Exception:  # garbage makes the reader raise nearly anything
        raise Failure("truncated, or not a PyTorch file", where=path, remedy=REMEDY) from None
    stored = loaded.get(VARIANT_KEY) if isinstance(loaded, dict) else None
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise Failure("holds no state dict", where=path, remedy=REMEDY)
    try:
        params = {k: v.detach().to(torch.float32).numpy() for k, v in loaded.items() if not k.endswith(IGNORED)}
    except (AttributeError, TypeError, RuntimeError):  # keys that are no names; sparse or quantized tensors
        raise Failure("holds no state dict of plain tensors", where=path, remedy=REMEDY) from None
    if stored is not None:
        return params, sizes.from_dict(stored, path)
    return params, sizes.of_params(params) or sizes.PUBLISHED


def _read_onnx(path: Path, data: bytes) -> tuple[dict[str, Float32Array], Config]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_from_string(data).graph
    except DecodeError:
        raise Failure("truncated, or not an ONNX file", where=path, remedy=REMEDY) from None
    try:
        return dict(_onnx_params(graph)), sizes.PUBLISHED
    except (StopIteration, KeyError, IndexError, ValueError, RuntimeError, onnx.checker.ValidationError):
        raise Failure("an ONNX model, but not the official streaming GTCRN", where=path, remedy=REMEDY) from None


def _onnx_params(graph: Any) -> Iterator[tuple[str, Float32Array]]:
    """Parameters of the official streaming ONNX by the order of its nodes: the exporter renamed most of them.

    Where the exporter folded BatchNorm into a convolution, an identity BatchNorm stands beside it.
    """
    from onnx import numpy_helper

    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes: dict[str, Iterator[Any]] = {}
    for op in ("Conv", "ConvTranspose", "PRelu", "GRU", "MatMul", "BatchNormalization"):
        nodes[op] = iter([n for n in graph.node if n.op_type == op])
    wanted = param_shapes()
    yield from ((name, arrays[name]) for name in wanted if name in arrays)
    for name in wanted:
        base, _, role = name.rpartition(".")
        if role == "weight" and base.endswith(("conv", "point_conv1", "point_conv2")):
            node = next(nodes["ConvTranspose" if base.startswith("decoder") else "Conv"])
            yield f"{base}.weight", arrays[node.input[1]]
            yield f"{base}.bias", arrays[node.input[2]]
        elif role == "weight" and base.rpartition(".")[2] in ("bn", "point_bn1", "depth_bn", "point_bn2"):
            folded = base.startswith("encoder")
            values = (
                _identity_bn(wanted[name])
                if folded
                else [arrays[i] for i in next(nodes["BatchNormalization"]).input[1:]]
            )
            yield from zip(
                (f"{base}.{r}" for r in ("weight", "bias", "running_mean", "running_var")),
                values,
                strict=True,
            )
        elif role == "weight" and base.endswith("act"):
            yield name, arrays[next(nodes["PRelu"]).input[1]].reshape(1)
        elif role == "weight" and base.endswith("fc"):
            yield name, arrays[next(nodes["MatMul"]).input[1]].T
        elif role == "weight_ih_l0":
            yield from _gru_params(base, next(nodes["GRU"]), arrays)


def _identity_bn(shape: tuple[int, ...]) -> list[Float32Array]:
    one, zero = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return [one, zero, zero, one - np.float32(1e-5)]


def _gru_params(base: str, node: Any, arrays: Mapping[str, Float32Array]) -> Iterator[tuple[str, Float32Array]]:
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
