"""The systemd unit of `edge-denoise live`: a user of its own, real-time scheduling, a watchdog, nothing else allowed.

It is for sound cards (`hw:`, `plughw:`), which belong to the group `audio`; PipeWire belongs to a user's session.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from edge_runtime.errors import Failure
from edge_runtime.install.edits import Change

UNIT: Final = Path("etc/systemd/system/edge-denoise.service")
RECEIPT: Final = Path("usr/local/share/edge-denoise/service.json")
NEXT_STEP: Final = "`systemctl daemon-reload && systemctl enable --now edge-denoise`"
_HIDDEN: Final = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # from the service

_UNIT = """\
# Written by `edge-denoise install --service`; `edge-denoise uninstall --service` removes it.
[Unit]
Description=Live speech denoiser
After=sound.target
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=on-failure
RestartSec=1
WatchdogSec=10
TimeoutStopSec=5

DynamicUser=yes
SupplementaryGroups=audio
RuntimeDirectory=edge-denoise
RuntimeDirectoryMode=0700
# What `ctl` has set outlives a crash, not a stop.
RuntimeDirectoryPreserve=restart
# The control socket: XDG_RUNTIME_DIR=/run/edge-denoise edge-denoise ctl status
Environment=XDG_RUNTIME_DIR=%t/edge-denoise PYTHONDONTWRITEBYTECODE=1
UMask=0077

CPUSchedulingPolicy=fifo
CPUSchedulingPriority=50
LimitRTPRIO=50
LimitMEMLOCK=infinity
OOMScoreAdjust=-500

CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
DevicePolicy=closed
DeviceAllow=char-alsa rw
ProtectSystem=strict
ProtectHome=tmpfs
{binds}PrivateTmp=yes
PrivateNetwork=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
IPAddressDeny=any
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def changes(root: Path, model: Path, capture: str, playback: str) -> list[Change]:
    """The unit. Failure: a name that a unit cannot hold."""
    model = model.resolve()
    command = [*_program(), "live", "--capture", capture, "--playback", playback, "--model", str(model)]
    seen = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).resolve().parents[1], model]
    unit = _UNIT.format(command=" ".join(map(_quoted, command)), binds=_binds(seen))
    return [Change(root / UNIT, unit.encode())]


def _program() -> list[str]:
    script = Path(sys.executable).with_name("edge-denoise")
    return [str(script)] if script.exists() else [sys.executable, "-m", "edge_runtime.cli"]


def _binds(paths: list[Path]) -> str:
    """What must be seen of the folders that are hidden: the installation and the model, read only."""
    hidden = sorted({path for path in paths if any(path.is_relative_to(folder) for folder in _HIDDEN)})
    return "".join(f"BindReadOnlyPaths={_quoted(str(path))}\n" for path in hidden)


def _quoted(word: str) -> str:
    """As systemd.syntax(7) has it; % would be a specifier, $ a variable."""
    if not word.isprintable() or "$" in word:
        raise Failure(f"the name {word!r} has signs that a systemd unit does not take", remedy="use another name")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if escaped != word or any(sign in word for sign in " ';") else word
