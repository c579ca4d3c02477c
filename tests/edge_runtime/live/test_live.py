"""The live loop between fake devices in virtual time: what comes out, when, and what becomes of every fault."""

from __future__ import annotations

import numpy as np
import pytest
from fake_sound import FakeDenoiser, FakeDevice, World, noise, run
from heard_sound import heard, place_of, true_latency_ms
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.alsa.pcm import FORMATS
from edge_runtime.alsa.samples import SampleConverter
from edge_runtime.errors import Failure
from edge_runtime.files.any_rate import AnyRateDenoiser
from edge_runtime.live.channels import Channels
from edge_runtime.live.control.controls import Settings
from edge_runtime.live.status import Status


def first_sound(samples: np.ndarray) -> int:
    return int(np.flatnonzero(np.abs(samples) > 1e-4)[0])


@pytest.mark.parametrize("name", FORMATS)
def test_one_clock_loses_and_changes_no_sample(name):
    world = World()
    capture = FakeDevice(world, sample_format=name, sound=noise())
    playback = FakeDevice(world, sample_format=name)
    denoiser = FakeDenoiser(world, gain=1.0)
    status = run(world, capture, playback, 3.0, [denoiser])
    out = heard(playback)[0]
    start = first_sound(out)
    given = np.zeros((1, 70_000), np.float32)
    converter = SampleConverter(FORMATS[name], 1, 70_000)
    block = np.zeros((70_000, 1, 3) if name == "S24_3LE" else (70_000, 1), FORMATS[name].dtype)
    converter.encode(noise()(0, 70_000), block)
    converter.decode(block, given)
    shift = place_of(out[start : start + 8000], given[0])
    n = len(out) - start
    assert np.array_equal(out[start:], given[0, shift : shift + n])
    assert n > 40_000
    assert (status.n_overruns, status.n_underruns, status.drift_is_corrected) == (0, 0, False)


RATES = [(16, 16), (48, 48), (44.1, 44.1), (48, 16), (16, 48), (8, 16), (96, 48), (44.1, 48), (32, 32)]


@pytest.mark.parametrize("band", ["speech", "full"])
@pytest.mark.parametrize(("capture_khz", "playback_khz"), RATES)
def test_latency_is_what_is_computed_at_every_rate(capture_khz, playback_khz, band):
    world = World()
    capture_hz, playback_hz = round(1000 * capture_khz), round(1000 * playback_khz)
    capture = FakeDevice(world, capture_hz, sound=noise(rate_hz=capture_hz))
    playback = FakeDevice(world, playback_hz)
    status = run(world, capture, playback, 4.0, band=band)
    assert status.band == (band if min(capture_hz, playback_hz) > 16_000 else "speech")
    assert (status.n_overruns, status.n_underruns, status.n_resyncs) == (0, 0, 0)
    assert not status.drift_is_corrected
    true_ms = true_latency_ms(capture, playback)
    assert status.latency_ms == pytest.approx(true_ms, abs=1.0)
    converters_ms = 2.0 * (capture_hz != 16_000) * max(1, 16_000 / capture_hz) + 2.0 * (playback_hz != 16_000)
    if status.band == "full":
        converters_ms = 6.5 + 2.0 * (capture_hz != playback_hz)  # its filters, less what its drift converter saves
    assert true_ms <= 45.5 + converters_ms  # a hop, the window's other half, 1 ms of drift converter, 12 ms of margin


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_the_full_band_is_the_same_live_as_in_a_file(rate_hz):
    """Sample for sample, several channels, each its own."""
    world, rows = World(), noise(2, rate_hz=rate_hz)
    capture = FakeDevice(world, rate_hz, n_channels=2, sound=rows)
    playback = FakeDevice(world, rate_hz, n_channels=2)
    channels = Channels((1, 2))
    status = run(world, capture, playback, 3.0, [FakeDenoiser(world, gain=g) for g in (0.5, 0.1)], channels=channels)
    assert status.band == "full"
    out = heard(playback)
    start = first_sound(out[0])
    began = place_of(out[0, start : start + 4000], rows(0, 4 * rate_hz)[0])
    file = AnyRateDenoiser([FakeDenoiser(world, gain=g) for g in (0.5, 0.1)], rate_hz, "full")
    given = rows(began, 3 * rate_hz)
    wanted = np.concatenate([file.feed(given.T), file.flush()]).T
    n = rate_hz
    np.testing.assert_allclose(out[:, start + 2000 : start + n], wanted[:, 2000:n], atol=1e-6)


