"""Checks of the processor and what it lives on. Paths are those of the kernel's Documentation/ABI."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge_runtime.doctor.checks import Row, fail, ok, warn
from edge_runtime.doctor.host import Host

# What kernels are chosen by (native/ed_isas.c), as /proc/cpuinfo names it.
FEATURES: Final = {
    "neon": "NEON", "asimd": "NEON", "asimddp": "dot product", "i8mm": "int8 matrix product", "fphp": "half precision",
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI",
}  # fmt: skip
HOT_MC: Final = 75_000  # thousandths of a degree: a Pi slows down at 80 °C, and hard at 85 °C
TOO_HOT_MC: Final = 85_000
MIN_FREE_MEMORY_KB: Final = 64 * 1024  # LiteRT with a model takes 60 MB, ONNX Runtime 90 MB, native 35 MB
MIN_FREE_DISK_BYTES: Final = 200 * 10**6  # a minute and a half of two stereo sides at 48 kHz is 35 MB
BUSY_LOAD: Final = 0.7  # of all cores, over the last minute
STEADY_CLOCKS: Final = ("arch_sys_counter", "tsc", "kvm-clock", "arm_global", "timer", "acpi_pm", "hpet", "hyperv")

# https://www.raspberrypi.com/documentation/computers/os.html, get_throttled: what is, and 16 bits up what has been.
THROTTLED: Final = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
HAS_BEEN_BIT: Final = 16
_SUPPLY: Final = "use the board's own power supply and a short cable, and a heat sink or a fan"


def processor(host: Host) -> list[Row]:
    """Which processor, and what it offers the kernels."""
    cpuinfo = _fields(host.text("/proc/cpuinfo"))
    words = f"{cpuinfo.get('Features', '')} {cpuinfo.get('flags', '')}".split()
    features = list(dict.fromkeys(name for word, name in FEATURES.items() if word in words))
    name = host.text("/proc/device-tree/model") or cpuinfo.get("model name") or "processor of unknown name"
    found = f"{name}, {host.arch}, {host.n_cores} cores, {', '.join(features) or 'no vector instructions'}"
    if host.arch.startswith("arm") and not features:
        return [warn("processor", found, "every kernel is scalar here: see `edge-denoise bench` for its time a hop")]
    return [ok("processor", found)]


def governor(host: Host) -> list[Row]:
    """Whether the clock speed follows the work too slowly: a hop is over before `ondemand` notices it."""
    governors = set(host.texts("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor").values())
    drivers = set(host.texts("/sys/devices/system/cpu/cpu*/cpufreq/scaling_driver").values())
    if not governors:
        return [ok("governor", "the clock speed is not scaled here")]
    found = f"{', '.join(sorted(governors))} ({', '.join(sorted(drivers)) or 'unknown driver'})"
    if governors <= {"performance", "schedutil"} or drivers <= {"intel_pstate", "amd-pstate-epp"}:
        return [ok("governor", found)]
    remedy = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return [warn("governor", found, f"the clock may lag behind the sound: `{remedy}`")]


def temperature(host: Host) -> list[Row]:
    """The hottest sensor."""
    texts = host.texts("/sys/class/thermal/thermal_zone*/temp").values()
    sensors_mc = [int(text) for text in texts if text.lstrip("-").isdecimal()]
    if not sensors_mc:
        return [ok("temperature", "no sensor here")]
    hottest_mc = max(sensors_mc)
    found = f"{hottest_mc / 1000:.0f} °C"
    if hottest_mc >= TOO_HOT_MC:
        return [fail("temperature", found, "it slows down now: a heat sink or a fan")]
    if hottest_mc >= HOT_MC:
        return [warn("temperature", found, f"near {TOO_HOT_MC / 1000:.0f} °C it slows down: a heat sink or a fan")]
    return [ok("temperature", found)]


def throttling(host: Host) -> list[Row]:
    """What a Raspberry Pi's firmware says about its power and heat, now and since it started."""
    text = host.text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    text = text or (host.program(["vcgencmd", "get_throttled"]) or "").strip().rpartition("=")[2]
    if not text:
        return [ok("throttling", "not reported here")]
    bits = int(text, 16)
    now = [name for bit, name in THROTTLED.items() if bits >> bit & 1]
    before = [name for bit, name in THROTTLED.items() if bits >> bit + HAS_BEEN_BIT & 1]
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
    found = f"{share:.0%} of {host.n_cores} cores over the last minute"
    return [ok("load", found) if share < BUSY_LOAD else warn("load", found, "stop what else runs: `top` names it")]


def memory(host: Host) -> list[Row]:
    """What is free for the engine."""
    available = _fields(host.text("/proc/meminfo")).get("MemAvailable", "").split()
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


def _fields(text: str) -> dict[str, str]:
    """The first value of every `key: value`."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields
