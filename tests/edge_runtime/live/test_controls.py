"""Laws of the controls, of rate conversion and of clocks: what the listener may rely on whatever is set."""

from __future__ import annotations

from math import ceil, gcd, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import Failure
from edge_runtime.live.control.controls import GATE_HOLD_MS, Meter, Mixer, Settings, check, level_dbfs
from edge_runtime.live.drift import MOST, DriftControl
from edge_runtime.live.overload import FIRST_REST_HOPS, FORGET_HOPS, LIMIT, LONGEST_REST_HOPS, Overload
from edge_runtime.live.sound import library
from edge_runtime.live.sound.fifo import Fifo
from edge_runtime.live.sound.rate import CROSSINGS, CUTOFF, DRIFT_CROSSINGS, DriftConverter, RateConverter, sinc_table
from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES

seeds = st.integers(0, 2**32 - 1)
wets = st.floats(0, 1, width=32)


def hops(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, (n, HOP_SAMPLES)).astype(np.float32)


def mixed(mixer: Mixer, noisy: np.ndarray, clean: np.ndarray, wet: list[float], gate_dbfs: float = -inf) -> np.ndarray:
    out = np.zeros_like(noisy)
    for k in range(len(noisy)):
        mixer.delay(noisy[k])
        mixer.mix(clean[k], wet[k], gate_dbfs, out[k])
    return out.ravel()


# --- the mix ------------------------------------------------------------------------------------------------


@given(seeds)
def test_wet_0_is_the_delayed_input_exactly(seed):
    noisy = hops(seed, 6)
    out = mixed(Mixer(), noisy, hops(seed + 1, 6), [0.0] * 6)
    delayed = np.concatenate((np.zeros(LATENCY_SAMPLES, np.float32), noisy.ravel()))[: out.size]
    assert np.array_equal(out[HOP_SAMPLES:], delayed[HOP_SAMPLES:])  # a new mixer is wet: the first hop moves


@given(seeds)
def test_wet_1_is_the_denoiser_exactly(seed):
    clean = hops(seed, 6)
    assert np.array_equal(mixed(Mixer(), hops(seed + 1, 6), clean, [1.0] * 6), clean.ravel())


@given(st.lists(wets, min_size=2, max_size=12))
def test_no_step_is_larger_than_the_ramp_allows(wet):
    """Constant dry 0 and clean 1: the output is the wet itself."""
    n = len(wet)
    out = mixed(Mixer(), np.zeros((n, HOP_SAMPLES), np.float32), np.ones((n, HOP_SAMPLES), np.float32), wet)
    steps = np.abs(np.diff(np.concatenate(([1.0], out))))
    moves = np.abs(np.diff([1.0, *wet]))
    assert steps.max() <= moves.max() / HOP_SAMPLES + 1e-6
    assert np.allclose(out.reshape(n, -1)[:, -1], wet, atol=1e-7)


@given(seeds, wets, wets)
def test_the_mix_is_linear_between_dry_and_clean(seed, a, b):
    noisy, clean = hops(seed, 5), hops(seed + 1, 5)
    dry = mixed(Mixer(), noisy, clean, [1.0] + [0.0] * 4).reshape(5, -1)[2:]
    out = mixed(Mixer(), noisy, clean, [a, b, b, b, b]).reshape(5, -1)[2:]
    assert np.allclose(out, (1 - b) * dry + b * clean[2:], atol=1e-6)


WETS = [
    (Settings(), 1.0),
    (Settings(strength=0.25), 0.25),
    (Settings(bypass=True), 0.0),
    (Settings(limit_db=0.0), 0.0),
    (Settings(limit_db=20.0), 0.9),
    (Settings(strength=0.5, limit_db=20.0), 0.45),
    (Settings(strength=0.5, limit_db=20.0, bypass=True), 0.0),
]


@pytest.mark.parametrize(("chosen", "wet"), WETS)
def test_strength_limit_and_bypass_make_the_wet(chosen, wet):
    assert chosen.wet == pytest.approx(wet)


@given(seeds, st.floats(3, 40))
def test_the_limit_is_the_most_that_is_taken_away(seed, limit_db):
    """Of a denoiser that leaves nothing."""
    noisy = hops(seed, 8)
    out = mixed(Mixer(), noisy, np.zeros_like(noisy), [Settings(limit_db=limit_db).wet] * 8)
    taken_db = level_dbfs(noisy[3]) - level_dbfs(out.reshape(8, -1)[4])
    assert taken_db == pytest.approx(limit_db, abs=0.01)


