"""The LADSPA plugin: it is the file path a stated latency later, whatever the host's blocks and rate."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soxr
from c_programs import FLAGS, HERE, SANITIZED, output
from hypothesis import given, settings
from hypothesis import strategies as st
from ladspa_host import BYPASS, FULL_BAND, LIMIT_DB, OFF_DB, STRENGTH, Plugin, descriptors, processed
from places import NATIVE

from edge_runtime.band import FULL, SPEECH
from edge_runtime.denoiser import Denoiser
from edge_runtime.engines import native
from edge_runtime.files.any_rate import AnyRateDenoiser
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import Float32Array
from quant.emit.native.emitter import emit_native
from quant.ptq.quantize import Quantized

LIBRARY = find_spec("edge_runtime.native.ladspa_edge_denoise")
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the plugin is not compiled here: no C compiler")

# rate, latency in samples of it: 512 at 16 kHz, and twice 56 for the filters, rounded up
RATES = [(16000, 512), (22050, 860), (24000, 936), (32000, 1248), (44100, 1720), (48000, 1872), (96000, 3744)]
MODEL = ModelEntry(file="model.native", states=(), golden_snr_floor_db=0.0)


@pytest.fixture(scope="module")
def weights(quantized: Quantized) -> bytes:
    return emit_native(quantized.graph, quantized.plan).data


@pytest.fixture(scope="module")
def library(weights: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin with its weights beside it, as installed."""
    assert LIBRARY is not None
    folder = tmp_path_factory.mktemp("ladspa")
    shutil.copy(str(LIBRARY.origin), folder / "edge_denoise.so")
    (folder / "edge_denoise.native").write_bytes(weights)
    return folder / "edge_denoise.so"


@pytest.fixture(scope="module")
def speech(mixture: Float32Array) -> Float32Array:
    return mixture[:48_000]


def denoiser(weights: bytes) -> Denoiser:
    return Denoiser(native.open_model(weights, MODEL, "int8", 1))


def file_path(weights: bytes, samples: Float32Array, rate_hz: int, band: str = SPEECH) -> Float32Array:
    """What `edge-denoise file` writes."""
    stream = AnyRateDenoiser([denoiser(weights)], rate_hz, band)
    return np.concatenate([stream.feed(samples[:, None]), stream.flush()])[:, 0]


def at_rate(samples: Float32Array, rate_hz: int) -> Float32Array:
    return np.asarray(soxr.resample(samples, 16000, rate_hz, quality="VHQ"), np.float32)


def snr_db(wanted: Float32Array, got: Float32Array) -> float:
    return float(10 * np.log10(np.sum(wanted**2.0) / np.sum((wanted - got) ** 2.0)))


# --- what it is ---------------------------------------------------------------------------------------------------


def test_hosts_see_two_plugins(library: Path) -> None:
    seen = [(each.id, each.label, each.n_ports, each.properties) for each in descriptors(library)]
    assert seen == [(17732, b"edge_denoise", 7, 4), (17733, b"edge_denoise_stereo", 9, 4)]
    mono = descriptors(library)[0]
    assert [mono.port_names[i].decode() for i in range(7)] == [
        "Input",
        "Output",
        "Strength",
        "Limit (dB)",
        "Bypass",
        "latency",
        "Full band",
    ]


@pytest.mark.skipif(shutil.which("analyseplugin") is None, reason="needs Debian's ladspa-sdk")
def test_analyseplugin_has_no_complaint(library: Path) -> None:
    done = subprocess.run(["analyseplugin", str(library)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ERROR" not in done.stdout.upper()
    assert '"Limit (dB)" input, control, 0 to 100, default 100' in done.stdout
    assert "Environment: Normal or Hard Real-Time" in done.stdout


@pytest.mark.parametrize("rate_hz", [8000, 11025, 15999, 44101, 47999, 2_000_000])
def test_rates_without_a_common_grid_are_refused(library: Path, rate_hz: int) -> None:
    with pytest.raises(ValueError, match=f"no instance at {rate_hz} Hz"):
        Plugin(library, rate_hz)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "changed"])
