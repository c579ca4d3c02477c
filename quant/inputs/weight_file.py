"""Files of weights in every usual format -> their tensors by where they lie in the file, and what else tells of them.

torch.save          a zip with a pickle in it, or a row of pickles; state dicts, whole modules, training states
torch.jit.save      the same zip with code beside it, which is not looked at
safetensors         https://huggingface.co/docs/safetensors
numpy.savez, pickle of NumPy arrays

Nothing in them is executed (`pickled`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np

from edge_runtime import bounded
from quant.inputs import pickled
from quant.inputs.pickled import PERSISTENT, Thing
from quant.inputs.stored import DTYPES, Stored, plain, strided, unreadable

MOST_BYTES: Final = 512 * bounded.MIB  # of a file, and of what it unpacks to: GTCRN has 0.2 MB of weights
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_SAFE_KINDS: Final = {"F16": "half", "BF16": "bfloat16", "F32": "float", "F64": "double"}
_NUMPY_KINDS: Final = {"f2": "half", "f4": "float", "f8": "double"}
_DEEPEST: Final = 64
_MOST_TENSORS: Final = 200_000


class Place(NamedTuple):
    """Where a tensor lies: in the dictionary or object at `container` ("" or ending with a dot), under `key`."""

    container: str
    key: str

    @property
    def path(self) -> str:
        return self.container + self.key


@dataclass(frozen=True)
class Weights:
    """The tensors of a file; `root` is the rest of a pickle, `is_code` whether the file is a TorchScript archive."""

    tensors: Mapping[Place, Stored]
    root: Any = None
    is_code: bool = False

    def top(self) -> frozenset[str]:
        """The keys of the outermost dictionary."""
        pairs = self.root.pairs if isinstance(self.root, Thing) else []
        return frozenset(name for name, _ in pairs if isinstance(name, str))


def read(data: bytes) -> Weights | None:
    """The weights in a file's bytes, None where it is none of these formats. ValueError and others: damaged."""
    if data.startswith(ZIP):
        return _archive(data)
    if data.startswith(PICKLE):
        return _pickles(data)
    n_header = int.from_bytes(data[:8], "little")
    if data[8:9] == b"{" and n_header <= len(data) - 8:
        return Weights(_safetensors(data, n_header))
    return None


def members(data: bytes) -> tuple[str, ...]:
    """The names in a zip; none where it cannot be read."""
    try:
        return bounded.Archive(data, MOST_BYTES).names if data.startswith(ZIP) else ()
    except Exception:
        return ()


def _archive(data: bytes) -> Weights:
    archive = bounded.Archive(data, MOST_BYTES)
    pickles = [name for name in archive.names if name.endswith("data.pkl") and name.count("/") <= 1]
    if not pickles:
        if not archive.names or not all(name.endswith(".npy") for name in archive.names):
            raise ValueError("it is a zip archive without a data.pkl")
        found = bounded.arrays(data, MOST_BYTES)
        return Weights({Place("", name): _of_numpy(values) for name, values in found.items()})
    before = pickles[0].removesuffix("data.pkl")
    order = f"{before}byteorder"
    is_big = order in archive.names and archive.read(order) == b"big"
    root = pickled.read(archive.read(pickles[0]))
    storages = Storages(lambda key: archive.read(f"{before}data/{key}"), is_big)
    return Weights(dict(tensors(root, storages)), root, any(n.startswith(f"{before}code/") for n in archive.names))


def _pickles(data: bytes) -> Weights:
    """The format before PyTorch 1.6: magic number, version, machine, value, keys of storages, then these."""
    stream = io.BytesIO(data)
    root = pickled.read(stream)
    if root != _LEGACY_MAGIC:
        return Weights(dict(tensors(root, Storages(lambda key: b"", False))), root)
    _, machine, root, keys = (pickled.read(stream) for _ in range(4))
    storages = Storages(lambda key: places[key], bool(machine.get("little_endian") is False))
    found = dict(tensors(root, storages))
    places: dict[str, bytes] = {}
    for key in keys:
        n_bytes = int.from_bytes(stream.read(8), "little") * np.dtype(DTYPES[storages.kinds.get(key, "float")]).itemsize
        if n_bytes > len(data) - stream.tell():
            raise ValueError("it is cut")
        places[key] = stream.read(n_bytes)
    return Weights(found, root)


def _safetensors(data: bytes, n_header: int) -> dict[Place, Stored]:
    header, body = json.loads(data[8 : 8 + n_header]), memoryview(data)[8 + n_header :]
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        if not 0 <= start <= stop <= len(body):
            raise ValueError(f"{name} lies beyond its end")
        kind = _SAFE_KINDS.get(entry["dtype"], entry["dtype"])
        found[Place("", str(name))] = plain(body[start:stop].tobytes, kind, entry["shape"])
    return found


