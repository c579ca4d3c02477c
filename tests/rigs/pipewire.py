"""A private, headless PipeWire graph: a fake microphone and a fake speaker on one exact clock, no card, no session.

    with Graph(folder) as graph:
        feeder = graph.play("noisy.wav")                     # into the microphone
        live(..., capture=MICROPHONE, playback=SPEAKER, env=graph.environment)
        graph.record("heard.wav")                            # what the speaker is given

Needs Debian's pipewire, pipewire-bin, pipewire-alsa, wireplumber, dbus (dbus-run-session); pipewire-jack and
jack-example-tools for `jack_iodelay`. Everything lives in `folder`; processes are ended by their own ids.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

MICROPHONE, SPEAKER = "pipewire:NODE=fakemic", "pipewire:NODE=fakespk"
NEEDED = ("pipewire", "pw-cat", "pw-link", "pw-cli", "wireplumber", "dbus-run-session")
FIFO = ("chrt", "-f", "88")
CONFIG = Path("/usr/share/pipewire/pipewire.conf")
_NODE = """
  {{ factory = adapter args = {{ factory.name = support.null-audio-sink node.name = {name} media.class = {kind}
     audio.position = [ {position} ] object.linger = true }} }}"""


def missing() -> str | None:
    """What is not installed, or None."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    alsa_plugin = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pipewire.so"))
    return ", ".join(absent + ([] if alsa_plugin else ["pipewire-alsa"])) or None


def may(*prefix: str) -> bool:
    """Whether commands can be started with this prefix: root in a container is often denied real time."""
    return bool(shutil.which(prefix[0])) and not subprocess.run([*prefix, "true"], capture_output=True).returncode


class Graph:
    """Starts with `start` or `with`; a killed server can be started again."""

    def __init__(
        self, folder: Path, rate_hz: int = 16_000, quantum: int = 256, n_channels: int = 1, config: Path | None = None
    ) -> None:
        self.folder, self._rate_hz, self._quantum = folder, rate_hz, quantum
        self._config = config or folder / "config"  # pipewire.conf goes beside the drop-ins that are there
        self._position = "MONO" if n_channels == 1 else "FL FR"
        self._priority = FIFO if may(*FIFO) else ()  # as rtkit gives it on a desktop
        self._servers: list[subprocess.Popen[bytes]] = []
        self._clients: list[subprocess.Popen[bytes]] = []
        self._watched: list[subprocess.Popen[bytes]] = []
        run = folder / "run"
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        keep = {k: v for k, v in os.environ.items() if k not in ("ALSA_CONFIG_PATH", "PULSE_SERVER")}
        own = {"XDG_RUNTIME_DIR": run, "XDG_CONFIG_HOME": self._config, "XDG_STATE_HOME": folder / "state"}
        own |= {"HOME": folder, "PIPEWIRE_RUNTIME_DIR": run, "PIPEWIRE_REMOTE": "pipewire-0"}
        self.environment = keep | {name: str(path) for name, path in own.items()}
        self._write_config()

    def _write_config(self) -> None:
        text = CONFIG.read_text()
        for key, value in {
            "default.clock.rate": str(self._rate_hz),
            "default.clock.allowed-rates": f"[ {self._rate_hz} ]",
            "default.clock.quantum": str(self._quantum),
            "support.dbus": "false",
        }.items():
            text = re.sub(rf"#{re.escape(key)} +=.*", f"{key} = {value}", text, count=1)
        text = text.replace("default.clock.min-quantum = 1024", "default.clock.min-quantum = 16")  # virtual machines
        nodes = "".join(
            _NODE.format(name=name, kind=kind, position=self._position)
            for name, kind in (("fakemic", "Audio/Source/Virtual"), ("fakespk", "Audio/Sink"))
        )
        text = text.replace("context.objects = [", f"context.objects = [{nodes}", 1)
        config = self._config / "pipewire"
        config.mkdir(parents=True, exist_ok=True)
        (config / "pipewire.conf").write_text(text)

    def __enter__(self) -> Graph:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Server and session manager; returns when the graph answers."""
        self._servers = [self._spawn("pipewire", log="pipewire.log")]
        self._until(lambda: self.run("pw-cli", "info", "0").returncode == 0, "PipeWire does not answer")
        self._servers.append(self._spawn("dbus-run-session", "--", "wireplumber", log="wireplumber.log"))
        self._until(lambda: "fakespk:playback" in self.run("pw-link", "-i").stdout, "no fake speaker")
        time.sleep(1.5)  # the session manager links streams only once it has seen the nodes

    def stop(self) -> None:
        """All that was started here."""
        self.end_watched()
        for process in self._clients + self._servers[::-1]:
            end(process)
        self._clients, self._servers = [], []

    def kill_server(self) -> None:
        """As a crash would: clients are not told."""
        for process in self._servers[::-1]:
            end(process, signal.SIGKILL)
        self._servers = []

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """A sound file into the microphone, from now."""
        feeder = self._client("pw-cat", "-p", "--target", "0", str(path), "-P", "{ node.name = feeder }")
        self.link("feeder:output_", "fakemic:input_")
        return feeder

    def record(self, path: Path, name: str = "recorder") -> subprocess.Popen[bytes]:
        """What the speaker is given, as 32-bit float, until ended. A recorder that is late by a cycle loses it."""
        recorder = self._recorder(path, name, n_channels=1)
        self.link("fakespk:monitor_", f"{name}:input_")
        return recorder

    def record_both(self, path: Path, right: str = "fakespk:monitor_") -> subprocess.Popen[bytes]:
        """Microphone (left) and speaker or another output (right) on one clock, until ended."""
        recorder = self._recorder(path, "recorder", n_channels=2)
        self.link("fakemic:capture_", "recorder:input_FL")
        self.link(right, "recorder:input_FR")
        return recorder

    def _recorder(self, path: Path, name: str, n_channels: int) -> subprocess.Popen[bytes]:
        sound = ("--format", "f32", "--rate", str(self._rate_hz), "--channels", str(n_channels))
        return self._client("pw-cat", "-r", "--target", "0", *sound, str(path), "-P", f"{{ node.name = {name} }}")

    def link(self, source: str, sink: str) -> None:
        """Port by the start of its name to port, as soon as both are there."""

        def linked() -> bool:
            out = next((p for p in self.ports("-o") if p.startswith(source)), None)
            into = next((p for p in self.ports("-i") if p.startswith(sink)), None)
            return bool(out and into) and self.run("pw-link", str(out), str(into)).returncode == 0

        self._until(linked, f"{source} and {sink} cannot be linked")

    def ports(self, side: str) -> list[str]:
        """Names of all inputs (-i) or outputs (-o)."""
        return self.run("pw-link", side).stdout.split()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A short command in this graph."""
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False, timeout=60)

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """End it, if it still runs, with the graph or by `end_watched`."""
        self._watched.append(process)

    def end_watched(self) -> None:
        for process in self._watched:
            if process.poll() is None:
                process.kill()
                process.wait(5)
        self._watched = []

    def _client(self, *argv: str) -> subprocess.Popen[bytes]:
        self._clients.append(self._spawn(*argv, log="clients.log"))
        return self._clients[-1]

    def _spawn(self, *argv: str, log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as sink:
            return subprocess.Popen(
                (*self._priority, *argv),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def _until(self, holds, otherwise: str, timeout_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{otherwise}; see {self.folder}")
            time.sleep(0.05)


def end(process: subprocess.Popen, number: int = signal.SIGTERM) -> None:
    """End a process and those it started (its session is its own)."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
