"""Files that are nearly checkpoints, trained files, recipes or ranges: each loads or is one line, soon."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mutations import flipped, mutated

from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from quant.artifact.stable_bytes import npy_bytes, zip_bytes
from quant.inputs import assets, source, trained
from quant.inputs.checkpoint import Checkpoint, load
from quant.ptq.quantize import requantize

N_EACH = 30
LONGEST_S = 10.0  # of the processor's time, which other work does not use; none takes a tenth of a second


@pytest.fixture(scope="module")
def files(official: Checkpoint) -> dict[str, bytes]:
    """Good files by format."""
    tensors = {name: torch.tensor(values) for name, values in official.params.items()}
    state = {"model": tensors, "epoch": np.int64(3), "args": argparse.Namespace(rate=1e-3)}
    found = {"onnx": assets.weights().read_bytes(), "numpy": pickle.dumps(dict(official.params))}
    for name, is_new in (("zip", True), ("old", False)):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=is_new)
        found[name] = buffer.getvalue()
    return found


def ends_well(read: Callable[[], object]) -> None:
    began_s = time.process_time()
    with suppress(Failure):
        read()
    assert time.process_time() - began_s < LONGEST_S


@pytest.mark.parametrize("kind", ["zip", "old", "numpy", "onnx"])
def test_checkpoints_with_other_bytes(kind: str, files: dict[str, bytes], tmp_path: Path) -> None:
    draw, path = random.Random(kind), tmp_path / "a.pt"
    for _ in range(N_EACH):
        path.write_bytes(flipped(files[kind], draw))
        ends_well(lambda: load(path))


def test_checkpoints_with_another_pickle(files: dict[str, bytes], tmp_path: Path) -> None:
    """Whose archive is whole, so that every change reaches what reads the pickle."""
    draw, path = random.Random(1), tmp_path / "a.pt"
    with zipfile.ZipFile(io.BytesIO(files["zip"])) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(N_EACH):
        path.write_bytes(zip_bytes({**held, "archive/data.pkl": flipped(held["archive/data.pkl"], draw)}))
        ends_well(lambda: load(path))


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    """What the embedded trained file consists of."""
    with zipfile.ZipFile(trained.embedded()) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def opened(path: Path, members: dict[str, bytes]) -> None:
    """As a build does, up to the plan. Not compressed, which takes longer than all the rest."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    found = source.open_source(path, None)
    assert found.ranges is not None
    requantize(found.graph, found.recipe, found.ranges)


SIZES = {"channels": 16, "n_low_bins": 65, "n_high_bands": 64, "kernel": 5, "dilations": [1, 2, 5], "n_dpgrnn": 2}
PARTS: dict[str, Callable[[dict[str, Any], random.Random], dict[str, Any]]] = {
    "anything": mutated,
    "ranges": lambda header, draw: {**header, "ranges": mutated(header["ranges"], draw)},
    "recipe": lambda header, draw: {**header, "recipe": mutated(header["recipe"], draw)},
    "sizes": lambda header, draw: {**header, "variant": mutated({**SIZES, "groups": 2}, draw)},
}


@pytest.mark.parametrize("part", PARTS)
def test_trained_files_with_another_header(part: str, members: dict[str, bytes], tmp_path: Path) -> None:
    draw, header = random.Random(part), json.loads(members["header.json"])
    for _ in range(N_EACH):
        changed = json.dumps(PARTS[part](header, draw)).encode()
        ends_well(lambda changed=changed: opened(tmp_path / "a.trained", {**members, "header.json": changed}))


@pytest.mark.parametrize("value", [0.0, 1e-42, 1e-38, 1e30, 3e38, -3e38])
def test_trained_files_of_extreme_weights(value: float, members: dict[str, bytes], tmp_path: Path) -> None:
    """Denormal, and near the end of what a float can be: each tensor in turn."""
    names = [name for name in members if name.endswith(".npy") and "excerpt" not in name]
    for name in random.Random(0).sample(names, 8):
        values = np.load(io.BytesIO(members[name]))
        extreme = npy_bytes(np.full_like(values, value))
        with np.errstate(all="ignore"):
            ends_well(lambda name=name, new=extreme: opened(tmp_path / "a.trained", {**members, name: new}))


def test_weights_beyond_half_precision_do_not_become_infinite(members: dict[str, bytes], tmp_path: Path) -> None:
    name = "dpgrnn1.inter_ln.weight.npy"
    large = npy_bytes(np.full_like(np.load(io.BytesIO(members[name])), 1e6))
    with pytest.raises(Failure, match=r"dpgrnn1.inter_ln.weight holds weights above 65,504"):
        opened(tmp_path / "a.trained", {**members, name: large})


def test_ranges_with_other_numbers(members: dict[str, bytes], tmp_path: Path) -> None:
    draw, good = random.Random(2), json.loads(members["header.json"])["ranges"]
    path, found = tmp_path / "r.json", source.open_source(None, None)

    def read() -> None:
        requantize(found.graph, found.recipe, Ranges.load(path))

    for _ in range(N_EACH):
        path.write_text(json.dumps(mutated(good, draw)))
        ends_well(read)


BOMBS = {
    "a header of 1 GB": lambda members: swollen(members, "header.json", 2**30),
    "an array of 1 GB": lambda members: swollen(members, "excerpt.npy", 2**30),
    "a header too deep": lambda members: zip_bytes({**members, "header.json": b'{"a":' + b"[" * 10**6}),
    "a billion blocks": lambda members: zip_bytes({**members, "header.json": with_sizes(members, n_dpgrnn=10**9)}),
    "a billion channels": lambda members: zip_bytes({**members, "header.json": with_sizes(members, channels=2**30)}),
    "many dilations": lambda members: zip_bytes({**members, "header.json": with_sizes(members, dilations=[1] * 9999)}),
}  # fmt: skip


def swollen(members: dict[str, bytes], name: str, n_bytes: int) -> bytes:
    """The archive with a member that claims to unpack to this much."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
        archive.getinfo(name).file_size = n_bytes
    return buffer.getvalue()


def with_sizes(members: dict[str, bytes], **sizes: Any) -> bytes:
    return json.dumps({**json.loads(members["header.json"]), "variant": {**SIZES, "groups": 2, **sizes}}).encode()


@pytest.mark.parametrize("what", BOMBS)
def test_a_trained_file_that_claims_much_is_refused_at_once(
    what: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "bomb.trained"
    path.write_bytes(BOMBS[what](members))
    began_s = time.process_time()
    with pytest.raises(Failure):
        trained.load(path)
    assert time.process_time() - began_s < LONGEST_S
