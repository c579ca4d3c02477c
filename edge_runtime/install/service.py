"""The systemd unit of `edge-denoise live`, for the machine and for a user: one template, as little allowed as can be.

The machine's has a user of its own and real-time scheduling, and is for sound cards (`hw:`, `plughw:`), which belong to
the group `audio`. A user's reaches that user's PipeWire; what only root may forbid is not in it, and what needs a
namespace that a kernel does not give to users is left out by systemd without a word.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_runtime.install.edits import Change
from edge_runtime.quoting import systemd_path, systemd_word

UNIT: Final = Path("etc/systemd/system/edge-denoise.service")
RECEIPT: Final = Path("usr/local/share/edge-denoise/service.json")
FILES: Final = {str(UNIT): False}  # path from the root on -> whether it is a block in another's file
NEXT_STEP: Final = "`systemctl daemon-reload && systemctl enable edge-denoise && systemctl restart edge-denoise`"
_RUNTIME: Final = "edge-denoise"  # below /run
_HIDDEN: Final = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # from the service

_UNIT: Final = """\
# {written}
[Unit]
Description=Live speech denoiser
After={after}
# It is there for days: whatever is wrong may be mended, but for what was typed wrongly.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
WatchdogSec=10
TimeoutStopSec=5

RuntimeDirectory={runtime}
RuntimeDirectoryMode=0700
# What `ctl` has set outlives a crash, not a stop or a restart that was asked for.
RuntimeDirectoryPreserve=restart
Environment=PYTHONDONTWRITEBYTECODE=1
UMask=0077

NoNewPrivileges=yes
ProtectSystem=strict
{rights}ProtectControlGroups=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy={wanted_by}
"""

_OF_THE_MACHINE: Final = """\
DynamicUser=yes
SupplementaryGroups=audio
# The control socket: XDG_RUNTIME_DIR=/run/{runtime} edge-denoise ctl status
Environment=XDG_RUNTIME_DIR=%t/{runtime}

CPUSchedulingPolicy=fifo
CPUSchedulingPriority=50
LimitRTPRIO=50
LimitMEMLOCK=infinity
OOMScoreAdjust=-500

CapabilityBoundingSet=
AmbientCapabilities=
DevicePolicy=closed
DeviceAllow=char-alsa rw
ProtectHome=tmpfs
{binds}PrivateTmp=yes
PrivateNetwork=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
RemoveIPC=yes
IPAddressDeny=any
"""
# /tmp stays everybody's: ALSA's dsnoop and dmix meet other programs there.
_OF_A_USER: Final = """\
ProtectHome=read-only
"""


def changes(root: Path, model: Path | None, capture: str, playback: str, heard: Sequence[str] = ()) -> list[Change]:
    """The machine's unit; without a model that of the runtime, whichever version is installed then. `heard`: further
    options of `live`.

    Failure: a name that a unit cannot hold."""
    own = [] if model is None else [model.resolve()]
    seen = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).resolve().parents[1], *own]
    further = [systemd_word(option) for option in heard]
    unit = _UNIT.format(
        written="Written by `edge-denoise install --service`; `edge-denoise uninstall --service` removes it.",
        after="sound.target",
        command=" ".join([*_program(), *_live(capture, playback, *map(systemd_word, map(str, own))), *further]),
        rights=_OF_THE_MACHINE.format(binds=_binds(seen), runtime=_RUNTIME),
        runtime=_RUNTIME,
        wanted_by="multi-user.target",
    )
    return [Change(root / UNIT, unit.encode(), is_config=True)]


def instances_unit(program: str) -> str:
    """The machine's unit of a Debian package, one for each sound card: `edge-denoise@CARD`. `program`: its path."""
    runtime = f"{_RUNTIME}/%i"
    return _UNIT.format(
        written="For a sound card by its name: systemctl enable --now edge-denoise@CARD (see `edge-denoise devices`).\n"
        "# Other sound out, other options: systemctl edit edge-denoise@CARD, and there, for example:\n"
        "#     [Service]\n"
        "#     Environment=PLAYBACK=hw:CARD=Loopback,DEV=0 OPTIONS=--strength=0.8",
        after="sound.target",
        command=f"{program} live --wait --capture plughw:CARD=%i --playback ${{PLAYBACK}} $OPTIONS",
        rights=f"Environment=PLAYBACK=default OPTIONS=\n{_OF_THE_MACHINE.format(binds='', runtime=runtime)}",
        runtime=runtime,
        wanted_by="multi-user.target",
    )


def users_unit(program: str, model: str, capture: str, playback: str) -> str:
    """A unit of the user's own systemd. `program`, `model`: as a unit has them. Failure: as `changes`."""
    return _UNIT.format(
        written="Written by `quant deploy --service`.",
        after="sound.target pipewire.service",
        command=" ".join([program, *_live(capture, playback, model)]),
        rights=_OF_A_USER,
        runtime=_RUNTIME,
        wanted_by="default.target",
    )


def _live(capture: str, playback: str, *model: str) -> Sequence[str]:
    """A microphone that comes late is waited for."""
    devices = ("--capture", systemd_word(capture), "--playback", systemd_word(playback))
    return ["live", "--wait", *devices, *(("--model", *model) if model else ())]


def _program() -> list[str]:
    script = Path(sys.executable).with_name("edge-denoise")
    if script.exists():
        return [systemd_path(str(script))]
    return [systemd_path(sys.executable), "-m", "edge_runtime.cli"]


def _binds(paths: Sequence[Path]) -> str:
    """What must be seen of the folders that are hidden: the installation and the model, read only."""
    hidden = sorted({path for path in paths if any(path.is_relative_to(folder) for folder in _HIDDEN)})
    return "".join(f"BindReadOnlyPaths={systemd_path(str(path))}\n" for path in hidden)