@pytest.mark.parametrize("period", [64, 160, 512, 1024])
def test_any_period_of_the_devices_will_do(period):
    world = World()
    capture, playback = FakeDevice(world, period=period, sound=noise()), FakeDevice(world, period=max(256, period))
    status = run(world, capture, playback, 4.0)
    assert (status.n_overruns, status.n_underruns, status.n_resyncs) == (0, 0, 0)


CLOCKS = [("capture", 1.001), ("playback", 1.001), ("capture", 0.999), ("playback", 0.9998)]


@pytest.mark.parametrize(("side", "clock"), CLOCKS)
def test_two_clocks_are_followed(side, clock):
    world = World()
    clocks = {"capture": 1.0, "playback": 1.0, side: clock}
    capture = FakeDevice(world, sound=noise(), clock=clocks["capture"])
    playback = FakeDevice(world, clock=clocks["playback"])
    status = run(world, capture, playback, 120.0)
    assert (status.n_overruns, status.n_underruns, status.n_resyncs) == (0, 0, 0)
    assert status.drift_is_corrected
    ppm = 1e6 * (clocks["capture"] / clocks["playback"] - 1)
    assert status.drift_ppm == pytest.approx(ppm, abs=30)
    assert status.latency_ms == pytest.approx(45.0, abs=1.0)


@pytest.mark.parametrize(("nap_s", "overruns", "underruns"), [(0.010, 0, 0), (0.040, 0, 1), (0.200, 1, 0)])
def test_a_late_process_is_counted_and_catches_up(nap_s, overruns, underruns):
    world = World()
    world.naps = [(5.0, nap_s)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 10.0)
    assert (status.n_overruns, status.n_underruns) == (overruns, underruns)
    assert status.state == "stopped"
    assert true_latency_ms(capture, playback, from_s=7.0) == pytest.approx(45.0, abs=0.1)


@pytest.mark.parametrize("cost_s", [0.0, 0.0004, 0.005])
@pytest.mark.parametrize("tick_s", [0.0, 0.005])
@pytest.mark.parametrize("nap_s", [0.040, 0.200, 5.0])
def test_latency_is_the_same_after_an_xrun_and_one_clock_is_no_drift(tick_s, cost_s, nap_s):
    world = World(tick_s)
    world.naps = [(5.0, nap_s)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 9.0, [FakeDenoiser(world, cost_s=lambda _: cost_s)], margin_ms=16.0)
    assert status.n_overruns + status.n_underruns == 1
    assert (status.drift_ppm, status.drift_is_corrected) == (0.0, False)
    for from_s in (2.0, 5.2 + nap_s, 7.0 + nap_s):
        assert true_latency_ms(capture, playback, from_s=from_s) == pytest.approx(49.0, abs=0.1)
    assert status.latency_ms == pytest.approx(49.0, abs=0.1)


MARGINS = [(tick_ms, margin_ms) for tick_ms in (0, 5, 7, 10) for margin_ms in (0, 1, 3, 5, 12)]


@pytest.mark.parametrize(("tick_ms", "margin_ms"), MARGINS)
def test_a_margin_below_the_cards_timer_is_raised_until_it_runs_and_that_is_said(tick_ms, margin_ms):
    """Such a stream once ran for ever without a sound."""
    world = World(tick_ms / 1000)
    denoiser = FakeDenoiser(world, cost_s=lambda _: 0.0004)
    status = run(
        world, FakeDevice(world, sound=noise()), FakeDevice(world), 6.0, [denoiser], margin_ms=float(margin_ms)
    )
    assert world.now_s < 6.0 + 2.0
    assert status.n_underruns <= 2 + 2 * tick_ms / 4
    said = status.snapshot()["notes"]
    if status.margin_ms == margin_ms:
        assert said == []
    else:
        assert said == [f"margin {status.margin_ms:.0f} ms, not {margin_ms}: with less, playback ran dry at once"]
        assert margin_ms < status.margin_ms <= max(tick_ms, margin_ms) + 4
    assert status.latency_ms == pytest.approx(33.0 + status.margin_ms, abs=0.2)


BUFFERS = [
    # (pcm_frames of playback's buffer, margin asked, margin had, what is said)
    (None, 12.0, 12.0, []),
    (None, 200.0, 200.0, []),  # a device that can is asked for a larger buffer
    (1024, 12.0, 12.0, []),
    (1024, 200.0, 32.0, ["margin 32 ms, not 200: that is all that playback's buffer holds; give it more with --peri"]),
    (640, 12.0, 8.0, ["margin 8 ms, not 12: that is all that playback's buffer holds; give it more with --periods"]),
]


