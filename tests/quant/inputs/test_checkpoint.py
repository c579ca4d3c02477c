"""Checkpoints: four ways to write the same weights load to the same arrays; anything else is one line."""

from __future__ import annotations

import argparse
import collections
import datetime
import gzip
import io
import json
import pathlib
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import Failure
from quant.artifact.stable_bytes import zip_bytes
from quant.inputs import assets, checkpoint, official_onnx, trained
from quant.inputs.checkpoint import Checkpoint, load
from quant.network import registry
from quant.network.float_model import FloatModel
from quant.network.gtcrn import gtcrn, param_shapes
from quant.network.spectra import analyse

# What people have on disk, PyTorch no longer wants to write.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")

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


class Wrapped(torch.nn.Module):
    """A module whose parameters have these dotted names."""

    def __init__(self, tensors: StateDict) -> None:
        super().__init__()
        for name, value in tensors.items():
            self._put(name.split("."), value)

    def _put(self, parts: list[str], value: torch.Tensor) -> None:
        module: torch.nn.Module = self
        for part in parts[:-1]:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_buffer(parts[-1], value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Settings:
    """A class of the user's own, as training scripts keep beside weights."""

    def __init__(self) -> None:
        self.rate, self.layers = 1e-3, [1, 2]


def prefixed(tensors: StateDict, prefix: str) -> StateDict:
    return {prefix + name: value for name, value in tensors.items()}


BESIDE = {
    "epoch": np.int64(3),
    "loss": np.float64(0.5),
    "history": np.arange(5.0),
    "args": argparse.Namespace(lr=1e-3, out=pathlib.PurePosixPath("run")),
    "when": datetime.datetime(2026, 1, 1),
    "settings": Settings(),
    "counts": collections.defaultdict(int, a=1),
    "rng": np.random.RandomState(0).get_state(),
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "kind": torch.float32,
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
}
DICTIONARIES = ("model", "state_dict", "model_state_dict", "net", "network", "generator", "ema", "params", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "generator.", "module._orig_mod.", "model.module.a.b.")
WRITINGS: dict[str, Callable[[StateDict], object]] = {
    "plain": lambda d: d,
    "official": lambda d: {"model": d, "epoch": 3, "optimizer": {"state": {}, "lr": 1e-3}},
    "ordered": lambda d: collections.OrderedDict(d),
    "state dict of a module": lambda d: Wrapped(d).state_dict(),
    "a whole module": Wrapped,
    "a whole module, wrapped": lambda d: torch.nn.DataParallel(Wrapped(d)),
    "parameters": lambda d: {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in d.items()},
    "in a list": lambda d: [3, d],
    "nested": lambda d: {"model": {"state_dict": d}},
    "deep": lambda d: {"a": {"b": {"c": [{"net": prefixed(d, "module.")}]}}},
    "compiled within": lambda d: {k.replace("encoder.", "encoder._orig_mod."): v for k, v in d.items()},
    "a GAN": lambda d: {"state_dict": {**prefixed(d, "generator."), "discriminator.conv.weight": torch.ones(3)}},
    "a loss beside it": lambda d: {"state_dict": {**prefixed(d, "model."), "loss.window": torch.ones(512)}},
    "counters of thop": lambda d: {**d, "total_ops": torch.zeros(1), "encoder.total_params": torch.zeros(1)},
    "doubles": lambda d: {k: v.double() if v.is_floating_point() else v for k, v in d.items()},
    "views": lambda d: {k: torch.stack([v, v]).movedim(0, -1)[..., 1] for k, v in d.items()},
    "NumPy arrays": lambda d: {k: v.numpy() for k, v in d.items()},
    **{f"beside {name}": lambda d, name=name: {"model": d, name: BESIDE[name]} for name in BESIDE},
    **{f"in {name}": lambda d, name=name: {name: d} for name in DICTIONARIES},
    **{f"below {prefix}": lambda d, prefix=prefix: prefixed(d, prefix) for prefix in PREFIXES},
}


@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("way", WRITINGS)
def test_every_writing_of_the_same_weights_loads_alike(
    way: str, is_old: bool, tmp_path: Path, state_dict: StateDict, official: Checkpoint
) -> None:
    path = tmp_path / "any.name"
    torch.save(WRITINGS[way](state_dict), path, _use_new_zipfile_serialization=not is_old)
    equals(load(path), official)


def equals(loaded: Checkpoint, official: Checkpoint, rtol: float = 0) -> None:
    assert loaded.params.keys() == official.params.keys()
    for name, values in loaded.params.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, official.params[name], rtol=rtol, atol=rtol, err_msg=name)


def safetensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """As https://huggingface.co/docs/safetensors describes them."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, values in arrays.items():
        span = [len(body), len(body) + values.nbytes]
        header[name] = {"dtype": f"F{8 * values.itemsize}", "shape": list(values.shape), "data_offsets": span}
        body += values.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def scripted(tensors: StateDict) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Wrapped(tensors)), buffer)
    return buffer.getvalue()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def arrays_of(tensors: StateDict) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tensors.items() if value.is_floating_point()}


FORMATS: dict[str, Callable[[StateDict], bytes]] = {
    "safetensors": lambda d: safetensors(arrays_of(d)),
    "TorchScript": scripted,
    "npz": lambda d: npz(arrays_of(d)),
    "a pickle of arrays": lambda d: pickle.dumps(arrays_of(d)),
    "an old pickle of arrays": lambda d: pickle.dumps(arrays_of(d), protocol=2),
    "a pickle of arrays by columns": lambda d: pickle.dumps({k: np.asfortranarray(v) for k, v in arrays_of(d).items()}),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("suffix", [".pt", ".ONNX", ""])
def test_the_first_bytes_tell_the_format(
    kind: str, suffix: str, tmp_path: Path, state_dict: StateDict, official: Checkpoint
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(FORMATS[kind](state_dict))
    equals(load(path), official)


@pytest.mark.parametrize("suffix", [".onnx", ".ONNX", ".pt", ""])
def test_onnx_is_onnx_under_any_name(suffix: str, tmp_path: Path, official: Checkpoint) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(assets.weights().read_bytes())
    equals(load(path), official)


@pytest.mark.parametrize(("kind", "rtol"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_short_floats_are_what_they_were_rounded_to(
    kind: torch.dtype, rtol: float, tmp_path: Path, state_dict: StateDict, official: Checkpoint
) -> None:
    """Half a unit in the last place: 11 and 8 bits; below the smallest normal number as far apart as it is."""
    path = tmp_path / "short.pt"
    torch.save({k: v.to(kind) if v.is_floating_point() else v for k, v in state_dict.items()}, path)
    equals(load(path), official, rtol)


def onnx_of(kind: type) -> bytes:
    """The official export with weights of another type."""
    model = onnx.load(assets.weights())
    for each in model.graph.initializer:
        if each.data_type == TensorProto.FLOAT:
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each).astype(kind), each.name))
    return model.SerializeToString()


@pytest.mark.parametrize(("kind", "rtol"), [(np.float16, 1e-3), (np.float64, 0)])
def test_onnx_of_other_floats_is_read_as_float32(kind: type, rtol: float, tmp_path: Path, official: Checkpoint) -> None:
    (tmp_path / "f.onnx").write_bytes(onnx_of(kind))
    equals(load(tmp_path / "f.onnx"), official, rtol)


def in_the_later_layout() -> bytes:
    """The official export as its exporter writes it since March 2025: the decoder's depth convolutions are no longer
    transposed, so their BatchNorm is folded into them."""
    model = onnx.load(assets.weights())
    arrays = {i.name: i for i in model.graph.initializer}
    norms = {n.input[0]: n for n in model.graph.node if n.op_type == "BatchNormalization"}
    for node in [n for n in model.graph.node if n.op_type == "ConvTranspose" and "depth_conv" in n.input[1]]:
        norm = norms[node.output[0]]
        weight, bias = (numpy_helper.to_array(arrays[name]) for name in node.input[1:])
        gain, shift, mean, variance = (numpy_helper.to_array(arrays[name]) for name in norm.input[1:])
        factor = gain / np.sqrt(variance + np.float32(1e-5))
        folded = (weight * factor[:, None, None, None])[:, :, ::-1, ::-1]
        for name, values in zip(node.input[1:], (folded, (bias - mean) * factor + shift), strict=True):
            renamed = f"onnx::Conv_{name}"
            arrays[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), renamed))
        node.input[1:] = [f"onnx::Conv_{name}" for name in node.input[1:]]
        node.op_type = "Conv"
        node.output[0] = norm.output[0]
        model.graph.node.remove(norm)
    return model.SerializeToString()


def test_the_later_layout_of_the_official_export_is_the_same_network(tmp_path: Path, official: Checkpoint) -> None:
    path = tmp_path / "later.onnx"
    path.write_bytes(in_the_later_layout())
    samples = np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32) / 10
    noisy = torch.from_numpy(analyse(samples, "sqrt_hann"))
    with torch.no_grad():
        enhanced = [FloatModel(gtcrn(found.params))(noisy)[0] for found in (load(path), official)]
    torch.testing.assert_close(*enhanced, rtol=0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 16])
def test_a_convolution_is_the_transposed_one_of_its_reversed_weights(groups: int) -> None:
    weight, x = torch.randn(16, 16 // groups, 3, 3), torch.randn(1, 16, 9, 9)
    reversed_ = torch.from_numpy(official_onnx.transposed(weight.numpy(), groups))
    wanted = torch.nn.functional.conv2d(x, weight, padding=1, groups=groups)
    found = torch.nn.functional.conv_transpose2d(x, reversed_, padding=1, groups=groups)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "taken"), [(("model", "ema"), "model"), (("ema", "model"), "model"), (("b", "a"), "b")]
)
def test_of_several_networks_the_one_taken_is_told(
    names: tuple[str, str], taken: str, tmp_path: Path, state_dict: StateDict, official: Checkpoint
) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in state_dict.items()}
    said: list[str] = []
    torch.save({name: state_dict if name == taken else zeros for name in names}, tmp_path / "two.pt")
    equals(load(tmp_path / "two.pt", said.append), official)
    (line,) = said
    assert f"holds 2 networks; {taken} is taken, not {set(names) - {taken}}".replace("{'", "").replace("'}", "") in line


def test_a_network_of_another_kind_beside_it_is_told(tmp_path: Path, state_dict: StateDict) -> None:
    names = registry.load("ul-unas").param_shapes(registry.load("ul-unas").published)
    other = {name: torch.ones(shape) for name, shape in names.items()}
    said: list[str] = []
    torch.save({"mine": state_dict, "theirs": other}, tmp_path / "two.pt")
    assert load(tmp_path / "two.pt", said.append).network.name == "ul-unas"
    assert [line.split(": ")[1] for line in said] == ["holds 2 networks; theirs is taken, not mine"]


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


def other_window(tensors: StateDict, n_high_bins: int, n_bands: int) -> bytes:
    """The checkpoint with the ERB filters that another n_fft gives."""
    erb = {"erb.erb_fc.weight": torch.ones(64, n_high_bins), "erb.ierb_fc.weight": torch.ones(n_high_bins, 64)}
    return changed(tensors, **erb)


def frozen(tensors: StateDict) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.script(Wrapped(tensors).eval())), buffer)
    return buffer.getvalue()


def archived(tensors: StateDict) -> bytes:
    buffer, content = io.BytesIO(), saved(tensors)
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("model.pt")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def swollen(tensors: StateDict) -> bytes:
    """The checkpoint with a member that claims to unpack to 600 MiB."""
    buffer = io.BytesIO(saved(tensors))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/x", b"")
        archive.getinfo("archive/data/x").file_size = 600 * 2**20
    return buffer.getvalue()


def huge(tensors: StateDict) -> bytes:
    """A tensor of 2^40 values that are one."""
    return changed(tensors, **{ONE_BIAS: torch.ones(1).expand(2**40)})


WAV = b"RIFF" + struct.pack("<I4s4sIHHIIHH4sI", 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", 0)
RUNNING_VAR = "encoder.en_convs.0.bn.running_var"

# file -> (what is in it, words of the one line)
BAD: dict[str, tuple[Callable[[StateDict, Path], bytes], str]] = {
    "truncated.pt": (lambda d, bomb: saved(d)[:9000], "truncated, or not a PyTorch file"),
    "empty.pt": (lambda d, bomb: b"", "is empty"),
    "text.pt": (lambda d, bomb: b"these are not the weights\n" * 9, "not a PyTorch, safetensors or ONNX file"),
    "sound.tar": (lambda d, bomb: WAV, "is a sound file"),
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
    "tensor.pt": (lambda d, bomb: saved(torch.ones(3)), "249 missing"),
    "numbered.pt": (lambda d, bomb: saved({0: torch.ones(3)}), "249 missing"),
    "sparse.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: torch.ones(16).to_sparse()}),
        f"{ONE_BIAS} is no plain tensor (sparse_tensor)",
    ),
    "no_weights.pt": (lambda d, bomb: saved({}), "holds no state dict"),
    "other.onnx": (lambda d, bomb: other_onnx(), "not the official streaming GTCRN"),
    "elsewhere.onnx": (lambda d, bomb: external_onnx(), "its weights lie in other files, which are not read"),
    "int8.onnx": (lambda d, bomb: onnx_of(np.int8), "is of int8, not of floats; name the float model"),
    "one.npy": (lambda d, bomb: b"\x93NUMPY\x01\0", "is one NumPy array; save the weights by name"),
    "exported.pt2": (
        lambda d, bomb: zip_bytes({"exported/archive_format": b"pt2"}),
        "is a program of torch.export, which keeps weights elsewhere; save the state dict",
    ),
    "truncated.onnx": (lambda d, bomb: assets.weights().read_bytes()[:50_000], "not an ONNX file"),
    "empty.onnx": (lambda d, bomb: b"", "is empty"),
    "text.onnx": (lambda d, bomb: b"these are not the weights\n", "not an ONNX file"),
    "sound.onnx": (lambda d, bomb: WAV, "is a sound file"),
    "quantized.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: torch.quantize_per_tensor(torch.ones(16), 0.1, 0, torch.qint8)}),
        f"{ONE_BIAS} is no plain tensor (qtensor)",
    ),
    "whole_numbers.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: torch.ones(16, dtype=torch.int8)}),
        f"{ONE_BIAS} is of char, not of floats",
    ),
    "too_large.pt": (lambda d, bomb: changed(d, **{ONE_BIAS: torch.ones(1).double() * 1e300}), "misshaped"),
    "too_large_for_float.pt": (
        lambda d, bomb: changed(d, **{ONE_BIAS: torch.full((16,), 1e300, dtype=torch.float64)}),
        f"{ONE_BIAS} holds NaN or infinity",
    ),
    "code_beside_nothing.pt": (lambda d, bomb: saved({"a": Settings()}), "it was not executed"),
    "last.pt": (
        lambda d, bomb: saved({"model": d, "optimizer": {}, "step": 1, "history": [], "best": d, "settings": {}}),
        "is the state of a run of `quant train` or `quant qat`; name the result",
    ),
    "my.trained": (lambda d, bomb: trained.embedded().read_bytes(), "the result of `quant qat`, not a checkpoint"),
    "ulunas.pt": (
        lambda d, bomb: saved({"model": {"encoder.en_convs.0.ops.4.ta_gru.weight_ih_l0": torch.ones(1)}}),
        "not a UL-UNAS checkpoint",
    ),
    "streaming.pt": (
        lambda d, bomb: saved({k.replace("depth_conv.", "depth_conv.ConvTranspose2d."): v for k, v in d.items()}),
        "is a state dict of the streaming model",
    ),
    "n_fft_1024.pt": (lambda d, bomb: other_window(d, 448, 33), "was trained on windows of 1024 samples (n_fft)"),
    "n_fft_400.pt": (lambda d, bomb: other_window(d, 136, 33), "was trained on windows of 400 samples (n_fft)"),
    "frozen.pt": (lambda d, bomb: frozen(d), "freezing took the names of its weights"),
    "gzip.pt": (lambda d, bomb: gzip.compress(saved(d)), "is compressed with gzip; unpack it with gunzip"),
    "archive.tar": (lambda d, bomb: archived(d), "is a tar archive; unpack it"),
    "page.pt": (lambda d, bomb: b"<!DOCTYPE html>", "is a web page"),
    "pointer.pt": (lambda d, bomb: b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
    "folder.zip": (lambda d, bomb: zip_bytes({"a.txt": b""}), "it is a zip archive without a data.pkl"),
    "bomb.pt": (lambda d, bomb: swollen(d), "it unpacks to 600 MiB, more than the 512 read here"),
    "strides.pt": (lambda d, bomb: huge(d), "more than are read here"),
    "beyond.safetensors": (lambda d, bomb: safetensors(arrays_of(d))[:-4], "lies beyond its end"),
    "deep.safetensors": (lambda d, bomb: (10**6).to_bytes(8, "little") + b'{"a":' + b"[" * 10**6, "not a PyTorch file"),
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
    for path, words in ((tmp_path / "absent.pt", "no such checkpoint"), (tmp_path, "is a folder")):
        with pytest.raises(Failure, match=f"{words}.*--checkpoint"):
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
