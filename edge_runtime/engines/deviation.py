"""Why an engine computes something else than it must on this processor, and what to do: said with a breach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.machine import ROOT, VNNI, features, is_x86

_NATIVE: Final = "take the native engine, which is exact on every processor"
_OTHERWISE: Final = "install another version of its package"


class Reason(NamedTuple):
    """`why` in a few words, and the remedy."""

    why: str
    remedy: str


def reason(engine: str, model: bytes, *, has_native: bool, root: Path = ROOT) -> Reason:
    """Of a breach of golden vectors, from the processor's features and from how the model's weights lie."""
    found = features(root)
    here = ", ".join(found) or "no vector instructions that are known"
    instead = _NATIVE if has_native and engine != "native" else ""
    if engine == "onnx" and is_x86(root) and not VNNI & set(found) and has_signed_weights(model):
        why = f"int8 weights saturate in ONNX Runtime on x86 without VNNI (here: {here})"
        return Reason(why, f"build it again with `quant build`, whose weights are uint8{instead and f', or {instead}'}")
    why = f"it computes something else than it must on this processor ({here})"
    return Reason(why, f"{instead or _OTHERWISE}, and report this with the engine's version")


def has_signed_weights(model: bytes) -> bool:
    """Whether an ONNX file holds int8 tensors: products with uint8 are added in pairs, in 16 bits that saturate.

    Fields by number, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: a board has no package to read them.
    """
    graph, initializer, data_type, int8 = 7, 5, 2, 3
    tensors = (tensor for part in _field(model, graph) for tensor in _field(part, initializer))
    kinds = (kind for tensor in tensors if len(tensor) > _FEW_BYTES for kind in _field(tensor, data_type))
    return any(int.from_bytes(kind, "little") == int8 for kind in kinds)


_FEW_BYTES: Final = 100  # a zero point is an int8 tensor, too
_VARINT, _LENGTH, _SIZES = 0, 2, {1: 8, 5: 4}


def _field(message: bytes, wanted: int) -> Iterator[bytes]:
    """Every value of one field of a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        start = at
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _LENGTH:
            size, start = _varint(message, at)
            at = start + size
        else:
            at += _SIZES[kind]
        if number == wanted:
            yield message[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