@dataclass
class Storages:
    """Storages by key; `kinds` is what the pickle says of each."""

    read: Callable[[str], bytes]
    big_endian: bool
    kinds: dict[str, str] = field(default_factory=dict)

    def tensor(self, args: Any, kind: str | None = None) -> Stored:
        """What `_rebuild_tensor_v2(storage, offset, size, stride, ...)` would be."""
        storage, offset, shape, strides = args[:4]
        if not isinstance(storage, Thing) or storage.of != PERSISTENT:
            return unreadable("was pickled without torch.save")
        _, storage_type, key, _, *rest = storage.args
        kind = kind or storage_type.name.removesuffix("Storage").lower()
        self.kinds[str(key)] = kind
        if rest[1:] and rest[1] is not None:
            return unreadable("is a view of a storage, as PyTorch before 0.4 wrote them")
        sizes, steps = (n.args[0] if isinstance(n, Thing) else n for n in (shape, strides))
        return strided(lambda: self.read(str(key)), kind, offset, sizes, steps, big_endian=self.big_endian)


def tensors(root: Any, storages: Storages) -> Iterator[tuple[Place, Stored]]:
    """Every tensor below `root`, each as often as dictionaries, lists and objects lead to it, but never in circles."""
    waiting: list[tuple[str, str, Any, int]] = [("", "", root, 0)]
    seen: set[int] = set()
    n_found = 0
    while waiting:
        container, key, node, depth = waiting.pop()
        if (tensor := _tensor(node, storages)) is not None:
            n_found += 1
            if n_found > _MOST_TENSORS:
                raise ValueError("it holds more tensors than any checkpoint")
            yield Place(container, key), tensor
        elif isinstance(node, Thing | list | tuple) and id(node) not in seen and depth < _DEEPEST:
            seen.add(id(node))
            below = f"{container}{key}." if key else container
            children = [(below if name else container, name or key, each, depth + 1) for name, each in _children(node)]
            waiting.extend(reversed(children))


def _children(node: Any) -> list[tuple[str, Any]]:
    """What a value leads to, by name; "" for what takes the value's own place."""
    if not isinstance(node, Thing):
        return [(str(i), each) for i, each in enumerate(node)]
    found = [(str(name), each) for name, each in node.pairs if isinstance(name, str | int)]
    found += [(str(i), each) for i, each in enumerate(node.values)]
    if isinstance(node.state, Thing):
        parts = [node.state.get(name) for name in ("_parameters", "_buffers", "_modules")]
        is_module = any(isinstance(part, Thing) for part in parts)
        found += [("", part) for part in parts if part is not None] if is_module else _children(node.state)
    if node.called.startswith("collections.") or not found:
        found += [("", each) for each in node.args if isinstance(each, Thing | list | tuple)]
    return found


def _tensor(node: Any, storages: Storages) -> Stored | None:
    """The tensor that a value is, None where it is another thing."""
    while isinstance(node, Thing) and node.called in _WRAPPERS:
        node = _WRAPPERS[node.called](node.args)
    if not isinstance(node, Thing):
        return None
    if node.called in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        return storages.tensor(node.args)
    if node.called == "torch._utils._rebuild_tensor_v3":
        return storages.tensor(node.args, str(node.args[6].name))
    if node.called.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")):
        return unreadable(f"is no plain tensor ({node.of.name.removeprefix('_rebuild_')})")
    is_array = node.called.endswith("core.multiarray._reconstruct") and node.called.startswith("numpy.")
    return _of_pickled_array(node) if is_array else None


_WRAPPERS: Final[dict[str, Callable[[Any], Any]]] = {
    "torch._utils._rebuild_parameter": lambda args: args[0],
    "torch._utils._rebuild_parameter_with_state": lambda args: args[0],
    "torch._tensor._rebuild_from_type_v2": lambda args: Thing(args[0], args[2]),  # of a subclass of Tensor
}


def _of_pickled_array(node: Thing) -> Stored | None:
    """A NumPy array: its state is (version, shape, dtype, whether columns come first, bytes)."""
    if not isinstance(node.state, tuple) or len(node.state) != 5:
        return None
    _, shape, dtype, by_columns, content = node.state
    kind = _NUMPY_KINDS.get(str(dtype.args[0])) if isinstance(dtype, Thing) and dtype.args else None
    if isinstance(content, Thing) and content.called == "_codecs.encode":
        content = content.args[0].encode("latin-1")
    if kind is None or not isinstance(content, bytes | bytearray):
        return None
    is_big = isinstance(dtype.state, tuple) and dtype.state[1:2] == (">",)
    held = bytes(content)
    stored = plain(lambda: held, kind, shape[::-1] if by_columns else shape, big_endian=is_big)
    return replace(stored, shape=stored.shape[::-1], read=lambda: stored.read().T.copy("C")) if by_columns else stored


def _of_numpy(values: Any) -> Stored:
    return plain(values.tobytes, _NUMPY_KINDS.get(values.dtype.str[1:], values.dtype.name), values.shape)