BAD = [
    (Settings(strength=1.5), "strength is 1.5, it goes from 0 to 1"),
    (Settings(strength=float("nan")), "strength is nan"),
    (Settings(limit_db=-1.0), "limit_db is -1.0, it goes from 0 up"),
    (Settings(limit_db=float("nan")), "limit_db is nan"),
    (Settings(gate_dbfs=3.0), "gate_dbfs is 3.0, it goes from 0 down"),
    (Settings(gate_dbfs=float("nan")), "gate_dbfs is nan"),
]


@pytest.mark.parametrize(("chosen", "message"), BAD, ids=[row[1] for row in BAD])
def test_settings_out_of_range_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        check(chosen)


# --- the gate -----------------------------------------------------------------------------------------------


def test_the_gate_holds_then_closes_then_opens_at_once_along_a_ramp():
    loud, quiet = np.full((1, HOP_SAMPLES), 0.1, np.float32), np.full((1, HOP_SAMPLES), 0.0001, np.float32)
    clean = np.concatenate([loud] * 3 + [quiet] * 30 + [loud] * 3)
    out = mixed(Mixer(), np.zeros_like(clean), clean, [1.0] * len(clean), gate_dbfs=-40.0).reshape(len(clean), -1)
    n_hold = round(GATE_HOLD_MS / 16)
    assert np.array_equal(out[: 3 + n_hold], clean[: 3 + n_hold])
    assert not out[3 + n_hold + 1 : 33].any()
    assert np.array_equal(out[34:], clean[34:])
    opening = np.diff(out[32:34].ravel())
    assert opening.max() <= 0.1 / HOP_SAMPLES * 1.01
    assert np.all(np.diff(out[33]) >= 0)


@pytest.mark.parametrize("offset", [0.0, 0.0011, 0.0054, 0.03, -0.03])
def test_an_offset_does_not_keep_the_gate_open(offset):
    """What a microphone's offset leaves of itself in the denoised sound."""
    quiet = hops(3, 400) * np.float32(1e-5 / 0.3) + np.float32(offset)
    out = mixed(Mixer(), np.zeros_like(quiet), quiet, [1.0] * 400, gate_dbfs=-80.0)
    assert not out[-HOP_SAMPLES:].any()
    loud = hops(4, 400) * np.float32(1e-3 / 0.3) + np.float32(offset)
    assert np.array_equal(mixed(Mixer(), np.zeros_like(loud), loud, [1.0] * 400, gate_dbfs=-80.0), loud.ravel())


@pytest.mark.parametrize("offset", [0.0, 0.03])
def test_a_meter_shows_the_level_of_the_sound_alone(offset):
    meter = Meter()
    levels = [meter.push(hop) for hop in hops(5, 500) * np.float32(0.01 / 0.3) + np.float32(offset)]
    assert np.mean(levels[-50:]) == pytest.approx(-40.0, abs=0.2)
    assert meter.offset == pytest.approx(offset, abs=1e-3)


def test_no_gate_never_closes():
    quiet = np.full((60, HOP_SAMPLES), 1e-6, np.float32)
    assert np.array_equal(mixed(Mixer(), np.zeros_like(quiet), quiet, [1.0] * 60), quiet.ravel())


def test_levels_are_those_of_the_square_root_of_the_mean_square():
    assert level_dbfs(np.ones(256, np.float32)) == pytest.approx(0.0)
    assert level_dbfs(np.full(256, 0.1, np.float32)) == pytest.approx(-20.0, abs=1e-4)
    assert level_dbfs(np.zeros(256, np.float32)) == -120.0


# --- rates --------------------------------------------------------------------------------------------------


def converted(from_hz: int, to_hz: int, samples: np.ndarray, chunks: list[int]) -> np.ndarray:
    converter = RateConverter(from_hz, to_hz, 1, max(chunks))
    out, parts, start = Fifo(1, converter.n_most + 16), [], 0
    while start < samples.size:
        n = min(chunks[len(parts) % len(chunks)], samples.size - start)
        converter.push(samples[None, start : start + n], out)
        parts.append(out.view(out.n)[0].copy())
        out.drop(out.n)
        start += n
    return np.concatenate(parts)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(48_000, 16_000), (16_000, 48_000), (44_100, 16_000), (16_000, 44_100)])
