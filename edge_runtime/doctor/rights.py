"""Checks of what this user may do: run ahead of others, lock memory, open sound devices; and who else has the sound."""

from __future__ import annotations

import resource
from typing import Final

from edge_runtime.doctor.checks import Row, fail, ok, warn
from edge_runtime.doctor.host import Host

# capabilities(7)
CAP_IPC_LOCK: Final = 14
CAP_SYS_NICE: Final = 23

MIN_PRIORITY: Final = 50  # of 99; sound threads usually take 50 to 90
MIN_LOCKED_BYTES: Final = 256 * 2**20  # the largest engine, Python and NumPy with it
LIMITS_FILE: Final = "/etc/security/limits.d/audio.conf"
AGAIN: Final = "join the group (`sudo usermod -aG audio $USER`), log in again; or `edge-denoise install --service`"

# Where a server answers, below XDG_RUNTIME_DIR and below / for one that serves every user.
SERVERS: Final = {
    "PipeWire": ("pipewire-0",),
    "PulseAudio": ("pulse/native",),
}


def priority(host: Host) -> list[Row]:
    """Whether the audio thread may have real-time priority."""
    highest = max(host.limit(resource.RLIMIT_RTPRIO))
    if host.has_capability(CAP_SYS_NICE):
        return [ok("real-time priority", "any (CAP_SYS_NICE)")]
    if _at_least(resource.RLIMIT_RTPRIO, MIN_PRIORITY, host):
        return [ok("real-time priority", f"up to {_size(highest, '')}")]
    remedy = f"write `@audio - rtprio 95` into {LIMITS_FILE}, {AGAIN}"
    return [warn("real-time priority", f"up to {highest} of 99", remedy)]


def locked_memory(host: Host) -> list[Row]:
    """Whether the model may be kept from being swapped out."""
    most = max(host.limit(resource.RLIMIT_MEMLOCK))
    if host.has_capability(CAP_IPC_LOCK):
        return [ok("locked memory", "any (CAP_IPC_LOCK)")]
    if _at_least(resource.RLIMIT_MEMLOCK, MIN_LOCKED_BYTES, host):
        return [ok("locked memory", _size(most // 2**20 if most > 0 else most, " MB"))]
    remedy = f"write `@audio - memlock unlimited` into {LIMITS_FILE}, {AGAIN}"
    return [warn("locked memory", f"{most // 2**20} MB", remedy)]


def sound_card(host: Host) -> list[Row]:
    """Whether there are sound devices, and this user may open them."""
    devices = sorted(host.root.glob("dev/snd/pcm*"))
    if not devices:
        return [warn("sound card", "none", "plug one in; without one only a sound server's devices can be used")]
    names = [line.partition("]: ")[2] for line in host.text("/proc/asound/cards").splitlines() if "]: " in line]
    closed = [device for device in devices if not host.may_use(device)]
    if closed:
        return [fail("sound card", f"/dev/snd/{closed[0].name} is not for this user", f"it is for audio's: {AGAIN}")]
    return [ok("sound card", f"{', '.join(names) or f'{len(devices)} devices'}; this user may open it")]


def sound_server(host: Host) -> list[Row]:
    """Whether a server holds the cards, and whether ALSA programs reach it."""
    rows = []
    for server, sockets in SERVERS.items():
        if any((host.runtime_folder / name).exists() for name in sockets):
            rows.append(_server_row(host, server))
    if any("PipeWire" in row.found for row in rows):  # it answers as PulseAudio, too
        rows = [row for row in rows if "PipeWire" in row.found]
    return rows or [ok("sound server", "none: `hw:` devices are free")]


def _server_row(host: Host, server: str) -> Row:
    plugin = f"libasound_module_pcm_{'pipewire' if server == 'PipeWire' else 'pulse'}.so"
    if any(host.root.glob(f"usr/lib/*/alsa-lib/{plugin}")):
        return ok("sound server", f"{server} runs; it may hold `hw:` devices: then name `default`")
    package = "pipewire-alsa" if server == "PipeWire" else "libasound2-plugins"
    return warn("sound server", f"{server} runs, but ALSA does not reach it", f"`sudo apt install {package}`")


def _at_least(which: int, wanted: int, host: Host) -> bool:
    limits = host.limit(which)
    return resource.RLIM_INFINITY in limits or max(limits) >= wanted


def _size(value: int, unit: str) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else f"{value}{unit}"
