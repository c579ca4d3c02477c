"""`edge-denoise live` in a private PipeWire graph: what it does in minutes of sound and under faults, as numbers.

    python tests/rigs/live_proof.py --model build/rpi4 exact --seconds 600      # the whole proof; 10 minutes
    python tests/rigs/live_proof.py --model build/rpi4 latency
    python tests/rigs/live_proof.py --model build/rpi4 faults

exact     speech-like noise through the graph: 0 xruns; what --tee recorded of the microphone is what was fed; what the
          speaker is given is what `edge-denoise file` makes of that recording, sample for sample
latency   bypassed noise, microphone and speaker recorded on one clock: the lag between them, a direct cable's
          subtracted, against the computed one and against 48 ms
faults    server killed, busy CPUs, a full disk under --tee, garbage on the socket, no such device

Everything runs on one CPU (--cpu), with real-time priority where permitted (root): other programs with such a priority
on the same CPU would be measured instead. Exit status 1 when a bound is broken. Needs what `pipewire.missing` names.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from pipewire import MICROPHONE, SPEAKER, Graph, end, missing

ROOT = Path(__file__).parents[2]
RATE_HZ = 16_000
LATENCY_LIMIT_MS = 48.0
PERIOD_MS = 16.0
CYCLE = 256  # samples
WITNESSES = ("heard", "heard-too")  # two recorders: what one lost of the speaker's sound is in the other
_MOST_LOST = 8


class Live:
    """A running `edge-denoise live --json` in the graph, and its last words."""

    def __init__(self, graph: Graph, model: Path, *options: str, preexec_fn=None) -> None:
        self.log = graph.folder / f"live-{time.monotonic_ns()}.jsonl"
        self.errors = self.log.with_suffix(".err")
        devices = ("--capture", MICROPHONE, "--playback", SPEAKER)
        program = (sys.executable, "-m", "edge_runtime.cli", "live", "--json", "--engine", "native")
        command = (*program, "--model", str(model), *devices, *options)
        with self.log.open("wb") as out, self.errors.open("wb") as err:
            environment = {**graph.environment, "PYTHONPATH": str(ROOT)}
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=err, preexec_fn=preexec_fn)
        graph.watch(self.process)

    @property
    def rows(self) -> list[dict]:
        """Statuses so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def until(self, holds, timeout_s: float = 40.0) -> dict:
        """The first latest status for which `holds`."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if (rows := self.rows) and holds(rows[-1]):
                return rows[-1]
            time.sleep(0.1)
        raise RuntimeError(f"not within {timeout_s} s; last: {self.rows[-1:]} {self.errors.read_text()}")

    def finish(self) -> dict:
        """Let it end, or make it; its last status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(20)
        if status != 0:
            raise RuntimeError(f"exit status {status}: {self.errors.read_text()}")
        return self.rows[-1]


def speech_like(n_samples: int) -> np.ndarray:
    """Seeded noise whose level and colour wander: no two hops alike, every level that matters."""
    rng = np.random.default_rng(20261125)
    noise = rng.normal(0, 1, n_samples)
    noise = np.convolve(noise, np.hanning(8) / 4, "same")
    knots = np.arange(0, n_samples + 8000, 8000)
    level_db = np.interp(np.arange(n_samples), knots, rng.uniform(-55, -15, len(knots)))
    return (noise * 10 ** (level_db / 20)).astype(np.float32)


