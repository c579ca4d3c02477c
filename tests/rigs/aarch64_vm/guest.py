"""Runs inside the emulated machine, as root, under systemd: does what plan.json asks, prints one line of JSON.

hw:0,0,N <-> hw:0,1,N is a cable of snd-aloop, N from 0 to 7. A feeder plays into cable 0, the denoiser hears its other
end and plays into cable 1, whose other end a recorder hears:

    aplay noisy.wav -> hw:0,0,0 = hw:0,1,0 -> edge-denoise live -> hw:0,0,1 = hw:0,1,1 -> arecord heard.wav
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).parent
MODULES = ("soundcore", "snd", "snd-timer", "snd-pcm", "snd-aloop")
RATE_HZ = 16_000
BUFFER = ["--period-size=256", "--buffer-size=8192"]
PLAY = ["aplay", "-q", "-D", "hw:0,0,0", *BUFFER]
RECORD = ["arecord", "-q", "-D", "hw:0,1,1", *BUFFER, "-t", "wav", "-f", "S16_LE", "-r", str(RATE_HZ), "-c", "1"]
MODEL = "/opt/model"
ENDS = ["--capture", "hw:0,1,0", "--playback", "hw:0,0,1", "--model", MODEL]
UNIT = "edge-denoise"
HEARD_RMS = 1e-4  # -80 dBFS: the denoised noise of the test sound lies above, digital silence below


def say(text: str) -> None:
    """A line on the console, for whoever watches."""
    print(f"{time.monotonic():.1f} {text}", flush=True)


def called(*command: str, limit_s: float = 300) -> dict:
    """A program's end: status, the JSON or text it printed, its last line of complaint."""
    say(" ".join(command))
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    try:
        printed = json.loads(done.stdout)
    except ValueError:
        printed = done.stdout
    say(f"status {done.returncode} {done.stderr.strip()[-500:]}")
    return {"status": done.returncode, "printed": printed, "complaint": done.stderr.strip()[-500:]}


def load_card() -> dict:
    for name in MODULES:
        subprocess.run(["insmod", f"/opt/modules/{name}.ko"], check=True)
    subprocess.run(["udevadm", "settle", "--timeout=10"])
    for device in Path("/dev/snd").iterdir():  # in case no rule of udev did
        os.chown(device, 0, 29)
    return {"cards": Path("/proc/asound/cards").read_text(), "uptime_s": time.monotonic()}


def tools() -> dict:
    """The commands that look at a machine, on a real card."""
    return {
        "devices": called("edge-denoise", "devices", "--json"),
        "doctor": called("edge-denoise", "doctor", "--model", MODEL, *ENDS[:4], "--json"),
        "latency": called(
            "edge-denoise", "latency", "--capture", "hw:0,1,3", "--playback", "hw:0,0,3", "--rate", "16000", "--json"
        ),
    }


def plugged(heard: Path) -> list[subprocess.Popen]:
    """The cables' other ends: who is heard through `heard`, and who feeds noisy.wav."""
    return [subprocess.Popen([*RECORD, str(heard)]), subprocess.Popen([*PLAY, str(HERE / "noisy.wav")])]


