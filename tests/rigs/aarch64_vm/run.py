"""The proof on a real `hw:` device: boots the emulated machine of vm.py, says what was found, exits 1 if it fell short.

    python tests/rigs/aarch64_vm/run.py --model build/rpi4 --folder /var/tmp/vm --parts tools,live,service --seconds 60

tools      devices, doctor and latency on the card
live       `edge-denoise live`, native engine, for --seconds: no xrun, and the sound of the file path
unplug     the card is taken from its driver and given back: `live` waits, and resumes
drift      the microphone's cable runs 0.1 % fast
service    the unit of `edge-denoise install --service` under systemd: kill -9, restarted, sound goes on, set as before
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parent))

import vm

from edge_runtime.errors import Failure

# The parts, and what each may take beside its --seconds: many times what it needs on an idle machine.
LIMITS_S: Final = {"tools": 400.0, "live": 300.0, "unplug": 300.0, "drift": 300.0, "service": 400.0}
LEAD_IN_S: Final = 30  # silence at the start, while the denoiser starts: emulated, Python takes that long
RATE_HZ: Final = 16_000
MIN_COMPARED_S: Final = 5.0
MAX_DIFFERENCE_LSB: Final = 1.0  # the card plays 16 bits: half a step of rounding
MAX_GAP_S: Final = 20.0  # of sound, around a kill: what a restart takes, emulated

Verdict = tuple[str, bool, str]


def sounds(folder: Path, seconds: float) -> list[Path]:
    """noisy.wav: silence, then speech in noise at 5 dB."""
    from calibration.corpus import Corpus
    from calibration.mixing import Mix, mixtures
    from quant.inputs import assets

    mix = Mix((5, 5), (-25, -25), 0, 0, n_clips=ceil(seconds / 10), clip_ms=10_000, warmup_ms=0, seed=1)
    clips = [clip.noisy for clip in mixtures(Corpus.open(assets.speech()), Corpus.open(assets.noise()), mix)]
    noisy = folder / "noisy.wav"
    soundfile.write(noisy, np.concatenate([np.zeros(LEAD_IN_S * RATE_HZ, np.float32), *clips]), RATE_HZ, "PCM_16")
    return [noisy]


def verdicts(found: dict[str, Any]) -> Iterator[Verdict]:
    """What must hold of each part that ran: its name, whether it does, and what was found."""
    if "broke" in found:
        yield "the guest ran to its end", False, found["broke"].strip().splitlines()[-1]
    for part, judge in JUDGES.items():
        if part in found:
            yield from judge(found[part])


def _judge_tools(found: dict[str, Any]) -> Iterator[Verdict]:
    listed = found["devices"]["printed"]
    names = {row["name"] for row in listed["devices"] if not row["problem"]} if isinstance(listed, dict) else set()
    yield "devices lists the card's hw: device", any(name.startswith("hw:") for name in names), f"{len(names)} devices"
    rows = found["doctor"]["printed"]["rows"]
    failed = [row["check"] for row in rows if row["status"] == "fail"]
    is_fit = found["doctor"]["status"] == 0 and not failed
    yield "doctor fails nothing", is_fit, ", ".join(failed) or f"{len(rows)} rows"
    golden = {row["check"]: row["found"] for row in rows if row["check"].startswith("golden vectors native")}
    exact = golden.get("golden vectors native int8", "missing")
    yield "native int8 reaches its golden vectors", exact.startswith("bit for bit"), exact
    trip = found["latency"]["printed"]
    heard = isinstance(trip, dict) and trip["spread_samples"] <= 64
    yield "latency finds the cable", heard, f"{trip}" if heard else found["latency"]["complaint"]


def _judge_live(found: dict[str, Any]) -> Iterator[Verdict]:
    live, sound = found["live"], found["sound"]
    yield "live ended well", live["status"] == 0, live["complaint"] or f"{live['printed']}"
    status = live["printed"] if isinstance(live["printed"], dict) else {"xruns": {}}
    yield "no xrun", status["xruns"] == {"capture": 0, "playback": 0}, f"{status['xruns']}"
    for what, about in (("captured what was fed", found["captured"]), ("played the sound of the file path", sound)):
        is_same = about["compared_s"] >= MIN_COMPARED_S and about["max_difference_lsb"] <= MAX_DIFFERENCE_LSB
        yield f"it {what}", is_same, f"{about}"


def _judge_service(found: dict[str, Any]) -> Iterator[Verdict]:
    before, after, sound = found["before"], found["after"], found["sound"]
    yield "the unit starts", before["ActiveState"] == "active", f"{found['started']['complaint']} {before}"
    restarted = after["NRestarts"] == "1" and after["ActiveState"] == "active" and after["MainPID"] != before["MainPID"]
    yield "it is restarted after kill -9", restarted, f"after {found['restarted_s']:.1f} s, {after}"
    goes_on = sound["longest_gap_s"] is not None and sound["longest_gap_s"] <= MAX_GAP_S
    yield "sound goes on", goes_on, f"{sound}"
    settings = found["kept"]["after"] or {}
    yield "it is set as it was", settings.get("strength") == 0.75, f"{settings}"
    settings = found["kept"]["after_restart"] or {}
    yield "the unit's options hold after a restart", settings.get("strength") == 1.0, f"{settings}"


def _judge_unplug(found: dict[str, Any]) -> Iterator[Verdict]:
    live = found["live"]
    yield "a card pulled out is waited for", found["noticed_s"] is not None, f"{found['waiting_for']}"
    yield "it resumes by itself", found["again_s"] is not None, f"2 s of sound {found['again_s']} s after its return"
    yield "it lives to its end", live["status"] == 0, live["complaint"] or f"{live['printed']}"


def _judge_drift(found: dict[str, Any]) -> Iterator[Verdict]:
    live = found["live"]
    status = live["printed"] or {"xruns": {}, "drift_ppm": 0.0}
    shifted = found["shifted"]
    yield "the clock is 0.1 % off", all(row["status"] == 0 for row in shifted), f"{[r['complaint'] for r in shifted]}"
    yield "no xrun with clocks apart", status["xruns"] == {"capture": 0, "playback": 0}, f"{status}"
    yield "the ratio is found", abs(abs(status["drift_ppm"]) - 1000) <= 100, f"{status['drift_ppm']} ppm"


JUDGES: Final[dict[str, Callable[[dict[str, Any]], Iterator[Verdict]]]] = {
    "tools": _judge_tools,
    "live": _judge_live,
    "service": _judge_service,
    "unplug": _judge_unplug,
    "drift": _judge_drift,
}


def run(folder: Path, model: Path, parts: list[str], seconds: float) -> tuple[dict[str, Any], list[Verdict]]:
    """Build what is missing, boot, judge. Failure: it cannot be built, or reports nothing."""
    vm.build(folder, model)
    files = sounds(folder, 2 * seconds + 60)
    work_s = sum(LIMITS_S[part] + seconds for part in parts)
    found = vm.boot(folder, {"parts": parts, "seconds": seconds}, files, work_s)
    return found, list(verdicts(found))


def main() -> int:
    parser = argparse.ArgumentParser(description="Live denoising between hw: devices of an emulated arm64 machine.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="made by `quant build`")
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="1 GB; kept for the next run")
    parser.add_argument("--parts", default="tools,live", help="default: tools,live; also unplug, drift, service")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each timed part, at least 40; default: 60")
    parser.add_argument("--json", action="store_true", help="print all that was found")
    args = parser.parse_args()
    parts = args.parts.split(",")
    if set(parts) - set(LIMITS_S):
        parser.error(f"--parts are of {', '.join(LIMITS_S)}")
    try:
        found, judged = run(args.folder.absolute(), args.model, parts, args.seconds)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(found, indent=2))
    for what, holds, about in judged:
        print(f"{'ok  ' if holds else 'FAIL'}  {what}: {about}", file=sys.stderr if args.json else sys.stdout)
    return 0 if all(holds for _, holds, _ in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
