"""What a live stream is doing: numbers that the audio thread sets and every other thread may read at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from edge_runtime.live.control.controls import LOWEST_DBFS, Settings, mean_dbfs, plain
from edge_runtime.live.control.heard import Heard

N_RECENT: Final = 625  # hops whose times are kept: 10 s
Levels = tuple[tuple[float, float], ...]  # in, out: of each stream's hop that is heard now, as it came and as it goes
STARTING, RUNNING, OVERLOADED, WAITING, STOPPED = "starting", "running", "overloaded", "waiting", "stopped"


class Status:
    """Written by the audio thread alone, but for `wants_reset` and, through `change`, `settings`. What belongs together
    is one tuple, replaced whole: who reads two attributes may read of two moments."""

    def __init__(self, settings: Settings | None = None, model: str = "") -> None:
        self.settings = settings or Settings()
        self.wants_reset = False
        self._changing = threading.Lock()
        self.doing = (STARTING, "")  # the state, and the line that says what is missing or was, to the end
        self.stopped_by = 0  # the number of the signal that ended the stream
        self.capture = ""
        self.playback = ""
        self.model = model
        self.engine = ""
        self.band = ""  # "full" or "speech"
        self.budget_ms = 16.0
        self.heard = Heard()  # of the first stream
        self.input_gain_db = 0.0
        self.highpass_hz = 0.0  # 0: none
        self.n_hops = 0
        self.n_overruns = 0
        self.n_underruns = 0
        self.n_suspends = 0
        self.n_disconnects = 0
        self.n_stalls = 0
        self.n_resyncs = 0
        self.n_starts = 0  # that failed before sound was to be heard
        self.n_missed = 0
        self.n_overloads = 0
        self.n_repaired = 0
        self.levels_dbfs: Levels = ((LOWEST_DBFS, LOWEST_DBFS),)
        self.silent_channels: tuple[int, ...] = ()  # of those that are taken, from 1
        self.latency_ms = 0.0
        self.reported_ms = 0.0  # the latency by what the devices say
        self.chain_ms = 0.0  # the part of the latency that no device holds
        self.drift_ppm = 0.0
        self.drift_is_corrected = False
        self.margin_ms = 0.0  # that playback keeps, whatever was asked
        self.notes: dict[str, str] = {}  # what the person should know, by what it is about; replaced whole
        self.tee = ""
        self._frame_ns = np.zeros(N_RECENT, np.int64)
        self._n_frames = 0  # hops that were computed: at rest there is nothing to time

    @property
    def state(self) -> str:
        """What it does; with what it waits for: `doing`."""
        return self.doing[0]

    def change(self, how: Callable[[Settings], Settings]) -> None:
        """The settings, from any thread but the audio thread: two who change them at a time both have their way."""
        with self._changing:
            self.settings = how(self.settings)

    def silence(self) -> None:
        """Nothing is heard."""
        self.levels_dbfs = ((LOWEST_DBFS, LOWEST_DBFS),) * len(self.levels_dbfs)

    def note_frame(self, taken_ns: int) -> None:
        """How long all streams took for one hop."""
        self._frame_ns[self._n_frames % N_RECENT] = taken_ns
        self._n_frames += 1
        self.n_hops += 1

    def note(self, about: str, text: str) -> None:
        """What people should know; "" takes it back."""
        if self.notes.get(about, "") != text:
            self.notes = self.notes | {about: text}

    def frame_ms(self) -> tuple[float, float]:
        """p50 and p99 of the last 10 s of computed hops."""
        n = min(self._n_frames, N_RECENT)
        if n == 0:
            return 0.0, 0.0
        p50, p99 = np.percentile(self._frame_ns[:n], (50, 99)) / 1e6
        return float(p50), float(p99)

    def snapshot(self) -> dict[str, Any]:
        """All of it for people and for JSON: finite numbers, None for what is off."""
        p50_ms, p99_ms = self.frame_ms()
        streams, latency_ms = self.levels_dbfs, self.latency_ms
        level_in_dbfs, level_out_dbfs = (mean_dbfs(side) for side in zip(*streams, strict=True))
        return {
            **self.news(),
            "capture": self.capture,
            "playback": self.playback,
            "model": self.model,
            "engine": self.engine,
            "band": self.band or None,
            "seconds": round(self.n_hops * self.budget_ms / 1000, 3),
            "level_in_dbfs": round(level_in_dbfs, 1),
            "level_out_dbfs": round(level_out_dbfs, 1),
            "reduction_db": round(level_in_dbfs - level_out_dbfs, 1),
            "streams": [
                {"level_in_dbfs": round(level_in, 1), "level_out_dbfs": round(level_out, 1)}
                for level_in, level_out in streams
            ],
            "input_gain_db": round(self.input_gain_db, 1),
            "highpass_hz": self.highpass_hz or None,
            "silent_channels": list(self.silent_channels),
            "frame_ms": {"p50": round(p50_ms, 3), "p99": round(p99_ms, 3), "budget": self.budget_ms},
            "latency_ms": round(latency_ms, 2) if latency_ms else None,  # not known yet
            "reported_latency_ms": round(self.reported_ms, 2),
            "chain_ms": round(self.chain_ms, 2),
            "drift_ppm": round(self.drift_ppm, 1),
            "drift_is_corrected": self.drift_is_corrected,
            "margin_ms": round(self.margin_ms, 2),
        }

    def news(self) -> dict[str, Any]:
        """The part of it that is worth a line at once; cheap."""
        state, waiting_for = self.doing
        return {
            "state": state,
            "waiting_for": waiting_for or None,
            "settings": plain(self.settings),
            "notes": [note for note in self.notes.values() if note],
            "tee": self.tee or None,
            "xruns": {"capture": self.n_overruns, "playback": self.n_underruns},
            "suspends": self.n_suspends,
            "disconnects": self.n_disconnects,
            "stalls": self.n_stalls,
            "resyncs": self.n_resyncs,
            "failed_starts": self.n_starts,
            "missed_deadlines": self.n_missed,
            "overloads": self.n_overloads,
            "repaired_samples": self.n_repaired,
        }