@pytest.mark.parametrize(("buffer", "margin_ms", "had_ms", "said"), BUFFERS)
def test_a_margin_that_no_buffer_holds_is_cut_and_that_is_said(buffer, margin_ms, had_ms, said):
    world = World()
    playback = FakeDevice(world, buffer=buffer)
    status = run(world, FakeDevice(world, sound=noise()), playback, 4.0, margin_ms=margin_ms)
    assert status.margin_ms == had_ms
    assert [note[:85] for note in status.snapshot()["notes"]] == [note[:85] for note in said]
    assert (status.n_underruns, status.n_starts) == (0, 0)
    assert status.latency_ms == pytest.approx(33.0 + had_ms, abs=0.1)


REFUSED = [
    (0.0, 256, 12.0, "fake: playback's buffer holds 16 ms of sound, a stream needs 36; give it more with --periods"),
    (0.0, 512, 0.0, "fake: playback's buffer holds 32 ms of sound, a stream needs 36; give it more with --periods"),
    (0.022, 580, 0.0, "fake: playback's buffer holds 36 ms of sound, and runs dry at once, again and again; give it"),
]


@pytest.mark.parametrize(("tick_s", "buffer", "margin_ms", "message"), REFUSED)
def test_a_buffer_in_which_no_margin_runs_is_refused(tick_s, buffer, margin_ms, message):
    world = World(tick_s)
    with pytest.raises(Failure) as failure:
        run(world, FakeDevice(world, sound=noise()), FakeDevice(world, buffer=buffer), 4.0, margin_ms=margin_ms)
    assert str(failure.value).startswith(message)
    assert world.now_s < 20


def test_overload_becomes_bypass_and_ends():
    world = World()
    slow = FakeDenoiser(world, cost_s=lambda now_s: 0.020 if 5.0 < now_s < 6.0 else 0.001)
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 15.0, [slow])
    assert status.n_overloads == 1
    assert status.n_missed <= 6  # few: then it rests, and nothing is missed any more
    assert slow.n_resets == 1
    out = heard(playback)[0]
    level = [float(np.std(out[k * 16_000 : (k + 1) * 16_000])) for k in (3, 6, 12)]
    assert level[0] == pytest.approx(0.05, rel=0.05)  # denoised: the fake halves it
    assert level[1] == pytest.approx(0.10, rel=0.05)  # at rest: dry
    assert level[2] == pytest.approx(0.05, rel=0.05)


def test_a_denoiser_that_never_keeps_up_rests_ever_longer():
    world = World()
    slow = FakeDenoiser(world, cost_s=lambda _: 0.020)
    status = run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 60.0, [slow])
    assert 3 <= status.n_overloads <= 5
    assert slow.n_steps < 40


def naps(each_s: float, nap_s: float, until_s: float) -> list[tuple[float, float]]:
    """A process that is not scheduled for so long, again and again."""
    return [(2 + each_s * k, nap_s) for k in range(round((until_s - 2) / each_s))]


XRUNS = [(each_s, nap_s) for each_s in (0.3, 1.0, 1.9, 2.1, 5.0) for nap_s in (0.040, 0.200)]


@pytest.mark.parametrize(("each_s", "nap_s"), XRUNS)
def test_a_hop_in_time_is_denoised_however_many_xruns_there_are(each_s, nap_s):
    """Nothing but scheduling breaks this stream: computing takes a hundredth of a hop."""
    world = World()
    world.naps = naps(each_s, nap_s, 60.0)
    denoiser = FakeDenoiser(world, cost_s=lambda _: 0.00016)
    status = run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 60.0, [denoiser])
    assert status.n_overruns + status.n_underruns >= 10
    assert (status.n_overloads, status.n_missed) == (0, 0)
    assert denoiser.n_steps == status.n_hops


def test_a_hop_held_up_by_other_programs_is_late_but_no_overload():
    world = World()
    denoiser = FakeDenoiser(world, cost_s=lambda _: 0.00016, held_up_s=lambda now_s: 0.020 if now_s % 0.5 < 0.1 else 0)
    status = run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 30.0, [denoiser])
    assert status.n_missed > 50
    assert status.n_overloads == 0
    assert denoiser.n_steps == status.n_hops