def test_bad_weights_are_refused_in_one_line(
    library: Path, weights: bytes, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copy(library, tmp_path / f"{damage}.so"))
    data = {"empty": b"", "cut": weights[:-16], "changed": weights[:-1] + bytes([weights[-1] ^ 1])}
    if damage in data:
        copy.with_suffix(".native").write_bytes(data[damage])
    with pytest.raises(ValueError, match="no instance"):
        Plugin(copy, 48000)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"edge_denoise: {copy.with_suffix('.native')}: ")


# --- what it computes ---------------------------------------------------------------------------------------------


def test_at_16_khz_it_is_the_file_path(library: Path, weights: bytes, speech: Float32Array) -> None:
    """Sample for sample, once the latency is taken off."""
    plugin = Plugin(library, 16000)
    out = processed(plugin, speech, [1024])
    assert plugin.latency_samples == 512
    np.testing.assert_array_equal(out[:256], 0)
    np.testing.assert_array_equal(out[512:], file_path(weights, speech, 16000)[:-512])
    plugin.close()


@pytest.mark.parametrize(("rate_hz", "latency_samples"), RATES[1:])
def test_at_other_rates_without_the_full_band_it_is_near_the_file_path(
    library: Path, weights: bytes, speech: Float32Array, rate_hz: int, latency_samples: int
) -> None:
    """Two good resamplers leave the 8-bit network other roundings: 25 dB. No shift fits better than the latency."""
    plugin, noisy = Plugin(library, rate_hz, full_band=False), at_rate(speech, rate_hz)
    out, wanted = processed(plugin, noisy, [1024]), file_path(weights, noisy, rate_hz)
    plugin.close()
    assert plugin.latency_samples == latency_samples
    n = noisy.size - latency_samples - 3
    fits = {off: snr_db(wanted[3:n], out[latency_samples + off :][3:n]) for off in range(-3, 4)}
    assert max(fits, key=fits.__getitem__) == 0
    assert fits[0] > 25


@pytest.mark.parametrize(("rate_hz", "latency_samples"), RATES[1:])
def test_with_the_full_band_it_is_the_file_path(
    library: Path, weights: bytes, speech: Float32Array, rate_hz: int, latency_samples: int
) -> None:
    """Sample for sample, with something above 8 kHz to keep."""
    hiss = np.random.default_rng(1).normal(0, 0.02, at_rate(speech, rate_hz).size)
    plugin, noisy = Plugin(library, rate_hz), at_rate(speech, rate_hz) + hiss.astype(np.float32)
    out, wanted = processed(plugin, noisy, [480]), file_path(weights, noisy, rate_hz, FULL)
    plugin.close()
    np.testing.assert_array_equal(out[latency_samples:], wanted[:-latency_samples])


def test_the_full_band_comes_and_goes_along_a_line(library: Path, speech: Float32Array) -> None:
    """Switched while it runs, what comes out is between the two that it goes from and to, and in a hop it is there."""
    rate_hz, n_before = 48_000, 30_000
    noisy = at_rate(speech, rate_hz) + np.random.default_rng(1).normal(0, 0.05, 144_000).astype(np.float32)
    plugins = [Plugin(library, rate_hz, full_band=full) for full in (True, False, True)]
    full, speech_only, switched = (plugin.run(noisy[:n_before]) for plugin in plugins)
    np.testing.assert_array_equal(switched, full)
    plugins[2].controls[FULL_BAND] = 0
    full, speech_only, switched = (plugin.run(noisy[n_before:60_000]) for plugin in plugins)
    both = np.stack([full, speech_only])
    assert (switched >= both.min(0) - 1e-6).all()
    assert (switched <= both.max(0) + 1e-6).all()
    np.testing.assert_array_equal(switched[3 * 768 :], speech_only[3 * 768 :])
    assert snr_db(full, speech_only) < 40, "they differ, or nothing was shown"
    for plugin in plugins:
        plugin.close()


