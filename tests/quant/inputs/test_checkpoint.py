"""Checkpoints: four ways to write the same weights load to the same arrays; anything else is one line."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import Failure
from quant.inputs import assets, checkpoint
from quant.inputs.checkpoint import Checkpoint, load
from quant.network.gtcrn import param_shapes

StateDict = dict[str, torch.Tensor]
ONE_BIAS = "encoder.en_convs.0.conv.bias"


@pytest.fixture(scope="module")
def state_dict(official: Checkpoint) -> StateDict:
    """As PyTorch saves it: with the step counter of every BatchNorm."""
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(7)
        for name in official.params
        if name.endswith("running_var")
    }
    return {name: torch.from_numpy(values.copy()) for name, values in official.params.items()} | counters


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


# --- good files -----------------------------------------------------------------------------------------------

WRITINGS: dict[str, Callable[[StateDict], object]] = {
    "plain.pt": lambda d: d,
    "official.tar": lambda d: {"model": d, "epoch": 3, "optimizer": {"state": {}, "lr": 1e-3}},
    "lightning.ckpt": lambda d: {"state_dict": d},
    "nested.pth": lambda d: {"model": {"state_dict": d}},
    "halves.pt": lambda d: {k: v.double() if v.is_floating_point() else v for k, v in d.items()},
}


@pytest.mark.parametrize("file", WRITINGS)
def test_every_writing_of_the_same_weights_loads_alike(
    file: str, tmp_path: Path, state_dict: StateDict, official: Checkpoint
) -> None:
    path = tmp_path / file
    path.write_bytes(saved(WRITINGS[file](state_dict)))
    loaded = load(path)
    assert loaded.name == file
    assert loaded.params.keys() == official.params.keys()
    for name, values in loaded.params.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, official.params[name], err_msg=name)


def test_the_official_onnx_holds_every_parameter(official: Checkpoint) -> None:
    assert {name: values.shape for name, values in official.params.items()} == param_shapes()
    assert official.sha256 == assets.pinned()[0].members[0].sha256


# --- bad files ------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "executed")


def changed(state_dict: StateDict, **tensors: torch.Tensor | None) -> bytes:
    """The state dict with a tensor replaced, added, or (None) left out."""
    both = {**state_dict, **tensors}
    return saved({name: value for name, value in both.items() if value is not None})


def other_onnx() -> bytes:
    """One convolution: an ONNX model, but of another network."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4]) for name in "xy"]
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:], [weight])).SerializeToString()


def external_onnx() -> bytes:
    """The official network with a tensor said to lie in another file."""
    model = onnx.load(assets.weights())
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    return model.SerializeToString()


def poisoned(state_dict: StateDict, value: float) -> torch.Tensor:
    tensor = state_dict[ONE_BIAS].clone()
    tensor[3] = value
    return tensor


WAV = b"RIFF" + struct.pack("<I4s4sIHHIIHH4sI", 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", 0)
RUNNING_VAR = "encoder.en_convs.0.bn.running_var"

# file -> (what is in it, words of the one line)
BAD: dict[str, tuple[Callable[[StateDict, Path], bytes], str]] = {
    "truncated.pt": (lambda d, bomb: saved(d)[:9000], "truncated, or not a PyTorch file"),
    "empty.pt": (lambda d, bomb: b"", "truncated, or not a PyTorch file"),
    "text.pt": (lambda d, bomb: b"these are not the weights\n" * 9, "not a PyTorch file"),
    "sound.tar": (lambda d, bomb: WAV, "not a PyTorch file"),
    "code.pt": (lambda d, bomb: saved({"model": Bomb(bomb)}), "it was not executed"),
    "code.tar": (lambda d, bomb: pickle.dumps(Bomb(bomb)), "it was not executed"),
    "missing.pt": (lambda d, bomb: changed(d, **{ONE_BIAS: None}), f"1 missing ({ONE_BIAS})"),
    "unexpected.pt": (lambda d, bomb: changed(d, head=torch.ones(1)), "1 unexpected (head)"),
    "misshaped.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: torch.ones(3)}),
        f"1 misshaped ({ONE_BIAS} is (3,), not (16,))",
    ),
    "all_three.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: None, "a": torch.ones(1), RUNNING_VAR: torch.ones(2)}),
        f"1 missing ({ONE_BIAS}); 1 unexpected (a); 1 misshaped ({RUNNING_VAR} is (2,), not (16,))",
    ),
    "nan.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: poisoned(d, float("nan"))}),
        f"{ONE_BIAS} holds NaN or infinity",
    ),
    "infinite.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: poisoned(d, float("-inf"))}),
        f"{ONE_BIAS} holds NaN or infinity",
    ),
    "variance.pt": (
        lambda d, bomb: changed(d, **{RUNNING_VAR: -torch.ones(16)}),
        f"{RUNNING_VAR} is negative",
    ),
    "other_network.pt": (
        lambda d, bomb: saved({"conv.weight": torch.ones(2, 2)}),
        "249 missing (erb.erb_fc.weight, ",
    ),
    "numbers.pt": (lambda d, bomb: saved({"lr": 0.1, "epoch": 3}), "holds no state dict"),
    "list.pt": (lambda d, bomb: saved([1, 2, 3]), "holds no state dict"),
    "tensor.pt": (lambda d, bomb: saved(torch.ones(3)), "holds no state dict"),
    "numbered.pt": (lambda d, bomb: saved({0: torch.ones(3)}), "holds no state dict of plain tensors"),
    "sparse.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: torch.ones(16).to_sparse()}),
        "holds no state dict of plain tensors",
    ),
    "no_weights.pt": (lambda d, bomb: saved({}), "missing"),
    "other.onnx": (lambda d, bomb: other_onnx(), "not the official streaming GTCRN"),
    "elsewhere.onnx": (lambda d, bomb: external_onnx(), "not the official streaming GTCRN"),
    "truncated.onnx": (lambda d, bomb: assets.weights().read_bytes()[:50_000], "not an ONNX file"),
    "empty.onnx": (lambda d, bomb: b"", "not the official streaming GTCRN"),
    "text.onnx": (lambda d, bomb: b"these are not the weights\n", "not an ONNX file"),
    "sound.onnx": (lambda d, bomb: WAV, "not an ONNX file"),
    "torch.onnx": (lambda d, bomb: saved(d), "not an ONNX file"),
    "onnx.pt": (lambda d, bomb: assets.weights().read_bytes(), "not a PyTorch file"),
}


@pytest.mark.parametrize("file", BAD)
def test_a_bad_file_is_one_line(file: str, tmp_path: Path, state_dict: StateDict) -> None:
    bomb, path, (content, words) = tmp_path / "executed", tmp_path / file, BAD[file]
    path.write_bytes(content(state_dict, bomb))
    with pytest.raises(Failure) as failed:
        load(path)
    line = str(failed.value)
    assert line.startswith(f"{path}: ")
    assert words in line
    assert "\n" not in line
    assert not bomb.exists(), "pickled code was executed"
    assert [p.name for p in tmp_path.iterdir()] == [file], "something was left behind"


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(Failure, match=r"no such checkpoint.*--checkpoint"):
            load(path)


def test_the_bomb_is_live(tmp_path: Path) -> None:
    """Else the rows with code would prove nothing."""
    bomb = tmp_path / "executed"
    pickle.loads(pickle.dumps(Bomb(bomb)))
    assert bomb.exists()


def test_no_line_lists_every_tensor(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(saved({f"layer{i}": torch.ones(1) for i in range(300)}))
    with pytest.raises(Failure) as failed:
        checkpoint.load(path)
    assert len(str(failed.value)) < 500