def test_xruns_after_a_computation_of_a_good_part_of_the_hop_are_an_overload():
    world = World()
    world.naps = naps(0.2, 0.040, 10.0)
    slow = FakeDenoiser(world, cost_s=lambda _: 0.012)
    status = run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 10.0, [slow])
    assert status.n_overloads >= 1
    assert status.n_missed == 0


def test_a_hop_too_slow_now_and_then_is_no_overload():
    world = World()
    seldom = FakeDenoiser(world, cost_s=lambda now_s: 0.017 if now_s % 1.0 < 0.016 else 0.001)
    status = run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 60.0, [seldom])
    assert status.n_missed >= 50
    assert status.n_overloads == 0


def test_a_reset_while_it_runs_starts_the_denoiser_anew_without_a_jump():
    world = World()
    status = Status()
    denoiser = FakeDenoiser(world, gain=1.0)
    tone = 2 * np.pi * 100 / 16_000
    capture = FakeDevice(world, sound=lambda start, n: 0.5 * np.sin(tone * np.arange(start, start + n))[None])
    run(world, capture, FakeDevice(world), 2.0, [denoiser], status)
    status.wants_reset = True
    playback = FakeDevice(world)
    run(world, capture, playback, 4.0, [denoiser], status)
    assert denoiser.n_resets == 1
    assert not status.wants_reset
    out = heard(playback)[0]
    out = out[first_sound(out) + 600 :]
    assert np.abs(np.diff(out)).max() <= 0.5 * tone * 1.01


def test_bypass_of_the_whole_chain_is_the_delayed_input():
    world = World()
    playback = FakeDevice(world)
    status = Status(Settings(bypass=True))
    run(world, FakeDevice(world, sound=noise()), playback, 3.0, [FakeDenoiser(world, gain=0.0)], status)
    out = heard(playback)[0][-16_000:]
    start = place_of(out[:4000], noise()(0, 100_000)[0])
    assert np.array_equal(out, noise()(start, 16_000)[0])


@pytest.mark.parametrize("wet", [0.0, 1.0])
def test_the_reduction_compares_a_hop_with_itself(wet):
    """In bypass it is nothing, in every hop; a denoiser that halves takes 6 dB, in every hop."""
    world, status, shown = World(), Status(Settings(strength=wet)), []
    denoiser = FakeDenoiser(world, cost_s=lambda _: shown.append(status.snapshot()["reduction_db"]) or 0.0)
    run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 5.0, [denoiser], status)
    assert shown[20:] == pytest.approx([6.0 * wet] * len(shown[20:]), abs=0.05)


def test_frame_times_are_those_of_computed_hops():
    """At rest nothing is computed: no zeros among the times."""
    world = World()
    slow = FakeDenoiser(world, cost_s=lambda now_s: 0.020 if 5.0 < now_s < 5.3 else 0.002)
    status = run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 9.0, [slow])
    assert status.n_overloads == 1
    assert status.frame_ms()[0] == pytest.approx(2.0)


def test_what_is_not_finite_is_repaired_and_counted():
    world = World()

    def sound(start: int, n: int) -> np.ndarray:
        rows = np.zeros((1, n), np.float32)
        rows[0, 5] = np.nan
        return rows

    playback = FakeDevice(world)
    status = run(world, FakeDevice(world, sound=sound), playback, 1.0)
    assert status.n_repaired >= 60
    assert np.isfinite(heard(playback)).all()


@given(
    st.sampled_from(list(FORMATS)),
    st.integers(1, 4),
    st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40),
)
@settings(deadline=None, max_examples=200)
def test_a_stored_sample_comes_back_as_itself_and_the_loud_are_clipped(name, n_channels, values):
    rows = np.tile(np.array(values, np.float32), (n_channels, 1))
    n = rows.shape[1]
    kind = FORMATS[name]
    converter = SampleConverter(kind, n_channels, n)
    block = np.zeros((n, n_channels, 3) if kind.n_bytes == 3 else (n, n_channels), kind.dtype)
    once, twice = np.zeros_like(rows), np.zeros_like(rows)
    converter.encode(rows, block)
    converter.decode(block, once)
    again = block.copy()
    converter.encode(once, block)
    converter.decode(block, twice)
    assert np.array_equal(once, twice)
    if name != "S32_LE":  # of 32 bits a float32 keeps 24
        assert np.array_equal(block, again)
    step = {"S16_LE": 2.0**-15, "FLOAT_LE": 0.0}.get(name, 2.0**-23)
    limited = rows if name == "FLOAT_LE" else np.clip(rows, -1, 1)
    assert np.abs(once - limited).max() <= step
