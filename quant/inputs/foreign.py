"""What is given as a checkpoint and is another thing: each is called by its name, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure
from quant.inputs import weight_file
from quant.inputs.pickled import Name, Thing
from quant.inputs.weight_file import Weights

PRODUCER: Final = "edge-denoise"  # of ONNX models
TRAINED_HEADER: Final = "header.json"  # in a .trained file and in no other
_NAME_IT: Final = "name the checkpoint that it was made from"
# Where in a file its kind stands, what stands there, what it is, and what to do.
_KINDS: Final = (
    (0, b"RIFF", "is a sound file", "name a file of weights"),
    (0, b"fLaC", "is a sound file", "name a file of weights"),
    (0, b"OggS", "is a sound file", "name a file of weights"),
    (4, b"TFL3", "is a TFLite model, whose weights have lost their names", _NAME_IT),
    (0, b"\x93NUMPY", "is one NumPy array", "save the weights by name: numpy.savez(F, **weights)"),
    (0, b"EDNW", "is a model of the native engine", _NAME_IT),
    (0, b"\x89HDF", "is an HDF5 file", "save a state dict with torch.save or safetensors"),
    (257, b"ustar", "is a tar archive", "unpack it, and name the file of weights in it"),
    (0, b"\x1f\x8b", "is compressed with gzip", "unpack it with gunzip"),
    (0, b"BZh", "is compressed with bzip2", "unpack it with bunzip2"),
    (0, b"\xfd7zXZ", "is compressed with xz", "unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it with unzstd"),
    (0, b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "fetch it with `git lfs pull`"),
    (0, b"<!DOCTYPE", "is a web page, not the file itself", "download the file behind it"),
    (0, b"<html", "is a web page, not the file itself", "download the file behind it"),
)
_RUN_STATE: Final = frozenset({"model", "optimizer", "step", "history", "best"})
_FRAME_REMEDY: Final = "train with n_fft=512 and a hop of 256 at 16 kHz, or take the weights of such a network"
_HARMLESS: Final = ("argparse", "collections", "datetime", "numpy", "torch")
_MOST_PLAIN, _DEEPEST_PLAIN = 1000, 6  # values of a list or dictionary, and lists within one another


def refuse(path: Path, data: bytes) -> None:
    """Failure: by its first bytes, or by what is in it, the file is something else that is known."""
    if not data:
        raise Failure("is empty", where=path, remedy="get it again")
    for start, sign, what, remedy in _KINDS:
        if data[start : start + len(sign)] == sign:
            raise Failure(what, where=path, remedy=remedy)
    names = weight_file.members(data)
    if any(name.rsplit("/", 1)[-1] == "archive_format" for name in names):
        what = "is a program of torch.export, which keeps weights elsewhere"
        raise Failure(what, where=path, remedy="save the state dict: torch.save(torch.export.load(F).state_dict, G)")
    if TRAINED_HEADER in names:
        remedy = "name the checkpoint that training began with; to go on with a run give --resume; a build takes it"
        raise Failure("is a trained file, the result of `quant qat`, not a checkpoint", where=path, remedy=remedy)


def is_trained(data: bytes) -> bool:
    """Whether these are the bytes of a trained file."""
    return TRAINED_HEADER in weight_file.members(data)


def refuse_weights(path: Path, weights: Weights) -> None:
    """Failure: the weights are of another network that is known, or of a run that is under way."""
    if weights.top() >= _RUN_STATE:
        remedy = f"name the result, {path.parent / 'model.tar'} or the .trained file there; go on with --resume"
        raise Failure("is the state of a run of `quant train` or `quant qat`", where=path, remedy=remedy)
    paths = [place.path for place in weights.tensors]
    if any(".depth_conv.ConvTranspose2d." in name for name in paths):
        remedy = "name the checkpoint it was converted from, or its ONNX export"
        raise Failure("is a state dict of the streaming model, which keeps weights reversed", where=path, remedy=remedy)


def refuse_onnx(path: Path, producer: str) -> None:
    """Failure: the ONNX model was made here."""
    if producer == PRODUCER:
        raise Failure("was built by this program", where=path, remedy=_NAME_IT)


def refuse_frame(path: Path, n_fft: int | None, window_samples: int) -> None:
    """Failure: the network shares out the bins of another window than `window_samples`."""
    if n_fft not in (None, window_samples):
        what = f"was trained on windows of {n_fft} samples (n_fft), and {window_samples} are compiled here"
        raise Failure(what, where=path, remedy=_FRAME_REMEDY)


def has_code(weights: Weights) -> bool:
    """Whether the file holds or names, at its top, what PyTorch would have executed."""
    if weights.is_code or not isinstance(weights.root, Thing):
        return weights.is_code
    things = [weights.root, *(value for _, value in weights.root.pairs)]
    called = [thing.of for thing in things if isinstance(thing, Thing) and isinstance(thing.of, Name | Thing)]
    return any(isinstance(of, Thing) or of.module.split(".")[0] not in _HARMLESS for of in called)


def remedy(weights: Weights) -> str:
    """What to do about a file without weights, "" where nothing better is known."""
    return "freezing took the names of its weights; save the state dict before" if weights.is_code else ""


def as_plain(value: Any) -> Any:
    """A small dictionary or list of a pickle as Python's own; a larger one is cut, for it was not stored here."""
    return _plain(value, _DEEPEST_PLAIN, iter(range(_MOST_PLAIN)))


def _plain(value: Any, deepest: int, left: Iterator[int]) -> Any:
    """`left`: runs out, for a pickle can name one list a million times."""
    if deepest == 0 or next(left, None) is None:
        return None
    if isinstance(value, Thing) and value.of is None:
        pairs = value.pairs[:_MOST_PLAIN]
        return {name: _plain(each, deepest - 1, left) for name, each in pairs if isinstance(name, str)}
    if isinstance(value, list | tuple):
        return tuple(_plain(each, deepest - 1, left) for each in value[:_MOST_PLAIN])
    return value