@pytest.mark.parametrize(("rate_hz", "latency_samples"), RATES)
@pytest.mark.parametrize("control", ["strength 0", "limit 0", "bypass"])
def test_wet_0_is_the_delayed_input(
    library: Path, speech: Float32Array, rate_hz: int, latency_samples: int, control: str
) -> None:
    plugin, noisy = Plugin(library, rate_hz), speech[:8000]
    which, value = {"strength 0": (STRENGTH, 0), "limit 0": (LIMIT_DB, 0), "bypass": (BYPASS, 1)}[control]
    plugin.controls[which] = value
    out = processed(plugin, noisy, [257])
    plugin.close()
    np.testing.assert_array_equal(out, np.concatenate([np.zeros(latency_samples, np.float32), noisy])[: noisy.size])


@pytest.mark.parametrize(
    ("strength", "limit_db", "wet"),
    [(1, OFF_DB, 1), (0.5, OFF_DB, 0.5), (1, 6, 1 - 10 ** (-6 / 20)), (0.5, 12, 0.5 * (1 - 10 ** (-12 / 20)))],
)
def test_controls_mix_dry_and_wet_in_phase(
    library: Path, speech: Float32Array, strength: float, limit_db: float, wet: float
) -> None:
    results = []
    for controls in [(1, OFF_DB), (0, OFF_DB), (strength, limit_db)]:
        plugin = Plugin(library, 48000)
        plugin.controls[:2] = controls
        results.append(processed(plugin, speech, [512]))
        plugin.close()
    clean, dry, mixed = results
    np.testing.assert_allclose(mixed, (1 - wet) * dry + wet * clean, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    rate_hz=st.sampled_from([16000, 44100, 48000, 96000]),
    sizes=st.lists(st.sampled_from([1, 2, 7, 64, 255, 256, 257, 480, 1024, 8192]), min_size=1, max_size=40),
    in_place=st.booleans(),
)
def test_blocks_do_not_matter(
    library: Path, speech: Float32Array, rate_hz: int, sizes: list[int], in_place: bool
) -> None:
    noisy = speech[:6000]
    whole, parts = Plugin(library, rate_hz), Plugin(library, rate_hz)
    wanted, start, out = whole.run(noisy), 0, []
    for size in [*sizes, noisy.size]:
        out.append(parts.run(noisy[start : start + size], in_place=in_place))
        start = min(start + size, noisy.size)
    np.testing.assert_array_equal(np.concatenate(out), wanted)
    whole.close()
    parts.close()


def test_activate_starts_over(library: Path, speech: Float32Array) -> None:
    plugin = Plugin(library, 48000)
    first = processed(plugin, speech, [1000])
    plugin.controls[BYPASS] = 1
    plugin.run(speech)
    plugin.controls[BYPASS] = 0
    plugin.activate()
    np.testing.assert_array_equal(processed(plugin, speech, [1000]), first)
    plugin.close()


def test_stereo_is_two_monos(library: Path, speech: Float32Array) -> None:
    left, right = speech[:20000], speech[20000:40000]
    mono = []
    for channel in (left, right):
        plugin = Plugin(library, 48000)
        mono.append(plugin.run(channel))
        plugin.close()
    stereo = Plugin(library, 48000, "edge_denoise_stereo")
    np.testing.assert_array_equal(stereo.run(np.stack([left, right]), in_place=True), np.stack(mono))
    stereo.close()


@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_bypass_fades_over_a_hop(library: Path, rate_hz: int) -> None:
    """A constant input, which the network removes: no step of the output is far beyond that of a hop's ramp."""
    n_ramp = rate_hz * 256 // 16000
    plugin, ones = Plugin(library, rate_hz), np.full(rate_hz, 0.5, np.float32)
    plugin.run(ones)
    plugin.controls[BYPASS] = 1
    out = plugin.run(ones[: 2 * n_ramp])
    assert np.abs(np.diff(out)).max() < 3 / n_ramp
    np.testing.assert_array_equal(out[n_ramp - 1 :], 0.5)
    plugin.close()


@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 1e-42])
def test_bad_samples_are_repaired(library: Path, speech: Float32Array, rate_hz: int, bad: float) -> None:
    noisy = speech[:16000].copy()
    noisy[3000:3010] = bad
    repaired = speech[:16000].copy()
    repaired[3000:3010] = np.clip(np.nan_to_num(bad, nan=0, posinf=0, neginf=0), -8, 8)
    plugin, other = Plugin(library, rate_hz), Plugin(library, rate_hz)
    np.testing.assert_array_equal(plugin.run(noisy), other.run(repaired))
    plugin.close()
    other.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -5.0, 1e9])
