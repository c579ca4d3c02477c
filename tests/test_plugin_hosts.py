"""The plugin in hosts that people use, set up by `edge-denoise install`: each gives the file path's sound.

sox and applyplugin hold 16 bits to 32; ALSA is a real `type ladspa` PCM; PipeWire (marked audio) a real filter chain.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from ladspa_host import Plugin, processed
from native_artifact import write_native

from edge_runtime.cli import main
from edge_runtime.stft import Float32Array
from quant import emit_native
from quant.ptq import Quantized

pytestmark = pytest.mark.skipif(
    find_spec("edge_runtime.native.ladspa_edge_denoise") is None, reason="the plugin is not compiled here"
)
LATENCY_16K, LATENCY_48K = 512, 1872
N_SILENT = 200  # hops that a sound server may run before sound comes


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def home(quantized: Quantized, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hosts")
    model = write_native(folder / "model", emit_native.emit(quantized.graph, quantized.plan).data)
    install = ["install", "--virtual-mic", "--model", str(model), "--root", str(folder / "home"), "--yes"]
    assert main([*install, "--source", "fakemic", "--alsa-source", "card"]) == 0
    return folder / "home"


@pytest.fixture(scope="module")
def files(home: Path, mixture: Float32Array) -> Path:
    """in.wav and what `edge-denoise file` makes of it, ref.wav."""
    folder = home.parent
    samples = np.rint(mixture[:48000] * 32768) / np.float32(32768)  # what hosts that count in integers keep exactly
    soundfile.write(folder / "in.wav", samples, 16000, subtype="FLOAT")
    file = ["file", str(folder / "in.wav"), str(folder / "ref.wav"), "--model", str(folder / "model")]
    assert main(file) == 0
    return folder


def read(path: Path) -> Float32Array:
    return soundfile.read(path, dtype="float32")[0]


def ladspa_path(home: Path) -> dict[str, str]:
    return os.environ | {"LADSPA_PATH": str(home / ".local/lib/ladspa")}


@needs("sox")
@pytest.mark.parametrize(("options", "latency"), [([], LATENCY_16K), (["-l"], 0)], ids=["plain", "compensated"])
def test_sox(home: Path, files: Path, options: list[str], latency: int) -> None:
    """`-l` reads the latency port and takes the delay off again."""
    command = ["sox", files / "in.wav", "-b", "32", "-e", "float", files / "out.wav", "ladspa", *options]
    subprocess.run([*command, "edge_denoise", "edge_denoise", "1", "100", "0"], check=True, env=ladspa_path(home))
    out, wanted = read(files / "out.wav"), read(files / "ref.wav")
    n = wanted.size - LATENCY_16K
    np.testing.assert_allclose(out[latency : latency + n], wanted[:n], atol=2**-24)  # sox computes in 32 bits


@needs("applyplugin")
def test_applyplugin(home: Path, files: Path) -> None:
    soundfile.write(files / "in16.wav", read(files / "in.wav"), 16000, subtype="PCM_16")
    file = ["file", str(files / "in16.wav"), str(files / "ref16.wav"), "--model", str(files / "model"), "--force"]
    assert main(file) == 0
    plugin = ["edge_denoise.so", "edge_denoise", "1", "100", "0"]
    command = ["applyplugin", files / "in16.wav", files / "out.wav", *plugin]
    subprocess.run(command, check=True, env=ladspa_path(home), stdout=subprocess.DEVNULL)
    out, wanted = read(files / "out.wav"), read(files / "ref16.wav")
    n = wanted.size - LATENCY_16K
    np.testing.assert_allclose(out[LATENCY_16K : LATENCY_16K + n], wanted[:n], atol=2 / 32768)  # two 16-bit roundings


@needs("aplay")
def test_alsa(home: Path, files: Path) -> None:
    """The installed PCM, its other end a file; snippets are read beside the system's configuration."""
    raw, card = files / "alsa.raw", files / "card.conf"
    card.write_text(f'pcm.card {{ type file slave.pcm "null" file "{raw}" format "raw" }}\n')
    configuration = f"/usr/share/alsa/alsa.conf:{card}:{home}/.config/edge-denoise/asound.conf"
    environment = os.environ | {"ALSA_CONFIG_PATH": configuration}
    subprocess.run(["aplay", "-q", "-D", "edge_denoise", files / "in.wav"], check=True, env=environment, timeout=60)
    out, wanted = np.fromfile(raw, np.float32), read(files / "ref.wav")
    n = wanted.size - LATENCY_16K
    np.testing.assert_array_equal(out[LATENCY_16K : LATENCY_16K + n], wanted[:n])


# --- PipeWire -----------------------------------------------------------------------------------------------------


