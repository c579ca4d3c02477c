"""A denoised microphone for every program: the LADSPA plugin with its weights, a PipeWire filter chain, an ALSA device.

~/.local/lib/ladspa/edge_denoise.so, .native          the plugin, and the weights that it looks for beside itself
~/.config/pipewire/pipewire.conf.d/60-edge-denoise.conf, or where XDG_CONFIG_HOME has that folder
~/.asoundrc                                           a block that defines the ALSA device
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Final

from edge_runtime import builtin
from edge_runtime.errors import Failure
from edge_runtime.extras import debian_package, how_to_compile
from edge_runtime.folders import PIPEWIRE_FILE, pipewire_file
from edge_runtime.install.edits import Change
from edge_runtime.manifest import Artifact
from edge_runtime.quoting import alsa_string, spa_string

PLUGIN: Final = "edge_runtime.native.ladspa_edge_denoise"
RECEIPT: Final = Path(".local/share/edge-denoise/virtual-mic.json")
NODE: Final = "edge_denoise"  # of PipeWire; the ALSA device has the same name
NEXT_STEP: Final = "`systemctl --user restart pipewire`, then choose the microphone 'Denoised microphone'"
_WITHOUT_PIPEWIRE: Final = (
    "`arecord -D edge_denoise` and other programs of ALSA have it; those of PipeWire, which is not here, after"
    " `sudo apt install pipewire wireplumber` and a new login"
)
STEERED: Final = f"""`pw-cli s {NODE} Props '{{ params = [ "denoiser:Strength" 0.5 ] }}'`"""  # while PipeWire runs

WRITTEN: Final = "Written by `edge-denoise install --virtual-mic`; `edge-denoise uninstall --virtual-mic` removes it."
# Where Debian's package puts it, and what hosts call it: PipeWire 1.6 looks for names alone.
SYSTEM_NAME: Final = "edge_denoise"
SYSTEM_PLUGIN: Final = Path(f"/usr/lib/ladspa/{SYSTEM_NAME}.so")

_PIPEWIRE = """\
# {written}
context.modules = [
    {{ name = libpipewire-module-filter-chain
        flags = [ nofail ]
        args = {{
            node.description = "Denoised microphone"
            media.name = "Denoised microphone"
            filter.graph = {{
                nodes = [
                    {{ type = ladspa name = denoiser plugin = {plugin} label = edge_denoise
                        control = {{ "Strength" = {strength} "Limit (dB)" = 100.0 "Bypass" = 0.0 "Full band" = 1.0 }} }}
                ]
            }}
            audio.position = [ MONO ]
            capture.props = {{ node.name = "{node}.capture" node.passive = true{target} }}
            playback.props = {{ node.name = "{node}" media.class = Audio/Source }}
        }}
    }}
]
"""

# `filename`, because a `path` ends at a space or a colon. 16 kHz, so that programs may ask for any rate.
_ALSA = """\
# {written}
# arecord -D {node} ...: the controls are strength 0 to 1, limit in dB (100 is off), bypass 0 or 1, full band 0 or 1
# (of which 16 kHz has none: for it, make the rate below 48000).
pcm.{node} {{
    type plug
    slave {{
        pcm {{
            type ladspa
            slave.pcm {{ type plug slave.pcm {source} }}
            path "/usr/lib/ladspa"
            plugins [ {{ label edge_denoise filename {plugin} input {{ controls [ {strength} 100.0 0.0 1.0 ] }} }} ]
        }}
        rate 16000
    }}
    hint {{ show on description "Denoised microphone" }}
}}
"""
_FOLDER: Final = ".local/lib/ladspa"
# Path from the home folder on -> whether it is a block in a file that is the user's.
FILES: Final = {
    f"{_FOLDER}/edge_denoise.so": False,
    f"{_FOLDER}/edge_denoise.native": False,
    f".config/{PIPEWIRE_FILE}": False,
    ".config/edge-denoise/asound.conf": False,  # before 0.2
    ".asoundrc": True,
}


def is_set_up(home: Path, root: Path = Path("/")) -> bool:
    """Whether PipeWire makes one for this user: by `install`, or by the file of Debian's package, for all."""
    return pipewire_file(home).exists() or (root / "etc/pipewire/pipewire.conf.d/edge-denoise.conf").exists()


def system_plugin(artifact: Artifact) -> Path | None:
    """The plugin that Debian's package has put where every host looks, its weights beside it; None where it is not ours
    or has another model's."""
    is_ours = debian_package() is not None and builtin.name_of(artifact.directory) == builtin.DEFAULT
    return SYSTEM_PLUGIN if is_ours and SYSTEM_PLUGIN.is_file() else None


def changes(home: Path, artifact: Artifact, source: str | None, alsa_source: str, strength: float) -> list[Change]:
    """What a virtual microphone is made of. `source` is PipeWire's node, None its default; `alsa_source` a PCM.

    Failure: the plugin is not compiled, the artifact has no native weights, or a name cannot be written down.
    """
    installed = system_plugin(artifact)
    plugin = installed or home / _FOLDER / "edge_denoise.so"
    pipewire = filter_chain(WRITTEN, SYSTEM_NAME if installed else str(plugin), source, strength)
    source_pcm, file = alsa_string(alsa_source), alsa_string(str(plugin))
    alsa = _ALSA.format(written=WRITTEN, node=NODE, source=source_pcm, plugin=file, strength=strength)
    weights = artifact.model("native", "int8").file
    copies = [Change(plugin, _plugin()), Change(plugin.with_suffix(".native"), artifact.read(weights))]
    return [
        *(() if installed else copies),
        Change(_chain_file(home), pipewire.encode(), is_config=True),
        Change(home / ".asoundrc", alsa.encode(), is_block=True, is_config=True),
    ]


def next_step() -> str:
    """What to type once it is installed, as this machine is."""
    return NEXT_STEP if which("pipewire") else _WITHOUT_PIPEWIRE


def filter_chain(written: str, plugin: str, source: str | None = None, strength: float = 1.0) -> str:
    """PipeWire's configuration. `plugin`: a path, or the name of one in the system's folder; `written`: by whom.

    Failure: a name cannot be written down."""
    target = f" target.object = {spa_string(source)}" if source else ""
    return _PIPEWIRE.format(written=written, plugin=spa_string(plugin), node=NODE, target=target, strength=strength)


def _chain_file(home: Path) -> Path:
    """Failure: PipeWire looks for it where no receipt reaches."""
    path = pipewire_file(home)
    if not path.is_relative_to(home):
        remedy = "move what XDG_CONFIG_HOME names below the home folder, or unset it for PipeWire and here"
        raise Failure(f"PipeWire reads this folder, and it is not in {home}", where=path.parent, remedy=remedy)
    return path


def _plugin() -> bytes:
    spec = find_spec(PLUGIN)
    if spec is None or spec.origin is None:
        raise Failure("the LADSPA plugin is not compiled here", remedy=how_to_compile())
    return Path(spec.origin).read_bytes()
