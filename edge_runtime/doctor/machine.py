"""Checks of the processor and what it lives on. Paths are those of the kernel's Documentation/ABI."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge_runtime.doctor.checks import Row, fail, ok, warn
from edge_runtime.doctor.host import Host
from edge_runtime.errors import counted
from edge_runtime.machine import (
    HOT_MC,
    features,
    fields,
    firmware_says,
    firmware_word,
    governors,
    hottest_mc,
    named_processor,
)

TOO_HOT_MC: Final = 85_000  # thousandths of a degree
MIN_FREE_MEMORY_KB: Final = 64 * 1024  # LiteRT with a model takes 60 MB, ONNX Runtime 90 MB, native 35 MB
MIN_FREE_DISK_BYTES: Final = 200 * 10**6  # a minute and a half of two stereo sides at 48 kHz is 35 MB
BUSY_LOAD: Final = 0.7  # of all cores, over the last minute
STEADY_CLOCKS: Final = ("arch_sys_counter", "tsc", "kvm-clock", "arm_global", "timer", "acpi_pm", "hpet", "hyperv")

_SUPPLY: Final = "use the board's own power supply and a short cable, and a heat sink or a fan"


def processor(host: Host) -> list[Row]:
    """Which processor, and what it offers the kernels."""
    offered = features(host.root)
    name = named_processor(host.root) or "processor of unknown name"
    found = f"{name}, {host.arch}, {counted(host.n_cores, 'core')}, {', '.join(offered) or 'no vector instructions'}"
    if host.arch.startswith("arm") and not offered:
        return [warn("processor", found, "every kernel is scalar here: see `edge-denoise bench` for its time a hop")]
    return [ok("processor", found)]


def governor(host: Host) -> list[Row]:
    """Whether the clock speed follows the work too slowly: a hop is over before `ondemand` notices it."""
    named = governors(host.root)
    drivers = set(host.texts("/sys/devices/system/cpu/cpu*/cpufreq/scaling_driver").values())
    if not named:
        return [ok("governor", "the clock speed is not scaled here")]
    found = f"{', '.join(named)} ({', '.join(sorted(drivers)) or 'unknown driver'})"
    if set(named) <= {"performance", "schedutil"} or drivers <= {"intel_pstate", "amd-pstate-epp"}:
        return [ok("governor", found)]
    remedy = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return [warn("governor", found, f"the clock may lag behind the sound: `{remedy}`")]


def temperature(host: Host) -> list[Row]:
    """The hottest sensor."""
    heat_mc = hottest_mc(host.root)
    if heat_mc is None:
        return [ok("temperature", "no sensor here")]
    found = f"{heat_mc / 1000:.0f} °C"
    if heat_mc >= TOO_HOT_MC:
        return [fail("temperature", found, "it slows down now: a heat sink or a fan")]
    if heat_mc >= HOT_MC:
        return [warn("temperature", found, f"near {TOO_HOT_MC / 1000:.0f} °C it slows down: a heat sink or a fan")]
    return [ok("temperature", found)]


def throttling(host: Host) -> list[Row]:
    """What a Raspberry Pi's firmware says about its power and heat, now and since it started."""
    word = firmware_word(host.root, host.program)
    if word is None:
        return [ok("throttling", "not reported here")]
    now, before = firmware_says(word)
    if now:
        return [fail("throttling", f"now: {', '.join(now)}", _SUPPLY)]
    if before:
        return [warn("throttling", f"since it started: {', '.join(before)}", _SUPPLY)]
    return [ok("throttling", "none since it started")]


def load(host: Host) -> list[Row]:
    """What else runs."""
    text = host.text("/proc/loadavg")
    if not text:
        return [ok("load", "not reported here")]
    share = float(text.split()[0]) / host.n_cores
    found = f"{share:.0%} of {counted(host.n_cores, 'core')} over the last minute"
    return [ok("load", found) if share < BUSY_LOAD else warn("load", found, "stop what else runs: `top` names it")]


def memory(host: Host) -> list[Row]:
    """What is free for the engine."""
    available = fields(host.text("/proc/meminfo")).get("MemAvailable", "").split()
    if not available:
        return [ok("memory", "not reported here")]
    found = f"{int(available[0]) // 1024} MB free"
    if int(available[0]) >= MIN_FREE_MEMORY_KB:
        return [ok("memory", found)]
    return [warn("memory", found, "stop what is not needed, or take the native engine: it needs least")]


def disk(host: Host, folder: Path) -> list[Row]:
    """Room for recordings where the command was called."""
    free_bytes = host.free_bytes(folder)
    found = f"{free_bytes / 10**9:.1f} GB free in {folder}"
    if free_bytes >= MIN_FREE_DISK_BYTES:
        return [ok("disk", found)]
    return [warn("disk", found, "free some before you record with --tee: it stops when the disk is full")]


def clock(host: Host, package: Path) -> list[Row]:
    """The timer that sound is paced by, and the time of day: a Pi without network starts in the past."""
    source = host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source and not source.startswith(STEADY_CLOCKS):
        return [warn("clock", f"clock source {source}", "it is coarse: see the kernel's option `clocksource=`")]
    if host.now_s() < package.stat().st_mtime:
        return [warn("clock", "earlier than this package", "set it: `sudo timedatectl set-ntp true`")]
    return [ok("clock", f"clock source {source or 'unknown'}, time of day plausible")]
