"""The code on the board: an artifact, one engine and NumPy turn noisy speech into clean speech.

denoiser = Denoiser.open()                     # mono, 16 kHz, float32; the model that is built in
denoiser = Denoiser.open("build/rpi4")         # or one's own
clean = denoiser.feed(noisy)                   # any number of samples
tail = denoiser.flush()

Rooms in the order of imports, a folder or a file each: each imports only those above it.

    errors        one line: what, where, remedy
    quoting       words from outside in units, configurations, pages
    extras        what to type for what is not installed
    quiet         who speaks while work goes on
    hashing       SHA-256
    folders       the user's folders
    whole_file    files that are there whole
    whole_folder  folders that are there whole
    command       what every command line does alike
    machine       which machine this is, and what holds it back
    bounded       files from outside, within a budget
    stft          samples <-> spectra
    builtin       the models that come with the runtime
    manifest      the artifact folder and its index
    native        the C engine
    engines       one frame in, one frame out: which there are, which to take
    denoiser      samples in, samples out
    band          what lies above the 8 kHz that the network hears
    bench         how long a hop takes here
    files         sound files and pipes, any rate, any channels
    alsa          libasound by ctypes
    live          from one device to another, for days
    panel         a page for a running `live`
    doctor        what this machine lacks; its devices; its round trip
    install       edits to the system that can be taken back; a bundle taken in
    cli           what is typed
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be an import at every start
if TYPE_CHECKING:
    from edge_runtime.denoiser import Denoiser
    from edge_runtime.errors import Failure
    from edge_runtime.manifest import open_artifact

__all__ = ["Denoiser", "Failure", "open_artifact"]
__version__ = "0.2.0"

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
