"""The code on the board: an artifact, one engine and NumPy turn noisy speech into clean speech.

artifact = open_artifact("build/rpi4")
denoiser = Denoiser.open(artifact)             # mono, 16 kHz, float32
clean = denoiser.feed(noisy)                   # any number of samples
tail = denoiser.flush()
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be an import at every start
if TYPE_CHECKING:
    from edge_runtime.denoiser import Denoiser
    from edge_runtime.errors import Failure
    from edge_runtime.manifest import open_artifact

__all__ = ["Denoiser", "Failure", "open_artifact"]
__version__ = "0.1.0"

_HOMES = {
    "Denoiser": "edge_runtime.denoiser",
    "Failure": "edge_runtime.errors",
    "open_artifact": "edge_runtime.manifest",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `edge-denoise --help` does not pay for NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