def write_graph(home: Path, rate_hz: int, quantum: int) -> None:
    """The system's own pipewire.conf at this rate, with a microphone that we can feed; drop-ins are beside it."""
    text = Path("/usr/share/pipewire/pipewire.conf").read_text()
    for key, value in {
        "#default.clock.rate ": f"default.clock.rate = {rate_hz}",
        "#default.clock.allowed-rates ": f"default.clock.allowed-rates = [ {rate_hz} ]",
        "#default.clock.quantum ": f"default.clock.quantum = {quantum}",
        "#support.dbus ": "support.dbus = false",
    }.items():
        lines = [value if line.strip().startswith(key) else line for line in text.splitlines()]
        text = "\n".join(lines)
    text = text.replace("default.clock.min-quantum = 1024", "default.clock.min-quantum = 16")
    microphone = (
        "{ factory = adapter args = { factory.name = support.null-audio-sink node.name = fakemic "
        "media.class = Audio/Source/Virtual audio.position = [ MONO ] object.linger = true } }"
    )
    text = text.replace("\ncontext.objects = [", f"\ncontext.objects = [\n{microphone}", 1)
    (home / ".config/pipewire/pipewire.conf").write_text(text)


@contextmanager
def running(*command: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.send_signal(2)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def record_both(home: Path, sound: Path, rate_hz: int, quantum: int) -> Float32Array:
    """(n, 2): what the microphone gives and, in the same cycles, what the virtual one does."""
    folder = home.parent / f"pipewire-{rate_hz}"
    (folder / "run").mkdir(parents=True)
    write_graph(home, rate_hz, quantum)
    env = os.environ | {
        "XDG_RUNTIME_DIR": str(folder / "run"), "PIPEWIRE_RUNTIME_DIR": str(folder / "run"), "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"), "XDG_STATE_HOME": str(folder), "PIPEWIRE_REMOTE": "pipewire-0",
    }  # fmt: skip
    log, take = folder / "log", folder / "both.wav"

    def link(out: str, into: str) -> None:
        for _ in range(100):
            if subprocess.run(["pw-link", out, into], env=env, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"no link from {out} to {into}:\n{log.read_text()[-2000:]}")

    recorder = ["pw-record", "--target", "0", "--channels", "2", "--rate", str(rate_hz), "--format", "f32"]
    player = ["pw-cat", "-p", "--target", "0", str(sound), "-P", "{ node.name = feeder }"]
    with (
        running("pipewire", env=env, log=log),
        running("dbus-run-session", "--", "wireplumber", env=env, log=log),
        running(*recorder, "-P", "{ node.name = both }", str(take), env=env, log=log),
    ):
        link("fakemic:capture_MONO", "both:input_FL")
        link("edge_denoise:capture_MONO", "both:input_FR")
        with running(*player, env=env, log=log) as feeder:
            link("feeder:output_MONO", "fakemic:input_MONO")
            feeder.wait(60)
        time.sleep(0.3)
    return read(take)


def largest_correlation(a: Float32Array, b: Float32Array) -> int:
    """By how many samples `a` lags behind `b`."""
    n_fft = 1 << int(np.ceil(np.log2(a.size + b.size)))
    correlation = np.fft.irfft(np.fft.rfft(a, n_fft) * np.conj(np.fft.rfft(b, n_fft)))
    lag = int(np.argmax(correlation))
    return lag - n_fft if lag > n_fft // 2 else lag


@pytest.mark.audio
@needs("pipewire", "pw-record", "wireplumber", "dbus-run-session")
@pytest.mark.parametrize(("rate_hz", "quantum"), [(16000, 256), (48000, 1024)])
def test_pipewire(home: Path, files: Path, rate_hz: int, quantum: int) -> None:
    """A busy machine loses cycles; then both sides lose them, and only the first half second is compared sample for
    sample. How long it was silent before is not known, and the states of the network tell."""
    sound = files / "pipewire.wav"
    soundfile.write(sound, soxr.resample(read(files / "in.wav"), 16000, rate_hz), rate_hz, subtype="FLOAT")
    both = record_both(home, sound, rate_hz, quantum)
    noisy, virtual = np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])
    begin = int(np.flatnonzero(noisy)[0])
    end = begin + rate_hz // 2
    played = read(sound)
    start = max(0, largest_correlation(played[:rate_hz], noisy[begin:end]))  # the link may come late
    if not np.array_equal(played[start : start + rate_hz // 2], noisy[begin:end]):
        pytest.skip("this machine is too busy: cycles of sound were lost before the plugin")
    plugin = Plugin(home / ".local/lib/ladspa/edge_denoise.so", rate_hz)
    offline = processed(plugin, noisy, [quantum])
    assert np.abs(virtual[begin:end]).max() > 0.01
    assert largest_correlation(virtual[begin:end], offline[begin:end]) == 0  # so the port's latency is the graph's
    if rate_hz == 16000:  # cycles are hops: only the count of silent ones before is unknown
        first = begin - begin % 256
        for n_hops in range(first // 256 + N_SILENT):
            plugin.activate()
            plugin.run(np.zeros(256 * n_hops, np.float32))
            if np.array_equal(plugin.run(noisy[first:end]), virtual[first:end]):
                return
        pytest.fail("no count of silent hops before gives the same samples")
