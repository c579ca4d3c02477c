"""The plugin in hosts that people use, set up by `edge-denoise install`: each gives the file path's sound.

sox and applyplugin hold 16 bits to 32; ALSA is a real `type ladspa` PCM; PipeWire (marked audio) a real filter chain.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from ladspa_host import Plugin, processed
from native_artifact import write_native
from rigs import pipewire
from rigs.pipewire import Graph, end

from edge_runtime.cli import main
from edge_runtime.install import virtual_mic
from edge_runtime.stft import Float32Array
from quant.emit.native.emitter import emit_native
from quant.ptq.quantize import Quantized

pytestmark = pytest.mark.skipif(
    find_spec("edge_runtime.native.ladspa_edge_denoise") is None, reason="the plugin is not compiled here"
)
LATENCY_16K, LATENCY_48K = 512, 1872
N_SILENT = 200  # hops that a sound server may run before sound comes
N_TAKES, LOSSES = 4, {"lost before the plugin", "lost at the plugin"}


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def home(quantized: Quantized, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hosts")
    model = write_native(folder / "model", emit_native(quantized.graph, quantized.plan).data)
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
    subprocess.run([*command, "edge_denoise", "edge_denoise", "1", "100", "0", "1"], check=True, env=ladspa_path(home))
    out, wanted = read(files / "out.wav"), read(files / "ref.wav")
    n = wanted.size - LATENCY_16K
    np.testing.assert_allclose(out[latency : latency + n], wanted[:n], atol=2**-24)  # sox computes in 32 bits


@needs("applyplugin")
def test_applyplugin(home: Path, files: Path) -> None:
    soundfile.write(files / "in16.wav", read(files / "in.wav"), 16000, subtype="PCM_16")
    file = ["file", str(files / "in16.wav"), str(files / "ref16.wav"), "--model", str(files / "model"), "--force"]
    assert main(file) == 0
    plugin = ["edge_denoise.so", "edge_denoise", "1", "100", "0", "1"]
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
    configuration = f"/usr/share/alsa/alsa.conf:{card}:{home}/.asoundrc"
    environment = os.environ | {"ALSA_CONFIG_PATH": configuration}
    subprocess.run(["aplay", "-q", "-D", "edge_denoise", files / "in.wav"], check=True, env=environment, timeout=60)
    out, wanted = np.fromfile(raw, np.float32), read(files / "ref.wav")
    n = wanted.size - LATENCY_16K
    np.testing.assert_array_equal(out[LATENCY_16K : LATENCY_16K + n], wanted[:n])


HOMES = ["a b", "a: b", "it's", 'say "x"', "50%", "$HOME", "back\\slash", "<x>", "müller", "a{b}#c"]
RATES_HZ = (8000, 11025, 16000, 44100, 48000)


@needs("arecord")
@pytest.mark.parametrize("name", HOMES)
def test_alsa_loads_it_in_a_home_of_any_name_at_any_rate(home: Path, tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name
    theirs.mkdir()
    model = home.parent / "model"
    options = ["--model", str(model), "--root", str(theirs), "--alsa-source", "null", "--yes"]
    assert main(["install", "--virtual-mic", *options]) == 0
    for rate_hz in RATES_HZ if name == HOMES[1] else RATES_HZ[:1]:
        command = ["arecord", "-q", "-D", "edge_denoise", "-f", "S16_LE", "-r", str(rate_hz), "-d", "1", "-t", "raw"]
        done = subprocess.run(command, env={**os.environ, "HOME": str(theirs)}, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) >= 2 * rate_hz


# --- PipeWire -----------------------------------------------------------------------------------------------------


def record_both(home: Path, folder: Path, sound: Path, rate_hz: int, quantum: int) -> Float32Array:
    """(n, 2): what the microphone gives and, in the same cycles, what the virtual one does."""
    take = folder / "both.wav"
    with Graph(folder, rate_hz, quantum, config=home / ".config") as graph:
        recorder = graph.record_both(take, right="edge_denoise:capture_")
        graph.play(sound).wait(60)
        time.sleep(0.3)
        end(recorder)
    return read(take)


def largest_correlation(a: Float32Array, b: Float32Array) -> int:
    """By how many samples `a` lags behind `b`."""
    n_fft = 1 << int(np.ceil(np.log2(a.size + b.size)))
    correlation = np.fft.irfft(np.fft.rfft(a, n_fft) * np.conj(np.fft.rfft(b, n_fft)))
    lag = int(np.argmax(correlation))
    return lag - n_fft if lag > n_fft // 2 else lag


def is_contiguous(noisy: Float32Array, played: Float32Array) -> bool:
    """Whether it is a stretch of what was played; the player's link may have come late."""
    start = max(0, largest_correlation(played[: 2 * noisy.size], noisy))
    return np.array_equal(played[start : start + noisy.size], noisy)