def ended(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.wait()


def live(seconds: float) -> dict:
    """`edge-denoise live` between two cables: what it captured against what was fed, and what the recorder heard
    against what `edge-denoise file` makes of what was captured."""
    heard, raw, wanted = (Path("/tmp") / name for name in ("heard.wav", "tee-raw.wav", "wanted.wav"))
    ends = plugged(heard)
    time.sleep(0.5)
    done = called(
        "edge-denoise",
        "live",
        *ENDS,
        "--engine",
        "native",
        "--seconds",
        str(seconds),
        "--tee",
        "/tmp/tee",
        "--json",
        limit_s=seconds + 180,
    )
    ended(ends)
    if isinstance(done["printed"], str) and done["printed"]:  # a line a second; the last is the sum
        done["printed"] = json.loads(done["printed"].splitlines()[-1])
    called("edge-denoise", "file", str(raw), str(wanted), "--model", MODEL, "--engine", "native")
    return {"live": done, "captured": compare(raw, HERE / "noisy.wav"), "sound": compare(heard, wanted, n_owed=4 * 256)}


class Running:
    """`edge-denoise live --json` in the background, with a feeder and a recorder at the cables' other ends."""

    def __init__(self, name: str, *options: str) -> None:
        self._log, self.heard, self._name = Path(f"/tmp/{name}.jsonl"), Path(f"/tmp/{name}-heard.wav"), name
        self.ends = plugged(self.heard)
        program = ["edge-denoise", "live", *ENDS, "--engine", "native", "--json", *options]
        with self._log.open("wb") as out, Path(f"/tmp/{name}.err").open("wb") as err:
            self._live = subprocess.Popen(program, stdout=out, stderr=err)

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]

    def until(self, holds, limit_s: float) -> float | None:
        """Seconds until a status `holds`, or None."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + limit_s:
            rows = self.rows()
            if rows and holds(rows[-1]):
                return time.monotonic() - began_s
            time.sleep(0.1)
        return None

    def finish(self) -> dict:
        """Its last words."""
        self._live.send_signal(signal.SIGINT)
        status = self._live.wait(60)
        ended(self.ends)
        return {
            "status": status,
            "printed": (self.rows() or [None])[-1],
            "complaint": Path(f"/tmp/{self._name}.err").read_text().strip()[-500:],
        }


def unplug() -> dict:
    """The card's driver loses it and gets it back, as when a USB microphone is pulled out and put in again."""
    running = Running("unplug", "--wait")
    driver = Path("/sys/bus/platform/drivers/snd_aloop")
    ready_s = running.until(lambda row: row["seconds"] > 3, 60)
    say(f"unplugging after {ready_s} s")
    pull = subprocess.Popen(["sh", "-c", f"echo snd_aloop.0 > {driver}/unbind"])  # returns once nobody holds it
    noticed_s = running.until(lambda row: row["state"] == "waiting", 30)
    waiting = (running.rows() or [{}])[-1].get("waiting_for")
    for process in running.ends:  # they lost their card, too
        process.wait()
    pull.wait(30)
    time.sleep(3)
    n_before = running.rows()[-1]["seconds"]
    (driver / "bind").write_text("snd_aloop.0")
    subprocess.run(["udevadm", "settle", "--timeout=10"])
    running.ends = plugged(running.heard)
    again_s = running.until(lambda row: row["seconds"] > n_before + 2, 60)
    time.sleep(2)
    return {"noticed_s": noticed_s, "waiting_for": waiting, "again_s": again_s, "live": running.finish()}


def drift(seconds: float) -> dict:
    """The microphone's cable runs 0.1 % fast, by the card's own control."""
    control = "iface=PCM,name='PCM Rate Shift 100000',device={},subdevice=0"
    shifted = [called("amixer", "-c", "0", "cset", control.format(device), "100100") for device in (0, 1)]
    # With a shifted rate the card's timer, of 4 ms, wakes its reader a period late at times: periods must be short.
    running = Running("drift", "--seconds", str(seconds), "--period-ms", "4", "--periods", "16")
    running.until(lambda row: row["seconds"] >= seconds - 1, seconds + 60)
    time.sleep(3)
    return {"shifted": shifted, "live": running.finish()}


def compare(heard: Path, wanted: Path, n_owed: int = 0) -> dict:
    """Aligned by correlation; how far apart in steps of 16 bits, over what both hold but the last `n_owed` samples."""
    a, b = (32768 * soundfile.read(path, dtype="float64")[0] for path in (heard, wanted))
    b = b[: b.size - n_owed]
    n = 1 << (a.size + b.size).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(a, n) * np.conj(np.fft.rfft(b, n)), n)
    shift = int(correlation.argmax())
    shift -= n if shift > n // 2 else 0  # heard[i + shift] is wanted[i]
    start, end = max(0, -shift), min(b.size, a.size - shift)
    a, b = a[start + shift : end + shift], b[start:end]
    loud = np.flatnonzero(np.abs(b) > 32)
    first = loud[0] if loud.size else b.size
    a, b = a[first:], b[first:]  # from where there is sound
    if not a.size:
        return {"shift_samples": shift, "compared_s": 0.0}
    difference = np.abs(a - b)
    far = difference > 1
    return {
        "shift_samples": shift,
        "compared_s": a.size / RATE_HZ,
        "max_difference_lsb": float(difference.max()),
        "n_beyond_1_lsb": int(far.sum()),
        "last_beyond_1_lsb_s": float(np.flatnonzero(far)[-1] / RATE_HZ) if far.any() else None,
        "snr_db": float(10 * np.log10(np.sum(b**2) / max(np.sum(difference**2), 1e-9))),
    }


