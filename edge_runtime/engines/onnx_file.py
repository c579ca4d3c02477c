"""What an ONNX model holds, told without a package that reads it: boards have none, and it must be known before.

Whether it names other files for its tensors: the hash of an artifact does not cover those. No model that names one
reaches ONNX Runtime: before 1.24, the first that reads none outside the model's own folder and that Python 3.10 cannot
have, it depends on how a model is opened. And whether its weights are int8. The fields are walked as protobuf writes
them (https://protobuf.dev/programming-guides/encoding); the numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BYTES: Final = 10
_GRAPH, _INITIALIZER, _DATA_TYPE, _INT8 = 7, 5, 2, 3
_FEW_BYTES: Final = 100  # a zero point is an int8 tensor, too
# message -> number of the field -> the message that it holds
_WITHIN: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "elsewhere", 14: "elsewhere"},  # external_data, data_location
}


def names_files(model: bytes) -> bool:
    """Whether a tensor of the model is said to lie in another file. ValueError: it is no protobuf."""
    waiting = [("model", memoryview(model))]
    while waiting:
        message, data = waiting.pop()
        for number, kind, value in _fields(data):
            held = _WITHIN[message].get(number)
            if held == "elsewhere":
                if kind == _BYTES or any(byte & 0x7F for byte in value):  # a location of 0 is the default: here
                    return True
            elif held is not None and kind == _BYTES:
                waiting.append((held, value))
    return False


def has_signed_weights(model: bytes) -> bool:
    """Whether it holds int8 tensors: products with uint8 are added in pairs, in 16 bits that saturate. ValueError: it
    is no protobuf."""
    tensors = (tensor for graph in _values(memoryview(model), _GRAPH) for tensor in _values(graph, _INITIALIZER))
    kinds = (kind for tensor in tensors if len(tensor) > _FEW_BYTES for kind in _values(tensor, _DATA_TYPE))
    return any(int.from_bytes(kind, "little") == _INT8 for kind in kinds)


def _values(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Every value of one field of a message."""
    return (value for number, _, value in _fields(data) if number == wanted)


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(number, wire type, content) of every field of a message; of a varint its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, start = tag & 7, at
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            n_bytes, start = _varint(data, at)
            at = start + n_bytes
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:
            raise ValueError(f"it holds a field of wire type {kind}")
        if at > len(data):
            raise ValueError("it is cut")
        yield tag >> 3, kind, data[start:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next field begins."""
    value = 0
    for place in range(_MOST_VARINT_BYTES):
        if at + place >= len(data):
            raise ValueError("it is cut")
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("it holds a number of more than 64 bits")
