"""Why an engine computes something else than it must on this processor, and what to do: said with a breach."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.engines.onnx_file import has_signed_weights
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
