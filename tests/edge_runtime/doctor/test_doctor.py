"""The doctor on machines that are made up: a table of what lies in /proc, /sys and /dev, and what it says of it."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from toy_artifact import toy

from edge_runtime.alsa import library
from edge_runtime.alsa.device import Capabilities
from edge_runtime.alsa.pcm import CAPTURE
from edge_runtime.cli import main
from edge_runtime.doctor import checks, machine, model, rights, sound
from edge_runtime.doctor.checks import Row
from edge_runtime.doctor.host import Host
from edge_runtime.engines import ENGINES
from edge_runtime.errors import Failure

PI4 = "processor : 0\nFeatures : fp asimd evtstrm crc32 cpuid\nCPU part : 0xd08\n"
PI5 = "processor : 0\nFeatures : fp asimd aes crc32 fphp asimddp\n"
XEON = "model name : Some Xeon\nflags : fpu avx2 avx512f avx512_vnni\n"
ZERO = "Features : half thumb vfp\n"
CPU = "/sys/devices/system/cpu/cpu0/cpufreq"
FIRMWARE = "/sys/devices/platform/soc/soc:firmware/get_throttled"
ZONE = "/sys/class/thermal/thermal_zone{}/temp"
SOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
CARDS = " 0 [Loopback       ]: Loopback - Loopback\n                      Loopback 1\n"
LIBRARY = "/usr/lib/aarch64-linux-gnu/alsa-lib/libasound_module_pcm_{}.so"
NO_RIGHTS = {resource.RLIMIT_RTPRIO: (0, 0), resource.RLIMIT_MEMLOCK: (8 * 2**20, 8 * 2**20)}


def host(root: Path, files: dict[str, str] | None = None, **changed: object) -> Host:
    """A machine with these files and nothing else."""
    for name, text in (files or {}).items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    nothing = {
        "arch": "aarch64",
        "n_cores": 4,
        "runtime_folder": root / "run/user/1000",
        "limit": lambda which: NO_RIGHTS[which],
        "program": lambda command: None,
        "may_use": lambda path: True,
        "free_bytes": lambda path: 10**10,
        "now_s": lambda: 2e9,
    }
    return Host(root=root, **{**nothing, **changed})


def says(text: str):
    """A program that prints `text`, whatever it is called with."""

    def program(command: Sequence[str]) -> str | None:
        return text

    return program


MACHINES = [
    # check, files, what else differs, status, found, remedy
    ("processor", {"/proc/cpuinfo": PI4, "/proc/device-tree/model": "Raspberry Pi 4\0"}, {}, "ok",
     "Raspberry Pi 4, aarch64, 4 cores, NEON", ""),
    ("processor", {"/proc/cpuinfo": PI5}, {}, "ok", "NEON, dot product, half precision", ""),
    ("processor", {"/proc/cpuinfo": XEON}, {"arch": "x86_64"}, "ok", "Some Xeon, x86_64, 4 cores, AVX2, AVX-512", ""),
    ("processor", {"/proc/cpuinfo": ZERO}, {"arch": "armv6l"}, "warn", "no vector instructions", "bench"),
    ("processor", {}, {}, "ok", "processor of unknown name", ""),
    ("governor", {}, {}, "ok", "not scaled", ""),
    ("governor", {f"{CPU}/scaling_governor": "performance\n"}, {}, "ok", "performance", ""),
    ("governor", {f"{CPU}/scaling_governor": "ondemand\n", f"{CPU}/scaling_driver": "cpufreq-dt\n"}, {}, "warn",
     "ondemand (cpufreq-dt)", "scaling_governor"),
    ("governor", {f"{CPU}/scaling_governor": "powersave", f"{CPU}/scaling_driver": "intel_pstate"}, {}, "ok",
     "powersave", ""),
    ("temperature", {}, {}, "ok", "no sensor", ""),
    ("temperature", {ZONE.format(0): "45100\n"}, {}, "ok", "45 °C", ""),
    ("temperature", {ZONE.format(0): "45100", ZONE.format(1): "78000"}, {}, "warn", "78 °C", "heat sink"),
    ("temperature", {ZONE.format(0): "86000"}, {}, "fail", "86 °C", "heat sink"),
    ("temperature", {ZONE.format(0): "garbage"}, {}, "ok", "no sensor", ""),
    ("throttling", {}, {}, "ok", "not reported", ""),
    ("throttling", {FIRMWARE: "?\n"}, {}, "ok", "not reported", ""),
    ("throttling", {FIRMWARE: "0\n"}, {}, "ok", "none since", ""),
    ("throttling", {FIRMWARE: "50000\n"}, {}, "warn", "under-voltage, throttled", "power supply"),
    ("throttling", {FIRMWARE: "50005"}, {}, "fail", "now: under-voltage, throttled", "power supply"),
    ("throttling", {}, {"program": says("throttled=0x80008\n")}, "fail", "now: soft temperature limit", "fan"),
    ("load", {}, {}, "ok", "not reported", ""),
    ("load", {"/proc/loadavg": "0.40 0.1 0.1 1/99 7"}, {}, "ok", "10% of 4 cores", ""),
    ("load", {"/proc/loadavg": "3.90 0.1 0.1 1/99 7"}, {}, "warn", "98% of 4 cores", "top"),
    ("memory", {}, {}, "ok", "not reported", ""),
    ("memory", {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  300000 kB\n"}, {}, "ok", "292 MB free", ""),
    ("memory", {"/proc/meminfo": "MemAvailable:  20480 kB\n"}, {}, "warn", "20 MB free", "native"),
    ("disk", {}, {}, "ok", "10.0 GB free", ""),
    ("disk", {}, {"free_bytes": lambda path: 10**8}, "warn", "0.1 GB free", "--tee"),
    ("clock", {SOURCE: "arch_sys_counter\n"}, {}, "ok", "arch_sys_counter", ""),
    ("clock", {SOURCE: "jiffies\n"}, {}, "warn", "jiffies", "clocksource"),
    ("clock", {}, {"now_s": lambda: 0.0}, "warn", "earlier", "set-ntp"),
    ("real-time priority", {}, {}, "warn", "up to 0 of 99", "@audio - rtprio 95"),
    ("real-time priority", {}, {"limit": lambda which: (0, 95)}, "ok", "up to 95", ""),
    ("real-time priority", {}, {"limit": lambda which: (-1, -1)}, "ok", "unlimited", ""),
    ("real-time priority", {"/proc/self/status": "CapEff:\t0000000000800000\n"}, {}, "ok", "CAP_SYS_NICE", ""),
    ("locked memory", {}, {}, "warn", "8 MB", "@audio - memlock unlimited"),
    ("locked memory", {}, {"limit": lambda which: (-1, -1)}, "ok", "unlimited", ""),
    ("locked memory", {}, {"limit": lambda which: (2**29, 2**29)}, "ok", "512 MB", ""),
    ("locked memory", {"/proc/self/status": "CapEff:\t0000000000004000\n"}, {}, "ok", "CAP_IPC_LOCK", ""),
    ("sound card", {}, {}, "warn", "none", "sound server"),
    ("sound card", {"/dev/snd/pcmC0D0p": "", "/proc/asound/cards": CARDS}, {}, "ok", "Loopback; this user", ""),
    ("sound card", {"/dev/snd/pcmC0D0p": ""}, {"may_use": lambda path: False}, "fail",
     "pcmC0D0p is not for", "-aG audio"),
    ("sound server", {}, {}, "ok", "none", ""),
    ("sound server", {"/run/user/1000/pipewire-0": "", LIBRARY.format("pipewire"): ""}, {}, "ok", "PipeWire runs", ""),
    ("sound server", {"/run/user/1000/pipewire-0": "", "/run/user/1000/pulse/native": ""}, {}, "warn",
     "PipeWire runs, but", "apt install pipewire-alsa"),
    ("sound server", {"/run/user/1000/pulse/native": ""}, {}, "warn", "PulseAudio runs, but", "libasound2-plugins"),
    ("sound server", {"/run/user/1000/pulse/native": "", LIBRARY.format("pulse"): ""}, {}, "ok", "PulseAudio runs", ""),
]  # fmt: skip
FUNCTIONS = {
    "real-time priority": rights.priority,
    "locked memory": rights.locked_memory,
    "sound card": rights.sound_card,
    "sound server": rights.sound_server,
    "disk": lambda host: machine.disk(host, host.root),
    "clock": lambda host: machine.clock(host, Path(checks.__file__)),
}


@pytest.mark.parametrize(("check", "files", "changed", "status", "found", "remedy"), MACHINES)
def test_a_machine_is_judged(tmp_path: Path, check, files, changed, status, found, remedy) -> None:
    examined = FUNCTIONS.get(check) or getattr(machine, check)
    (row,) = examined(host(tmp_path, files, **changed))
    assert (row.check, row.status) == (check, status)
    assert found in row.found
    assert remedy in row.remedy
    assert bool(row.remedy) == (status != "ok"), "a remedy exactly where something is wrong"


def test_libasound_that_is_not_there_is_named_with_its_package(monkeypatch) -> None:
    monkeypatch.setattr(library, "LIBRARY", "libnothing-of-that-name.so.2")
    monkeypatch.setattr(library, "load_library", library.load_library.__wrapped__)
    (row,) = checks.examine([("libasound", sound.libasound)])
    assert row.status == "fail"
    assert "apt install libasound2" in row.remedy


CAN = Capabilities((16_000, 48_000), (8_000, 48_000), ("S16_LE",), (1, 2), (16, 4096), (32, 8192))
DEVICES = [
    ("hears 16 kHz", CAN, "ok", "hw:0: 16000 48000 Hz, S16_LE, 1 to 2 channels", ""),
    ("48 kHz only", CAN._replace(rates_hz=(48_000,)), "ok", "resampled to 16000 Hz", ""),
    ("odd rates only", CAN._replace(rates_hz=(), rate_range_hz=(5000, 7000)), "ok", "5000 to 7000 Hz", ""),
    ("one count of channels", CAN._replace(n_channels_range=(2, 2)), "ok", "2 channels", ""),
    ("one channel", CAN._replace(n_channels_range=(1, 1)), "ok", "1 channel", ""),
    ("strange formats only", CAN._replace(formats=()), "warn", "no format", "plughw:"),
    ("tiny buffer", CAN._replace(buffer_range_pcm_frames=(16, 128)), "warn", "S16_LE", "less than two hops"),
]


@pytest.mark.parametrize(("case", "can", "status", "found", "remedy"), DEVICES)
def test_a_device_is_judged(case, can, status, found, remedy) -> None:
    row = sound.judge("hw:0", CAPTURE, can)
    assert (row.check, row.status, bool(row.remedy)) == ("capture", status, status != "ok")
    assert found in row.found
    assert remedy in row.remedy


def test_engines_are_loaded_and_the_broken_told_from_the_absent(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken_wheel.py").write_text("raise ImportError('wrong ELF class')")
    (tmp_path / "good_wheel.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    known = {
        "a": (("no_such_wheel",), "`pip install a`"),
        "b": (("no_such_wheel", "broken_wheel"), "`pip install b`"),
        "c": (("good_wheel",), "`pip install c`"),
    }
    assert [row.status for row in model.engines(known)] == ["warn", "fail", "ok"]
    assert "wrong ELF class" in model.engines(known)[1].found
    *_, none = model.engines({"a": known["a"]})
    assert (none.status, none.remedy) == ("fail", "`pip install a`")


def test_a_good_model_has_a_row_for_its_files_and_for_every_engine() -> None:
    rows = list(model.model(toy().directory))
    assert [row.check for row in rows] == [
        "model files",
        *(f"golden vectors {engine} {precision}" for engine in ("onnx", "tflite") for precision in ("fp32", "int8")),
    ]
    assert {row.status for row in rows} == {"ok"}


def test_a_model_of_engines_that_are_not_here_is_never_silently_passed(monkeypatch) -> None:
    monkeypatch.setattr("edge_runtime.engines.golden.available", lambda: ["onnx"])
    rows = {row.check: row for row in model.model(toy().directory)}
    assert rows["golden vectors tflite int8"].status == "warn"
    assert ENGINES["tflite"].remedy() in rows["golden vectors tflite int8"].remedy


def test_wrong_numbers_fail(monkeypatch) -> None:
    monkeypatch.setattr("edge_runtime.engines.golden.snr_db", lambda *_arrays: 20.0)
    rows = list(model.model(toy().directory))[1:]
    assert [row.status for row in rows] == ["fail"] * 4
    assert all("on this processor (" in row.found and "another version" in row.remedy for row in rows)


def test_a_broken_check_and_a_failure_leave_the_others_running() -> None:
    def refuses() -> list[Row]:
        raise Failure("it is gone", remedy="plug it in")

    def breaks() -> list[Row]:
        raise ZeroDivisionError("x")

    rows = list(checks.examine([("a", refuses), ("b", breaks), ("c", lambda: [checks.ok("c", "fine")])]))
    assert [row.status for row in rows] == ["fail", "warn", "ok"]
    assert (rows[0].found, rows[0].remedy) == ("it is gone", "plug it in")
    assert "ZeroDivisionError" in rows[1].found


def test_the_report_has_a_line_a_row_and_the_worst_status() -> None:
    rows = [checks.ok("a", "1"), checks.warn("bb", "2", "do"), checks.ok("c", "3")]
    assert checks.report(rows).status == "warn"
    assert [" ".join(checks.line(row).split()) for row in rows] == ["ok a 1", "warn bb 2; do", "ok c 3"]
    assert len({checks.line(row).index(row.found) for row in rows}) == 1
    assert checks.total(rows) == "2 ok, 1 warn, 0 fail"


def test_the_command_exits_1_when_a_check_fails_and_prints_json(tmp_path: Path, capsys) -> None:
    broken = shutil.copytree(toy().directory, tmp_path / "model")
    (broken / "model.onnx").write_bytes(b"")
    assert main(["doctor", "--model", str(broken), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (row,) = [row for row in found["rows"] if row["check"] == "model"]
    assert row["status"] == found["status"] == "fail"
    assert "build it again" in row["remedy"]


def test_every_check_appears_in_the_report_for_people(capsys) -> None:
    main(["doctor"])
    printed = capsys.readouterr().out.splitlines()
    checks = "processor kernels governor temperature throttling load memory disk clock real-time locked sound libasound"
    assert {line.split()[1] for line in printed} >= {*checks.split(), "engine"}
