"""The trained file: what quantization-aware training leaves, and `quant build` takes like a checkpoint.

    header.json      format, version, source checkpoint, recipe, ranges, slopes, how it was trained, attribution
    <parameter>.npy  weights of the streaming graph, migrated as they were trained, by graph name
    excerpt.npy      (clips, samples) int16: noisy speech that training did not hear, for golden vectors and accuracy

A zip of these, without dates: the same run is the same bytes. Weights and ranges enter the plan through
`ptq.requantize`, as any others do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.ranges import Ranges
from edge_runtime import bounded
from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from edge_runtime.whole_file import written_whole
from quant.artifact.stable_bytes import npy_bytes, zip_bytes
from quant.inputs import foreign, weight_file
from quant.int8.recipe import Recipe
from quant.network import registry, sizes
from quant.network.family import Network
from quant.network.graph import FLOOR, Graph
from quant.network.passes import streaming_graph, with_floors

VERSION = 1
SUFFIX = ".trained"
HEADER, EXCERPT = foreign.TRAINED_HEADER, "excerpt"
REMEDY = "train it again with `quant qat`, or update edge-denoise"
LOWER_RATE = "train again with a lower --learning-rate"
MOST_BYTES = 64 * bounded.MIB  # of the file, and of what it unpacks to: the embedded one has 0.9 MB
MOST_HEADER_BYTES = 8 * bounded.MIB  # 0.1 MB in the embedded one


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but arrays. `checkpoint_*`: where training started; `attribution`: whose weights and sounds."""

    format: Literal["edge-denoise trained"] = "edge-denoise trained"
    version: int = VERSION
    checkpoint_name: str
    checkpoint_sha256: str
    recipe: Recipe
    ranges: Ranges
    slopes: dict[str, float]
    floors: dict[str, float] = {}  # of logarithms, in float as in 8 bits
    training: dict[str, Any]
    attribution: str = ""
    network: str = registry.DEFAULT.name
    variant: dict[str, Any] | None = None  # sizes of a network other than the published one


@dataclass(frozen=True)
class Trained:
    """A trained network: its streaming graph, and the header and excerpt that came with it."""

    name: str
    sha256: str
    graph: Graph
    header: Header
    excerpt: NDArray[np.int16]
    network: Network
    config: Any  # an instance of `network.config`

    @property
    def noisy(self) -> Float32Array:
        """The excerpt as (clips, samples) float32."""
        return self.excerpt.astype(np.float32) / np.float32(32768)


def require_finite(path: Path, params: Mapping[str, Float32Array]) -> None:
    """Failure: a weight of what would be written is NaN or infinite."""
    if bad := next((name for name, values in params.items() if not np.isfinite(values).all()), None):
        raise Failure(f"{bad} became NaN or infinite, so it is not written", where=path, remedy=LOWER_RATE)


def save(path: Path, graph: Graph, header: Header, excerpt: Float32Array) -> None:
    """Write the file whole or not at all. Failure: the folder cannot be written to, or a weight is not finite."""
    require_finite(path, graph.params)
    arrays: dict[str, Any] = {**graph.params, EXCERPT: np.rint(excerpt * 32767).astype(np.int16)}
    members = {f"{name}.npy": npy_bytes(values) for name, values in arrays.items()}
    members[HEADER] = msgspec.json.format(msgspec.json.encode(header, order="sorted"), indent=1)
    with written_whole(path) as part:
        part.write_bytes(zip_bytes(members))


def embedded(network: Network = registry.DEFAULT) -> Path:
    """The trained default of a network that comes with the project. Failure: none does."""
    path = Path(str(files(__package__).joinpath(network.embedded)))  # beside this file
    if not path.is_file():
        remedy = f"name its weights with --checkpoint: {network.weights_at}"
        raise Failure(f"no trained {network.title} comes with this version", remedy=remedy)
    return path


def is_one(path: Path) -> bool:
    """Whether a file is meant as a trained one: by its suffix, or by what is in it."""
    return path.suffix.lower() == SUFFIX or (
        path.is_file() and foreign.is_trained(bounded.read(path, weight_file.MOST_BYTES, REMEDY))
    )


def load(path: Path) -> Trained:
    """Read and check what `save` wrote. Failure: missing, cut, of another version or network."""
    if not path.is_file():
        raise Failure("no such file", where=path, remedy="name a .trained file, or a checkpoint")
    data = bounded.read(path, MOST_BYTES, REMEDY)
    with bounded.one_line(path, "not a trained file", REMEDY):
        archive = bounded.Archive(data, MOST_BYTES)
        header = msgspec.json.decode(bounded.shallow(archive.read(HEADER), MOST_HEADER_BYTES), type=Header)
        arrays = {n[:-4]: bounded.array(archive.read(n)) for n in archive.names if n.endswith(".npy")}
        excerpt = arrays.pop(EXCERPT)
    if header.version != VERSION:
        raise Failure(f"has version {header.version}, this program reads {VERSION}", where=path, remedy=REMEDY)
    if header.network not in registry.NETWORKS:
        raise Failure(f"is of a network {header.network[:80]!r}", where=path, remedy="update edge-denoise")
    network = registry.load(header.network)
    config = sizes.from_dict(header.variant, path, network) if header.variant else network.published
    empty = streaming_graph(network.blank(config))
    _check(path, arrays, header, excerpt, empty)
    filled = with_floors(_filled(empty, arrays, header.slopes), header.floors)
    graph = replace(filled, window=header.ranges.provenance.window)
    return Trained(path.name, hashlib.sha256(data).hexdigest(), graph, header, excerpt, network, config)


def _filled(graph: Graph, params: Mapping[str, Float32Array], slopes: Mapping[str, float]) -> Graph:
    nodes = [replace(n, attrs={**n.attrs, "slope": slopes[n.name]}) if n.name in slopes else n for n in graph.nodes]
    return graph.rewritten(nodes, params=dict(params))


def slopes_of(graph: Graph) -> dict[str, float]:
    """LeakyReLU -> its slope; with `floors_of` the only numbers that are no parameters of the streaming graph."""
    return {n.name: float(n.attrs["slope"]) for n in graph.nodes if n.kind == "leaky_relu"}


def floors_of(graph: Graph) -> dict[str, float]:
    """Logarithm of magnitudes -> its least, where that is not `graph.FLOOR`."""
    return {n.name: float(n.attrs["floor"]) for n in graph.nodes if "floor" in n.attrs}


def _check(path: Path, arrays: Mapping[str, Float32Array], header: Header, excerpt: NDArray[Any], empty: Graph) -> None:
    """Failure unless all is there and fits the network of these sizes, whose streaming graph is `empty`."""
    wanted = {name: values.shape for name, values in empty.params.items()}
    found = {name: values.shape for name, values in arrays.items()}
    if odd := sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n)):
        raise Failure(
            f"holds another network ({odd[0][:80]} is {str(found.get(odd[0]))[:80]})", where=path, remedy=REMEDY
        )
    logarithms = {n.name for n in empty.nodes if n.kind == "log_magnitude"}
    if not logarithms.issuperset(header.floors) or any(not FLOOR <= low <= 0 for low in header.floors.values()):
        raise Failure("its floors are those of another network", where=path, remedy=REMEDY)
    if bad := [n for n, values in arrays.items() if values.dtype != np.float32 or not np.isfinite(values).all()]:
        raise Failure(f"{bad[0]} is not finite float32", where=path, remedy=REMEDY)
    if set(header.slopes) != set(slopes_of(empty)) or not np.isfinite(list(header.slopes.values())).all():
        raise Failure("its slopes are those of another network", where=path, remedy=REMEDY)
    if excerpt.dtype != np.int16 or excerpt.ndim != 2 or excerpt.size == 0:
        raise Failure(f"its excerpt is {excerpt.dtype} {excerpt.shape}", where=path, remedy=REMEDY)
