"""A denoised microphone for every program: the LADSPA plugin with its weights, a PipeWire filter chain, an ALSA device.

~/.local/lib/ladspa/edge_denoise.so, .native          the plugin, and the weights that it looks for beside itself
~/.config/pipewire/pipewire.conf.d/60-edge-denoise.conf
~/.config/edge-denoise/asound.conf                    included by a block in ~/.asoundrc
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from edge_runtime.errors import Failure
from edge_runtime.install.edits import Change
from edge_runtime.manifest import Artifact

PLUGIN: Final = "edge_runtime.native.ladspa_edge_denoise"
RECEIPT: Final = Path(".local/share/edge-denoise/virtual-mic.json")
NODE: Final = "edge_denoise"  # of PipeWire; the ALSA device has the same name
NEXT_STEP: Final = "`systemctl --user restart pipewire`, then choose the microphone 'Denoised microphone'"

_PIPEWIRE = """\
# Written by `edge-denoise install --virtual-mic`; `edge-denoise uninstall --virtual-mic` removes it.
context.modules = [
    {{ name = libpipewire-module-filter-chain
        flags = [ nofail ]
        args = {{
            node.description = "Denoised microphone"
            media.name = "Denoised microphone"
            filter.graph = {{
                nodes = [
                    {{ type = ladspa name = denoiser plugin = {plugin} label = edge_denoise
                        control = {{ "Strength" = 1.0 "Limit (dB)" = 100.0 "Bypass" = 0.0 }} }}
                ]
            }}
            audio.position = [ MONO ]
            capture.props = {{ node.name = "{node}.capture" node.passive = true{target} }}
            playback.props = {{ node.name = "{node}" media.class = Audio/Source }}
        }}
    }}
]
"""

_ALSA = """\
# Written by `edge-denoise install --virtual-mic`; `edge-denoise uninstall --virtual-mic` removes it.
# arecord -D {node} ...: the controls are strength 0 to 1, limit in dB (100 is off), bypass 0 or 1.
pcm.{node} {{
    type plug
    slave.pcm {{
        type ladspa
        slave.pcm {{ type plug slave.pcm {source} }}
        path {folder}
        plugins [ {{ label edge_denoise input {{ controls [ 1.0 100.0 0.0 ] }} }} ]
    }}
    hint {{ show on description "Denoised microphone" }}
}}
"""


def changes(home: Path, artifact: Artifact, source: str | None, alsa_source: str) -> list[Change]:
    """What a virtual microphone is made of. `source` is PipeWire's node, None its default; `alsa_source` a PCM.

    Failure: the plugin is not compiled, the artifact has no native weights, or a name cannot be written down.
    """
    folder = home / ".local/lib/ladspa"
    plugin, alsa = folder / "edge_denoise.so", home / ".config/edge-denoise/asound.conf"
    for name in (str(home), source or "", alsa_source):
        _check_name(name)
    target = f" target.object = {json.dumps(source)}" if source else ""
    pipewire_text = _PIPEWIRE.format(plugin=json.dumps(str(plugin)), node=NODE, target=target)
    alsa_text = _ALSA.format(node=NODE, source=json.dumps(alsa_source), folder=json.dumps(str(folder)))
    return [
        Change(plugin, _plugin()),
        Change(plugin.with_suffix(".native"), artifact.read(artifact.model("native", "int8").file)),
        Change(home / ".config/pipewire/pipewire.conf.d/60-edge-denoise.conf", pipewire_text.encode()),
        Change(alsa, alsa_text.encode()),
        Change(home / ".asoundrc", f"<{alsa}>\n".encode(), is_block=True),
    ]


def _plugin() -> bytes:
    spec = find_spec(PLUGIN)
    if spec is None or spec.origin is None:
        raise Failure("the LADSPA plugin is not compiled here", remedy="`apt install gcc`, then install this again")
    return Path(spec.origin).read_bytes()


def _check_name(name: str) -> None:
    """Both configuration languages quote like this and escape differently."""
    if not name.isprintable() or not name.isascii() or any(sign in name for sign in "\"'\\<>"):
        raise Failure(f"the name {name!r} has signs that configuration files do not take", remedy="use another name")