@pytest.mark.parametrize(("tone_hz", "floor_db"), [(200, 90), (1000, 100), (5000, 90), (6500, 80)])
def test_a_tone_stays_a_tone(from_hz, to_hz, tone_hz, floor_db):
    tone = np.sin(2 * np.pi * tone_hz * np.arange(from_hz // 2) / from_hz).astype(np.float32)
    out = converted(from_hz, to_hz, tone, [706])
    wanted = np.sin(2 * np.pi * tone_hz * np.arange(out.size) / to_hz)
    error = (out - wanted)[out.size // 4 :]
    assert 10 * np.log10(0.5 / np.mean(error**2)) >= floor_db


@pytest.mark.parametrize("tone_hz", [9000, 12_000, 20_000])
def test_what_16_khz_cannot_hold_is_not_folded_down(tone_hz):
    tone = np.sin(2 * np.pi * tone_hz * np.arange(24_000) / 48_000).astype(np.float32)
    assert level_dbfs(converted(48_000, 16_000, tone, [768])[2000:]) < -80


@given(st.lists(st.integers(1, 900), min_size=1, max_size=8), st.sampled_from([(48_000, 16_000), (16_000, 44_100)]))
@settings(deadline=None, max_examples=30)
def test_any_chunks_give_the_same_samples(chunks, rates):
    samples = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    once, parts = converted(*rates, samples, [1000]), converted(*rates, samples, chunks)
    assert np.array_equal(once, parts)


@given(st.integers(0, 20), st.sampled_from([48_000, 44_100, 96_000, 8_000]))
@settings(deadline=None, max_examples=30)
def test_what_is_asked_for_completes_the_hop(n_hops, from_hz):
    converter = RateConverter(from_hz, 16_000, 1, 2 * 1536)
    out = Fifo(1, 4096)
    for _ in range(n_hops + 1):
        out.drop(out.n)
        n = converter.n_needed(HOP_SAMPLES)
        converter.push(np.zeros((1, n - 1), np.float32), out)
        assert out.n == HOP_SAMPLES - 1 or from_hz < 16_000
        converter.push(np.zeros((1, 1), np.float32), out)
        assert HOP_SAMPLES <= out.n <= HOP_SAMPLES + 1


def test_at_ratio_1_the_drift_converter_only_delays():
    samples = np.random.default_rng(1).normal(0, 0.1, (2, 2560)).astype(np.float32)
    converter, out = DriftConverter(2, 256), Fifo(2, 4096)
    for start in range(0, 2560, 256):
        converter.push(samples[:, start : start + 256], out)
    assert np.array_equal(out.view(out.n), samples[:, : 2560 - DRIFT_CROSSINGS])


@pytest.mark.parametrize("ratio", [1.001, 0.999, 1.005, 0.995])
def test_another_ratio_keeps_a_tone_clean_and_changes_its_speed(ratio):
    tone = np.sin(2 * np.pi * 1000 * np.arange(51_200) / 16_000).astype(np.float32)[None]
    converter, out = DriftConverter(1, 256), Fifo(1, 60_000)
    converter.ratio = ratio
    for start in range(0, 51_200, 256):
        converter.push(tone[:, start : start + 256], out)
    wanted = np.sin(2 * np.pi * 1000 * ratio * np.arange(out.n) / 16_000)
    error = (out.view(out.n)[0] - wanted)[200:]
    assert 10 * np.log10(0.5 / np.mean(error**2)) >= 100
    assert out.n == pytest.approx(51_200 / ratio, abs=DRIFT_CROSSINGS + 2)


def poisoned(converter):
    """As if memory that nothing was pushed into held what would be heard at once."""
    converter._in._data.fill(np.nan)
    converter.reset()
    return converter


@given(
    st.lists(st.tuples(st.integers(0, 256), st.sampled_from([0.995, 0.9999, 1.0, 1.0001, 1.005])), min_size=1),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=50)
def test_samples_between_two_clocks_are_windows_of_those_that_came_and_no_others(pushes, seed):
    """Against the definition, in 64 bits."""
    converter, out = poisoned(DriftConverter(1, 256)), Fifo(1, 60_000)
    samples = np.random.default_rng(seed).normal(0, 0.2, sum(n for n, _ in pushes)).astype(np.float32)
    begin, place, places = 0, 0.0, []
    for n, ratio in pushes:
        converter.ratio, n_before = ratio, out.n
        converter.push(samples[None, begin : begin + n], out)
        places += [place + k * ratio for k in range(out.n - n_before)]
        place += (out.n - n_before) * ratio
        begin += n
    half = DRIFT_CROSSINGS
    padded, table = np.pad(samples.astype(float), (half - 1, 0)), sinc_table(512, half, 1.0).astype(float)
    rows = np.vstack((table, np.roll(table[:1], 1, axis=1)))
    rows[-1, 0] = 0
    for heard, where in zip(out.view(out.n)[0], places, strict=True):
        whole, phase = int(where), (where - int(where)) * 512
        window, row, along = padded[whole : whole + 2 * half], int(phase), phase - int(phase)
        assert heard == pytest.approx(window @ (rows[row] * (1 - along) + rows[row + 1] * along), abs=2e-6)


@given(st.sampled_from([(48_000, 16_000), (44_100, 16_000), (44_100, 48_000)]), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10)
def test_samples_at_another_rate_are_windows_of_those_that_came_and_no_others(rates, seed):
    """Against the definition, in 64 bits."""
    n_up, n_down = (rate // gcd(*rates) for rate in reversed(rates))
    converter, out = poisoned(RateConverter(*rates, 1, 900)), Fifo(1, 4000)
    samples = np.random.default_rng(seed).normal(0, 0.2, 2700).astype(np.float32)
    for begin in range(0, 2700, 900):
        converter.push(samples[None, begin : begin + 900], out)
    lower = min(1.0, n_up / n_down)
    half = ceil(CROSSINGS / lower)
    padded, table = np.pad(samples.astype(float), (half - 1, 0)), sinc_table(n_up, half, CUTOFF * lower).astype(float)
    wanted = [padded[at : at + 2 * half] @ table[row] for at, row in (divmod(k * n_down, n_up) for k in range(out.n))]
    assert np.allclose(out.view(out.n)[0], wanted, rtol=0, atol=2e-6)
    assert (out.n * n_down) // n_up + 2 * half > padded.size  # the next one was not there yet


def test_live_sound_without_the_native_library_is_a_line_with_its_remedy(monkeypatch):
    def missing():
        raise ImportError("libedge_denoise.so: cannot open shared object file")

    monkeypatch.setattr(library, "load_library", missing)
    for make in (lambda: DriftConverter(1, 256), lambda: RateConverter(48_000, 16_000, 1, 256)):
        with pytest.raises(Failure, match=r"live sound needs the native library \(.*\); install a C compiler"):
            make()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_a_fifo_is_a_queue(sizes):
    fifo, given_in, taken_out = Fifo(2, 200), [], []
    rng = np.random.default_rng(0)
    for size in sizes:
        block = rng.normal(size=(2, min(size, fifo.capacity - fifo.n))).astype(np.float32)
        fifo.push(block)
        given_in.append(block)
        out = np.zeros((2, fifo.n // 2), np.float32)
        fifo.pop(out)
        taken_out.append(out)
    taken_out.append(fifo.view(fifo.n))
    assert np.array_equal(np.concatenate(given_in, 1), np.concatenate(taken_out, 1))
    with pytest.raises(ValueError, match="cannot hold"):
        fifo.push(np.zeros((2, fifo.capacity + 1), np.float32))


# --- clocks and overload ------------------------------------------------------------------------------------


@given(st.floats(-0.0015, 0.0015), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_loop_finds_any_clock_and_keeps_the_sound_on_its_way(drift, seed):
    control, rng = DriftControl(0.016), np.random.default_rng(seed)
    control.restart(0.012)
    held_s, worst_s = 0.012, 0.0
    for _ in range(round(180 / 0.016)):
        ratio = control.update(held_s + rng.normal(0, 0.0002))
        held_s += 0.016 * (drift - (ratio - 1))
        worst_s = max(worst_s, abs(held_s - 0.012))
    assert abs(ratio - 1) <= MOST
    assert worst_s < 0.012  # the margin is never eaten up
    if abs(drift) > 5e-5:
        assert ratio - 1 == pytest.approx(drift, abs=1e-4)
        assert held_s == pytest.approx(0.012, abs=0.003)


def test_one_clock_is_left_alone_whatever_the_scheduler_does():
    control = DriftControl(0.016)
    control.restart(0.012)
    rng = np.random.default_rng(0)
    for _ in range(5000):
        jitter_s = 0.016 * rng.choice([-1, 0, 0, 0, 0, 0, 0, 1])  # a device that moves a whole period early or late
        assert control.update(0.012 + jitter_s) == 1.0
    assert not control.is_active


def test_too_many_misses_make_a_rest_and_rests_grow():
    overload, rests = Overload(), []
    for _ in range(10):
        for _ in range(LIMIT - 1):
            assert not overload.missed()
        assert overload.missed()
        n = 1
        while not overload.rested():
            n += 1
        rests.append(n)
    assert rests[:3] == [FIRST_REST_HOPS, 2 * FIRST_REST_HOPS, 4 * FIRST_REST_HOPS]
    assert rests[-1] == LONGEST_REST_HOPS


@given(st.lists(st.integers(FORGET_HOPS, 3 * FORGET_HOPS), min_size=1, max_size=60))
def test_rare_misses_never_rest_the_denoiser(apart):
    overload = Overload()
    for n_hops in apart:
        assert not overload.missed()
        for _ in range(n_hops):
            overload.met()
    assert not overload.is_resting
