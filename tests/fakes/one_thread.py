"""ONNX Runtime on one thread: those of its own default wait for each other's small operators in a busy loop."""

from __future__ import annotations

import onnxruntime
from onnxruntime import InferenceSession


def session(model: bytes | str) -> InferenceSession:
    """The model, opened for this thread alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])