def offset_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Where `part` begins in `whole`, by correlation."""
    size = 1 << int(np.ceil(np.log2(len(whole) + len(part))))
    found = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    at = int(np.argmax(found))
    return at if at < len(whole) else at - size


def exact(model: Path, folder: Path, seconds: float) -> dict:
    """The long proof."""
    fed = speech_like(round((seconds + 12) * RATE_HZ))
    soundfile.write(folder / "fed.wav", fed, RATE_HZ, "FLOAT")
    with Graph(folder) as graph:
        recorders = [graph.record(folder / f"{name}.wav", name) for name in WITNESSES]
        feeder = graph.play(folder / "fed.wav")
        time.sleep(1)
        live = Live(graph, model, "--seconds", str(seconds), "--tee", str(folder / "tee"))
        live.process.wait(seconds + 30)
        last = live.finish()
        for recorder in recorders:
            end(recorder, signal.SIGINT)
        end(feeder)
    raw, _ = soundfile.read(folder / "tee-raw.wav", dtype="float32")
    command = ("file", folder / "tee-raw.wav", folder / "file.wav", "--model", model, "--engine", "native", "--force")
    subprocess.run(
        [sys.executable, "-m", "edge_runtime.cli", *map(str, command)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    expected, _ = soundfile.read(folder / "file.wav", dtype="float32")
    expected = expected[: len(raw) - 4 * 256]  # the rest is owed, or still queued, when the stream ends
    middle = slice(len(expected) // 4, len(expected) // 4 + 20 * RATE_HZ)  # the denoiser leaves little to correlate
    at_fed = offset_of(raw[middle], fed) - middle.start
    equal = np.zeros(len(expected), bool)
    lost = {}
    for name in WITNESSES:
        heard, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
        found, lost[name] = equal_samples(expected, heard, offset_of(expected[middle], heard) - middle.start)
        equal |= found
    differing = np.flatnonzero(~equal)
    return {
        "seconds": last["seconds"],
        "engine": last["engine"],
        "xruns": sum(last["xruns"].values()),
        "drift_is_corrected": last["drift_is_corrected"],
        "captured_is_fed": bool(np.array_equal(raw, fed[at_fed : at_fed + len(raw)])),
        "n_compared": len(expected),
        "n_differing": int(differing.size),
        "first_differing": int(differing[0]) if differing.size else None,
        "cycles_lost_by_a_recorder": lost,
        "latency_ms": last["latency_ms"],
        "frame_ms": last["frame_ms"],
        "ok": sum(last["xruns"].values()) == 0 and differing.size == 0 and len(expected) > 0,
    }


def equal_samples(expected: np.ndarray, heard: np.ndarray, offset: int) -> tuple[np.ndarray, int]:
    """Which samples of `expected` are in `heard`, and how many cycles `heard` has lost between them.

    `heard[i + offset]` is `expected[i]` somewhere. A recorder that is late by a cycle has lost it, and has
    everything after it so much earlier. Only runs of some cycles count, so that no sample is found by chance.
    """
    equal, shifts = np.zeros(len(expected), bool), []
    for shift in range(_MOST_LOST, -_MOST_LOST - 1, -1):
        at = offset + shift * CYCLE
        first, end_ = max(0, -at), min(len(expected), len(heard) - at)
        same = np.zeros(len(expected) + 2, np.int8)
        if end_ > first:
            same[first + 1 : end_ + 1] = heard[first + at : end_ + at] == expected[first:end_]
        edges = np.flatnonzero(np.diff(same)).reshape(-1, 2)
        for start, stop in edges[edges[:, 1] - edges[:, 0] >= 4 * CYCLE]:
            equal[start:stop] = True
            shifts.append(shift)
    return equal, max(shifts, default=0) - min(shifts, default=0)


def latency(model: Path, folder: Path, margins_ms: tuple[float, ...]) -> dict:
    """Measured and computed, for each margin; a direct cable first."""
    soundfile.write(folder / "fed.wav", speech_like(600 * RATE_HZ), RATE_HZ, "FLOAT")
    rows = []
    with Graph(folder) as graph:
        graph.play(folder / "fed.wav")
        graph.link("fakemic:capture_", "fakespk:playback_")
        cable_ms = measured_ms(graph, lambda: time.sleep(4))
        graph.run("pw-link", "-d", "fakemic:capture_MONO", "fakespk:playback_MONO")
        for margin_ms in margins_ms:
            last: dict = {}

            def run(margin_ms: float = margin_ms, last: dict = last) -> None:
                live = Live(graph, model, "--bypass", "--seconds", "5", "--margin-ms", str(margin_ms))
                live.process.wait(30)
                last.update(live.finish())

            total_ms = measured_ms(graph, run) - cable_ms
            computed_ms, n_xruns = last["latency_ms"], sum(last["xruns"].values())
            ok = total_ms <= LATENCY_LIMIT_MS and abs(computed_ms - total_ms) <= PERIOD_MS
            rows.append(
                {
                    "margin_ms": margin_ms,
                    "measured_ms": total_ms,
                    "computed_ms": computed_ms,
                    "reported_ms": last["reported_latency_ms"],
                    "xruns": n_xruns,
                    "ok": ok,
                }
            )
    return {"cable_ms": cable_ms, "rows": rows, "ok": all(row["ok"] for row in rows)}


def measured_ms(graph: Graph, run) -> float:
    """Lag from microphone to speaker while `run` runs, both recorded by one client; the loudest second counts."""
    path = graph.folder / "both.wav"
    recorder = graph.record_both(path)
    run()
    end(recorder, signal.SIGINT)
    both, _ = soundfile.read(path, dtype="float32")
    middle = len(both) // 2
    return 1000 / RATE_HZ * offset_of(both[middle - RATE_HZ : middle, 0], both[middle - RATE_HZ :, 1])


def faults(model: Path, folder: Path) -> dict:
    """Each a row: what was done, what happened, whether that is well."""
    soundfile.write(folder / "fed.wav", speech_like(600 * RATE_HZ), RATE_HZ, "FLOAT")
    rows: list[dict] = []
    with Graph(folder) as graph:
        feeder = graph.play(folder / "fed.wav")
        for fault in (server_killed, busy_cpus, full_disk, socket_garbage, no_such_device):
            try:
                ok, what = fault(graph, model)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                ok, what = False, str(error)
            graph.end_watched()
            rows.append({"fault": fault.__name__.replace("_", " "), "what_happened": what, "ok": ok})
            print(f"{'ok  ' if ok else 'FAIL'} {rows[-1]['fault']}: {what}", file=sys.stderr)
            if fault is server_killed:  # the feeder lost what it was linked to
                end(feeder)
                feeder = graph.play(folder / "fed.wav")
    return {"rows": rows, "ok": all(row["ok"] for row in rows)}


def is_heard(row: dict) -> bool:
    """Sound flows again."""
    return row["state"] == "running" and row["waiting_for"] is None


def server_killed(graph: Graph, model: Path) -> tuple[bool, str]:
    live = Live(graph, model)
    live.until(lambda row: row["seconds"] > 2)
    graph.kill_server()
    waiting = live.until(lambda row: row["state"] == "waiting")
    graph.start()
    began_s = time.monotonic()
    n_before = waiting["seconds"]
    live.until(lambda row: is_heard(row) and row["seconds"] > n_before + 1)
    resumed_s = time.monotonic() - began_s
    last = live.finish()
    n_gone = last["disconnects"] + last["stalls"]
    return n_gone >= 1, f"waited ({waiting['waiting_for']}); sound {resumed_s:.1f} s after the server's return"


def busy_cpus(graph: Graph, model: Path) -> tuple[bool, str]:
    hogs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True, preexec_fn=be_ordinary)
        for _ in range(4)
    ]
    try:
        live = Live(graph, model, "--seconds", "10")
        live.process.wait(40)
        last = live.finish()
    finally:
        for hog in hogs:
            end(hog)
    n_xruns = sum(last["xruns"].values())
    frame = last["frame_ms"]
    what = f"{n_xruns} xruns, {last['overloads']} rests in 10 s, 4 busy programs; frame p99 {frame['p99']} ms"
    return n_xruns == 0, what


def be_ordinary() -> None:
    """What a user's program is."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def full_disk(graph: Graph, model: Path) -> tuple[bool, str]:
    def no_more_than_200_kilobytes() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    prefix = graph.folder / "full"
    live = Live(graph, model, "--seconds", "8", "--tee", str(prefix), preexec_fn=no_more_than_200_kilobytes)
    live.process.wait(40)
    last = live.finish()
    ok = "recording stopped" in (last["tee"] or "") and sum(last["xruns"].values()) == 0 and last["seconds"] >= 8
    return ok, f"{last['tee']}; sound went on to {last['seconds']:.0f} s, {sum(last['xruns'].values())} xruns"