def test_bad_controls_do_no_harm(library: Path, speech: Float32Array, value: float) -> None:
    plugin = Plugin(library, 48000)
    plugin.controls[:3] = value
    assert np.isfinite(plugin.run(speech)).all()
    plugin.close()


# --- judged in C --------------------------------------------------------------------------------------------------

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


def compiled_host(folder: Path, weights: bytes, *flags: str) -> Path:
    """plugin_host.c with plugin and full band in it, the weights beside it, the engine from its library: that has
    sanitizer runs of its own, and imports no allocator."""
    rooms = [*sorted(NATIVE.glob("ladspa/*.c")), *sorted(NATIVE.glob("band/*.c"))]
    sources = [HERE / "plugin_host.c", *rooms, NATIVE / "libedge_denoise.so"]
    libraries = [f"-Wl,-rpath,{NATIVE}", "-lm", "-ldl"]
    command = ["gcc", *FLAGS, "-Wall", "-Wextra", "-Werror", *flags, *map(str, sources), "-o", str(folder / "host")]
    subprocess.run([*command, *libraries], check=True, timeout=300)
    (folder / "host.native").write_bytes(weights)
    return folder / "host"


@needs_gcc
def test_hosts_blocks_are_clean_under_sanitizers(weights: bytes, tmp_path: Path) -> None:
    """Random blocks, rates, controls and garbage, ASan and UBSan watching; every instance is freed again."""
    assert "ok" in output(compiled_host(tmp_path, weights, *SANITIZED), 7)


@pytest.fixture(scope="module")
def watched_host(weights: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Aborts when run() allocates or frees."""
    names = ("malloc", "calloc", "realloc", "free", "posix_memalign")
    flags = ["-DWATCH_ALLOCATIONS", *(f"-Wl,--wrap={name}" for name in names)]
    return compiled_host(tmp_path_factory.mktemp("watched"), weights, *flags)


@needs_gcc
def test_run_allocates_nothing(watched_host: Path) -> None:
    assert "ok" in output(watched_host, 7)


@needs_gcc
@pytest.mark.parametrize(("rate_hz", "n_up", "n_down"), [(48000, 1, 3), (44100, 160, 441), (96000, 1, 6)])
def test_the_filters_are_flat_and_80_db_down_where_they_say(
    watched_host: Path, rate_hz: int, n_up: int, n_down: int
) -> None:
    """Read back from the polyphase tables: to 7.6 kHz and from 8.4 kHz on, the same both ways; below a full band up to
    6.8 kHz and from 7.6 kHz on."""
    printed = np.array([float(line) for line in output(watched_host, "taps", rate_hz).split()])
    n_host_taps, n_taps = int(printed[0]), 112 * n_down
    to_16k, to_host, to_host_below = np.split(printed[1:], [n_up * n_host_taps, n_up * n_host_taps + n_taps])
    taps, below = (part.reshape(n_down, 112)[:, ::-1].T.ravel() for part in (to_host, to_host_below))
    for each in (taps, below):
        np.testing.assert_allclose(each[1:], each[:0:-1], atol=1e-7)  # linear phase
    down = to_16k.reshape(n_up, n_host_taps)[:, ::-1] * n_down / n_up
    where = np.arange(n_host_taps)[None, :] * n_up - np.arange(n_up)[:, None]
    inside = (where >= 0) & (where < taps.size)
    np.testing.assert_allclose(down[inside], taps[where[inside]], atol=1e-6)
    np.testing.assert_array_equal(down[~inside], 0)
    n_fft = 1 << 22
    frequency_hz = np.fft.rfftfreq(n_fft, 1 / (16000 * n_down))
    for each, flat_hz, away_hz in ((taps, 7600, 8400), (below, 6800, 7600)):
        response_db = 20 * np.log10(np.abs(np.fft.rfft(each / n_down, n_fft)) + 1e-12)
        assert np.abs(response_db[frequency_hz <= flat_hz]).max() < 0.01
        assert response_db[frequency_hz >= away_hz].max() < -80
