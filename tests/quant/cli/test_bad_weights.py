"""Checkpoints that cannot be built from: each row brings the file that is wrong."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from quant_desk import build, refuses, saved, weights
from toy_artifact import toy


class Payload:
    """Pickles to code that makes a file."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


def changed(name: str, value: float | None) -> bytes:
    """The checkpoint with one number changed, or one tensor (None) lost."""
    params = torch.load(io.BytesIO(weights()), weights_only=True)
    if value is None:
        del params[name]
    else:
        params[name].view(-1)[0] = value
    return saved(params)


def vanished() -> bytes:
    params = torch.load(io.BytesIO(weights()), weights_only=True)
    return saved({name: torch.full_like(values, 1e-40) for name, values in params.items()})


def another_onnx() -> bytes:
    return (toy().directory / "model.fp32.onnx").read_bytes()


BAD = [
    ("missing", "gone.pt", None, "gone.pt: no such checkpoint; run `quant pull`"),
    ("empty", "a.pt", bytes, "a.pt: is empty"),
    ("cut", "a.pt", lambda: weights()[: len(weights()) // 2], "a.pt: truncated, or not a PyTorch file"),
    ("text", "a.txt", lambda: b"not a model", "a.txt: not a PyTorch, safetensors or ONNX file"),
    (
        "pickled code",
        "a.pt",
        lambda: saved({"model": Payload()}),
        "a.pt: holds no state dict; it holds code",
    ),
    ("a list", "a.pt", lambda: saved([1, 2, 3]), "a.pt: holds no state dict"),
    ("another network", "a.pt", lambda: saved({"fc.weight": torch.zeros(3, 3)}), "a.pt: not a GTCRN checkpoint: "),
    ("a lost tensor", "a.pt", lambda: changed("decoder.de_convs.4.bn.bias", None), "1 missing (decoder.de_convs.4.bn"),
    ("NaN", "a.pt", lambda: changed("encoder.en_convs.1.conv.weight", np.nan), "en_convs.1.conv.weight holds NaN"),
    ("variance < 0", "a.pt", lambda: changed("encoder.en_convs.0.bn.running_var", -1), "running_var is negative"),
    ("denormals alone", "a.pt", vanished, "a.pt: all its weights are 0, or too small for float32; this checkpoint is"),
    ("text as ONNX", "a.onnx", lambda: b"not a model", "a.onnx: truncated, or not an ONNX file"),
]


@pytest.mark.parametrize(("name", "content", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_checkpoint_is_one_line_and_leaves_nothing(
    desk: Path, capfd, name: str, content: Callable[[], bytes] | None, message: str
):
    if content is not None:
        Path(name).write_bytes(content())
    refuses(build(checkpoint=name), 1, message, capfd)


def test_a_folder_is_no_checkpoint(desk, capfd):
    refuses(build(checkpoint="speech"), 1, "speech: is a folder; name a file in it", capfd)


@pytest.mark.parametrize(
    ("command", "name", "content", "message"),
    [("plan", "a.onnx", another_onnx, "a.onnx: "), ("budget", "a.pt", lambda: weights()[:9999], "a.pt: truncated")],
)
def test_other_commands_refuse_alike(desk, capfd, command, name, content, message):
    Path(name).write_bytes(content())
    argv = ["budget", "--target", "host", "--checkpoint", name]
    refuses(argv if command == "budget" else build(command=command, checkpoint=name), 1, message, capfd)