GARBAGE = (
    b"\n", b"hello\n", b"{}\n", b'{"command": "explode"}\n', b'{"command": "set", "strength": 7}\n',
    b'{"command": "set", "strength": "1"}\n', b'{"command": "set", "limit_db": NaN}\n', b"[" * 4000 + b"\n",
    b"\xff\xfe\x00\n", b"x" * 100_000, bytes(range(256)) * 10 + b"\n",
)  # fmt: skip


def socket_garbage(graph: Graph, model: Path) -> tuple[bool, str]:
    live = Live(graph, model, "--seconds", "8")
    live.until(lambda row: row["seconds"] > 2)
    path = Path(graph.environment["XDG_RUNTIME_DIR"]) / "edge-denoise.sock"
    n_refused = 0
    for _ in range(20):
        for message in GARBAGE:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                try:
                    client.sendall(message)
                    n_refused += b'"ok": false' in client.recv(1 << 16)
                except OSError:  # it may close while the rest of an endless message is sent
                    n_refused += 1
    mode = path.stat().st_mode & 0o777
    live.process.wait(40)
    last = live.finish()
    settings = last["settings"]
    n_sent = 20 * len(GARBAGE)
    ok = n_refused == n_sent and sum(last["xruns"].values()) == 0 and settings["strength"] == 1 and mode == 0o600
    return ok, f"{n_refused} of {n_sent} refused, {sum(last['xruns'].values())} xruns, settings kept, mode {mode:o}"


def no_such_device(graph: Graph, model: Path) -> tuple[bool, str]:
    live = Live(graph, model, "--capture", "nonesuch")
    status = live.process.wait(20)
    line = live.errors.read_text().splitlines()[-1]
    return status == 1 and line.startswith("edge-denoise: error: nonesuch"), line


def main() -> int:
    parser = argparse.ArgumentParser(description="edge-denoise live, proven in a PipeWire graph")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, help="a new folder for everything that was recorded")
    parser.add_argument("proof", choices=("exact", "latency", "faults"))
    parser.add_argument("--seconds", type=float, default=30.0, help="of exact; default: 30")
    args = parser.parse_args()
    if absent := missing():
        print(f"live_proof: not installed: {absent}", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {args.cpu})
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a recorder that waits for a disk loses cycles
    folder = args.keep or Path(tempfile.mkdtemp(prefix="live-proof-", dir=memory))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model = args.model.resolve()
        result = (
            exact(model, folder, args.seconds)
            if args.proof == "exact"
            else latency(model, folder, (12.0, 6.0))
            if args.proof == "latency"
            else faults(model, folder)
        )
    finally:
        if args.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=2))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