def properties(*names: str) -> dict:
    done = subprocess.run(["systemctl", "show", UNIT, f"--property={','.join(names)}"], capture_output=True, text=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def service(seconds: float) -> dict:
    """The unit under systemd: started, killed with -9, restarted, and sound goes on."""
    installed = called("edge-denoise", "install", "--service", *ENDS, "--yes")
    heard = Path("/tmp/service.wav")
    ends = plugged(heard)
    subprocess.run(["systemctl", "daemon-reload"])
    began_s = time.monotonic()
    started = called("systemctl", "start", UNIT, limit_s=120)
    ready_s = time.monotonic() - began_s
    time.sleep(seconds / 3)
    os.environ["XDG_RUNTIME_DIR"] = "/run/edge-denoise"
    kept = called("edge-denoise", "ctl", "set", "--strength", "0.75", "--json")
    before = properties("MainPID", "NRestarts", "ActiveState", "User", "CPUSchedulingPolicy", "StatusText")
    policy = called("chrt", "-a", "-p", before["MainPID"])
    killed_s = time.monotonic()
    os.kill(int(before["MainPID"]), signal.SIGKILL)
    while properties("ActiveState", "NRestarts") != {"ActiveState": "active", "NRestarts": "1"}:
        if time.monotonic() > killed_s + 90:
            break
        time.sleep(0.2)
    restarted_s = time.monotonic() - killed_s
    time.sleep(seconds * 2 / 3)
    after = properties("MainPID", "NRestarts", "ActiveState")
    status = called("edge-denoise", "ctl", "status", "--json")["printed"]
    kept["after"] = status["settings"] if isinstance(status, dict) else None
    called("systemctl", "restart", UNIT, limit_s=120)
    status = called("edge-denoise", "ctl", "status", "--json")["printed"]
    kept["after_restart"] = status["settings"] if isinstance(status, dict) else None
    stopped = called("systemctl", "stop", UNIT, limit_s=60)
    journal = called("journalctl", "-u", UNIT, "--no-pager", "-o", "cat", "-n", "30")["printed"]
    ended(ends)
    return {
        "installed": installed,
        "started": started,
        "ready_s": ready_s,
        "before": before,
        "policy": policy["printed"],
        "restarted_s": restarted_s,
        "after": after,
        "kept": kept,
        "stopped": stopped,
        "journal": journal,
        "sound": silences(heard),
    }


def silences(heard: Path) -> dict:
    """Tenths of a second with sound in them, and the longest gap between the first and the last."""
    samples = soundfile.read(heard, dtype="float32")[0]
    tenths = samples[: samples.size - samples.size % 1600].reshape(-1, 1600)
    loud = np.flatnonzero(np.sqrt(np.mean(tenths**2, axis=1)) > HEARD_RMS)
    gaps = np.diff(loud)
    return {
        "recorded_s": samples.size / RATE_HZ,
        "loud_s": loud.size / 10,
        "longest_gap_s": float(gaps.max() / 10) if gaps.size else None,
        "last_sound_before_end_s": float((len(tenths) - 1 - loud[-1]) / 10) if loud.size else None,
    }


def main() -> None:
    plan = json.loads((HERE / "plan.json").read_text())
    found: dict = {}
    try:
        found["card"] = load_card()
        if "tools" in plan["parts"]:
            found["tools"] = tools()
        if "live" in plan["parts"]:
            found["live"] = live(plan["seconds"])
        if "unplug" in plan["parts"]:
            found["unplug"] = unplug()
        if "drift" in plan["parts"]:
            found["drift"] = drift(plan["seconds"])
        if "service" in plan["parts"]:
            found["service"] = service(plan["seconds"])
    except Exception:
        found["broke"] = traceback.format_exc()
    print(f"RIG-RESULT {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