def n_equal_hops(plugin: Plugin, noisy: Float32Array, virtual: Float32Array, n_before: int) -> int:
    """The first hops that are the plugin's, after a count of silent ones that is not known: the states tell it."""

    def n_equal(n_silent: int) -> int:
        plugin.activate()
        plugin.run(np.zeros(256 * n_silent, np.float32))
        differs = (plugin.run(noisy) != virtual).reshape(-1, 256).any(axis=1)
        return int(np.argmax(differs)) if differs.any() else differs.size

    return max(n_equal(n_silent) for n_silent in range(n_before + N_SILENT))


def judged(plugin: Plugin, both: Float32Array, played: Float32Array, rate_hz: int, quantum: int) -> str:
    """What became of the first half second: "whole", one of LOSSES, or what is wrong."""
    noisy, virtual = np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])
    begin = int(np.argmax(noisy != 0))
    heard = slice(begin, begin + rate_hz // 2)
    if noisy[heard].size < rate_hz // 2 or not is_contiguous(noisy[heard], played):
        return "lost before the plugin"
    if np.abs(virtual[heard]).max() < 0.01:
        return "silent"
    lag = largest_correlation(virtual[heard], processed(plugin, noisy, [quantum])[heard])
    if lag != 0:  # the port's latency is not the graph's; or a cycle was lost early on
        return f"{lag} samples late"
    if rate_hz != 16000:  # cycles are no hops
        return "whole"
    first = begin - begin % 256
    hops = slice(first, first + 31 * 256)
    n_equal = n_equal_hops(plugin, noisy[hops], virtual[hops], first // 256)
    n_silent = int(np.argmax(virtual[hops] != 0)) // 256
    if n_equal <= n_silent:
        return "other samples after any count of silent hops"
    return "whole" if n_equal == 31 else "lost at the plugin"


@pytest.mark.audio
@pytest.mark.skipif(pipewire.missing() is not None, reason=f"not installed: {pipewire.missing()}")
@pytest.mark.parametrize(("rate_hz", "quantum"), [(16000, 256), (48000, 1024)])
def test_pipewire(home: Path, files: Path, rate_hz: int, quantum: int) -> None:
    """Half a second of the virtual microphone. A busy machine loses cycles of sound: then another take."""
    sound = files / "pipewire.wav"
    soundfile.write(sound, soxr.resample(read(files / "in.wav"), 16000, rate_hz), rate_hz, subtype="FLOAT")
    plugin = Plugin(home / ".local/lib/ladspa/edge_denoise.so", rate_hz)
    takes: list[str] = []
    while len(takes) < N_TAKES:
        both = record_both(home, files / f"pipewire-{rate_hz}-{len(takes)}", sound, rate_hz, quantum)
        takes.append(judged(plugin, both, read(sound), rate_hz, quantum))
        if takes[-1] == "whole":
            return
    assert set(takes) <= LOSSES, takes
    pytest.skip(f"this machine is too busy: {takes}")


@pytest.mark.audio
@pytest.mark.skipif(pipewire.missing() is not None, reason=f"not installed: {pipewire.missing()}")
def test_pipewire_loads_it_by_its_name_and_moves_its_controls(home: Path, tmp_path: Path) -> None:
    """As Debian's package has it, and as the panel says that the virtual microphone is steered."""
    drop_ins = tmp_path / "config/pipewire/pipewire.conf.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "60-edge-denoise.conf").write_text(virtual_mic.filter_chain("x", "edge_denoise", "fakemic"))
    graph = Graph(tmp_path / "graph", config=tmp_path / "config")
    graph.environment["LADSPA_PATH"] = str(home / ".local/lib/ladspa")
    words = shlex.split(virtual_mic.STEERED.strip("`"))
    with graph:
        assert any(port.startswith("edge_denoise:capture_") for port in graph.ports("-o"))
        assert strength(graph) == 1.0
        assert graph.run(*words).returncode == 0
        assert strength(graph) == 0.5


def strength(graph: Graph) -> float:
    (node,) = json.loads(graph.run("pw-dump", "edge_denoise.capture").stdout)
    (values,) = (set_["params"] for set_ in node["info"]["params"]["Props"] if "denoiser:Strength" in set_["params"])
    return values[values.index("denoiser:Strength") + 1]
