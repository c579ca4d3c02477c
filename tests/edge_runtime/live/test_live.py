"""The live loop between fake devices in virtual time: what comes out, when, and what becomes of every fault."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from fake_sound import FakeDenoiser, FakeDevice, FakePcm, World, noise, run
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.alsa.pcm import FORMATS, Outcome
from edge_runtime.alsa.samples import SampleConverter
from edge_runtime.errors import Failure
from edge_runtime.files.any_rate import AnyRateDenoiser
from edge_runtime.live.channels import Channels
from edge_runtime.live.control.controls import Settings
from edge_runtime.live.sound.front import AutoGain, FrontEnd, FrontSettings
from edge_runtime.live.status import Status

PERIOD_MS = 16.0


def heard(device: FakeDevice) -> np.ndarray:
    """(n_channels, n) float32 of all that was written to a playback device."""
    raw = np.concatenate([block for _, block in device.played])
    out = np.zeros((device.n_channels, len(raw)), np.float32)
    SampleConverter(device.format, device.n_channels, len(raw)).decode(raw, out)
    return out


def first_sound(samples: np.ndarray) -> int:
    return int(np.flatnonzero(np.abs(samples) > 1e-4)[0])


def place_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Where `part` lies in `whole`, by correlation."""
    size = 1 << int(np.ceil(np.log2(len(whole) + len(part))))
    found = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    return int(np.argmax(found[: len(whole)]))


def true_latency_ms(capture: FakeDevice, playback: FakeDevice, from_s: float = 2.0) -> float:
    """From the moment at which a sample was captured to the one at which it is played, in the world's time."""
    n_part = capture.rate_hz // 2
    at_capture = round(from_s * capture.rate_hz)
    part = capture.sound(at_capture, n_part)[0]
    out, starts_s = heard(playback)[0], [start for start, _ in playback.played]
    if playback.rate_hz != capture.rate_hz:
        import soxr

        part = soxr.resample(part, capture.rate_hz, playback.rate_hz)
    place = place_of(part, out)
    ends = np.cumsum([len(block) for _, block in playback.played])
    k = int(np.searchsorted(ends, place, side="right"))
    played_s = starts_s[k] + (place - (ends[k - 1] if k else 0)) / (playback.rate_hz * playback.clock)
    return 1000 * (played_s - at_capture / (capture.rate_hz * capture.clock))


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


def test_a_device_that_is_unplugged_is_awaited():
    world = World()
    world.absent = [(3.0, 8.0)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 10.0)
    assert status.n_disconnects == 1
    assert world.now_s > 15  # ten seconds of sound, five without
    assert true_latency_ms(capture, playback, from_s=10.0) == pytest.approx(45.0, abs=0.1)


def test_a_device_that_is_not_there_at_the_start_is_a_failure_unless_it_shall_be_awaited():
    world = World()
    world.absent = [(0.0, 4.0)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    with pytest.raises(Failure, match="fake: capture cannot be opened"):
        run(world, capture, playback, 1.0)
    seen: list[tuple[str, str]] = []
    status = Status()
    sleep = world.sleep
    world.sleep = lambda s: (seen.append(status.doing), sleep(s))[1]  # type: ignore[method-assign]
    run(world, capture, playback, 1.0, status=status, waits=True)
    assert seen[0] == ("waiting", "fake: capture cannot be opened (No such device); plug it in")
    assert status.doing == ("stopped", "")


def test_a_microphone_that_comes_after_a_day_is_awaited_so_long():
    """With nothing that grows meanwhile: 172,800 tries."""
    world, day_s = World(), 86_400.0
    world.absent = [(0.0, day_s)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 2.0, waits=True)
    assert day_s + 2 < world.now_s < day_s + 4
    assert (status.doing[1], status.n_disconnects, status.n_starts) == ("", 0, 0)
    assert true_latency_ms(capture, playback, from_s=day_s + 1) == pytest.approx(45.0, abs=0.1)


@pytest.mark.parametrize("n_times", [1, 3])
def test_a_suspend_is_counted_and_sound_goes_on_as_before(n_times):
    world = World()
    world.suspends = [3.0 + k for k in range(n_times)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 10.0)
    assert (status.n_suspends, status.n_disconnects, status.n_stalls) == (n_times, 0, 0)
    assert (status.n_overruns, status.n_underruns) == (0, 0)
    assert world.now_s < 12
    assert true_latency_ms(capture, playback, from_s=7.0) == pytest.approx(45.0, abs=0.1)


@pytest.mark.parametrize("away_s", [0.0, 5.0])
def test_a_sound_server_that_is_restarted_or_changed_is_opened_anew(away_s):
    """What was open says xrun for ever; while no server runs, the status says what is missing."""
    world, waits_for = World(), set[str]()
    world.restarts, world.absent = [3.0], [(5.0, 5.0 + away_s)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status, sleep = Status(), world.sleep
    world.sleep = lambda s: (waits_for.add(status.doing[1]), sleep(s))[1]  # type: ignore[method-assign]
    run(world, capture, playback, 10.0, status=status)
    assert status.n_disconnects >= 1
    assert world.now_s < 12 + away_s
    assert waits_for - {""} == ({"fake: capture cannot be opened (No such device); plug it in"} if away_s else set())
    assert status.doing[1] == ""
    assert true_latency_ms(capture, playback, from_s=8.0 + away_s) == pytest.approx(45.0, abs=0.1)


def test_a_card_that_comes_back_under_another_number_is_found_by_its_name():
    """As ALSA finds it: the name is looked up whenever it is opened."""
    world, opened = World(), []
    world.absent = [(3.0, 6.0)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)

    def open_pcm(name, direction, wish):
        cards = ["playback", "capture"] if world.now_s < 3.0 else ["webcam", "playback", "capture"]
        pcm = {"capture": capture, "playback": playback}[name].open(direction, wish)
        opened.append((name, cards.index(name)))
        return pcm

    status = run(world, capture, playback, 8.0, open_pcm=open_pcm)
    assert opened == [("capture", 1), ("playback", 0), ("capture", 2), ("playback", 1)]
    assert status.n_disconnects == 1
    assert true_latency_ms(capture, playback, from_s=8.0) == pytest.approx(45.0, abs=0.1)


class Dead(FakePcm):
    """It can be opened, and that is all, or reads so often, until `until_s`."""

    until_s, fails_with, n_reads = 5.0, Outcome.DISCONNECTED, 0

    def read(self, block, n=None, timeout_ms=1000):
        self.n_reads -= 1
        if self.world.now_s >= self.until_s or self.n_reads >= 0:
            return super().read(block, n, timeout_ms)
        self.last_errno = errno.ENODEV
        if self.fails_with is Outcome.TIMEOUT:
            self.world.sleep(timeout_ms / 1000)
        return self.fails_with


DEAD = [
    (0, Outcome.DISCONNECTED, "does not run (No such device)"),
    (0, Outcome.XRUN, "does not run (No such device)"),
    (0, Outcome.TIMEOUT, "does not run (its clock stands still)"),
    (30, Outcome.DISCONNECTED, "runs for a moment (No such device)"),  # a third of a second
    (30, Outcome.TIMEOUT, "runs for a moment (its clock stands still)"),
]


@pytest.mark.parametrize(("n_reads", "fails_with", "what"), DEAD)
def test_a_device_that_opens_and_does_not_run_is_awaited_and_told(monkeypatch, n_reads, fails_with, what):
    """Such a stream was opened anew all the time, as fast as the board could, and called starting."""
    world, waits_for = World(), []
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    monkeypatch.setattr(Dead, "fails_with", fails_with)
    monkeypatch.setattr(Dead, "n_reads", n_reads)
    capture.open = lambda direction, wish: Dead(capture, direction, 4096)  # type: ignore[method-assign]
    status, sleep = Status(), world.sleep
    world.sleep = lambda s: (waits_for.append(status.doing), sleep(s))[1]  # type: ignore[method-assign]
    run(world, capture, playback, 2.0, status=status)
    told = [reason.partition("; ")[0] for state, reason in waits_for if state == "waiting"]
    assert set(told) == {f"fake: capture opens and {what}"}
    assert len(told) < 12
    assert status.doing == ("stopped", "")
    assert true_latency_ms(capture, playback, from_s=world.now_s - 1.5) == pytest.approx(45.0, abs=0.1)


CANNOT_COME = [
    ({"band": "full"}, {"rate_hz": 20_001}, "capture: no full band: .*; --band speech ends at 8 kHz"),
    ({"channels": Channels((5,))}, {}, r"has 1 channel\(s\), not 5; choose from 1 to 1"),
    ({"channels": Channels((1, 2))}, {"n_channels": 2}, r"has 1 channel\(s\) for 2 streams; choose fewer"),
]


@pytest.mark.parametrize(("plan", "has", "message"), CANNOT_COME)
def test_what_cannot_come_is_not_awaited(plan, has, message):
    world = World()
    world.absent = [(0.0, 2.0)]
    with pytest.raises(Failure, match=message):
        run(world, FakeDevice(world, sound=noise(), **has), FakeDevice(world, 48_000), 1.0, waits=True, **plan)
    assert world.now_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("own", "other", "plan"),
    [
        ({"n_channels": 2}, {"n_channels": 1}, {"channels": Channels((2,))}),
        ({"rate_hz": 48_000}, {"rate_hz": 20_001}, {"band": "full"}),
    ],
)
def test_a_device_that_comes_back_unfit_is_awaited_all_the_same(own, other, plan):
    """Perhaps another one was plugged in: this stream has run, and goes on when its own is back."""
    world = World()
    world.absent = [(3.0, 4.0)]
    has = {"rate_hz": 16_000, "n_channels": 1, **own}
    capture = FakeDevice(world, **has, sound=noise(has["n_channels"], rate_hz=has["rate_hz"]))
    others, playback = FakeDevice(world, **other), FakeDevice(world, 48_000)

    def open_pcm(name, direction, wish):
        is_other = name == "capture" and 3.0 < world.now_s < 6.0
        return (others if is_other else capture if name == "capture" else playback).open(direction, wish)

    status = run(world, capture, playback, 6.0, open_pcm=open_pcm, **plan)
    assert status.n_disconnects == 1
    assert world.now_s > 9.0


def test_nothing_is_heard_while_a_device_is_awaited():
    world, levels = World(), set()
    world.absent = [(3.0, 8.0)]
    status, sleep = Status(), world.sleep
    world.sleep = lambda s: (levels.add(status.levels_dbfs), sleep(s))[1]  # type: ignore[method-assign]
    run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 4.0, status=status)
    assert ((-120.0, -120.0),) in levels


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


def test_channels_are_denoised_apart_and_mixed_on_demand():
    world = World()
    sound = noise(3)
    apart = [FakeDenoiser(world, gain=1.0), FakeDenoiser(world, gain=0.25)]
    playback = FakeDevice(world, n_channels=2)
    run(world, FakeDevice(world, n_channels=3, sound=sound), playback, 3.0, apart, channels=Channels((3, 1)))
    left, right = heard(playback)[:, -16_000:]
    start = place_of(left[:4000], sound(0, 100_000)[2])
    assert np.array_equal(left, sound(start, 16_000)[2])
    assert np.allclose(right, 0.25 * sound(start, 16_000)[0])

    world = World()
    playback = FakeDevice(world, n_channels=2)
    run(world, FakeDevice(world, n_channels=3, sound=sound), playback, 3.0, [FakeDenoiser(world, gain=1.0)])
    left, right = heard(playback)[:, -16_000:]
    start = place_of(left[:4000], sound(0, 100_000).mean(0))
    assert np.array_equal(left, right)
    assert np.allclose(left, sound(start, 16_000).mean(0), atol=1e-7)


ASKED = [
    # (--channels, the device, how many channels it is asked for)
    ("auto", "plughw:CARD=Mic", 2), ("auto", "default", 2), ("mix", "pipewire:NODE=mic", 2), ("auto", "sysdefault", 2),
    ("auto", "hw:CARD=Mic", 1), ("mix", "microphone", 1), ("1", "plughw:CARD=Mic", 1), ("2", "hw:CARD=Mic", 2),
    ("1,4", "default", 4),
]  # fmt: skip


@pytest.mark.parametrize(("text", "device", "n"), ASKED)
def test_what_would_mix_two_channels_is_asked_for_both(text, device, n):
    assert Channels.parse(text, None).n_near(device) == n


def silent_in(rows: tuple[int, ...], sound, n: int):
    """The same, those rows silent."""

    def some(start: int, n_frames: int) -> np.ndarray:
        block = sound(start, n_frames).copy()
        block[list(rows)] = 0
        return block

    return some


MEANS = [
    # (what, channels of the device, silent ones from 0, what is asked, row of the capture that is heard, what is said)
    (
        "one slot of two",
        2,
        (0,),
        "auto",
        1,
        "channel 1 is silent and left out of the mean; --channels 2 says so for good",
    ),
    (
        "the other slot",
        2,
        (1,),
        "mix",
        0,
        "channel 2 is silent and left out of the mean; --channels 1 says so for good",
    ),
    ("an array", 6, (), "auto", 0, "6 channels: 1 is taken, others may hold the loudspeaker; --channels mix takes all"),
    ("an array, its first dead", 4, (0,), "auto", 1, "4 channels: 2 is taken, others may hold the loudspeaker; --chan"),
    ("one of many", 4, (0, 1, 3), "mix", 2, "channel 1,2,4 is silent and left out of the mean; --channels 3 says so"),
    ("as asked", 2, (0,), "2", 1, ""),
    ("a dead one as asked", 2, (0,), "1", 0, "channel 1 is silent"),
    ("nothing", 2, (0, 1), "auto", 0, "no sound: every channel is silent; is it muted? (`alsamixer`, F4)"),
    ("nothing, mono", 1, (0,), "auto", 0, "no sound: the microphone is silent; is it muted? (`alsamixer`, F4)"),
]


@pytest.mark.parametrize(("what", "n", "silent", "asked", "row", "said"), MEANS, ids=[row[0] for row in MEANS])
def test_a_silent_channel_costs_no_level_and_is_told(what, n, silent, asked, row, said):
    world, status = World(), Status()
    sound, playback = silent_in(silent, noise(n), n), FakeDevice(world)
    capture = FakeDevice(world, n_channels=n, sound=sound)
    denoiser = FakeDenoiser(world, gain=1.0)
    run(world, capture, playback, 4.0, [denoiser], status, channels=Channels.parse(asked, n))
    out = heard(playback)[0][-16_000:]
    start = place_of(out[:4000], noise(n)(0, 100_000)[row]) if row not in silent else 0
    assert np.array_equal(out, sound(start, 16_000)[row])
    (note, *others) = status.snapshot()["notes"] or [""]
    assert note.startswith(said) if said else note == ""
    assert others == []


def test_a_channel_that_begins_late_is_told_and_one_that_ends_is_left_out_along_a_line():
    world, status = World(), Status()
    sound = noise(2)

    def late(start: int, n: int) -> np.ndarray:
        block, at = sound(start, n).copy(), np.arange(start, start + n)
        block[1, (at < 5 * 16_000) | (at >= 10 * 16_000)] = 0
        return block

    playback, notes = FakeDevice(world), []
    denoiser = FakeDenoiser(world, cost_s=lambda _: notes.append(status.snapshot()["notes"]) or 0.0, gain=1.0)
    run(world, FakeDevice(world, n_channels=2, sound=late), playback, 20.0, [denoiser], status)
    out = heard(playback)[0]
    level = [float(np.std(out[k * 16_000 : (k + 1) * 16_000])) for k in (3, 8, 18)]
    assert level == pytest.approx([0.1, 0.1 / np.sqrt(2), 0.1], rel=0.03)
    assert np.abs(out).max() < 0.6
    said = [note for k, note in enumerate(notes) if k == 0 or note != notes[k - 1]]
    assert [part[0][:22] for part in said[1:]] == [
        "channel 2 is silent an",
        "channel 2 began after ",
        "channel 2 is silent an",
    ]
    assert status.silent_channels == (2,)


def test_an_offset_of_the_microphone_is_told():
    world, status = World(), Status()
    sound = noise(scale=0.001)
    capture = FakeDevice(world, sound=lambda start, n: sound(start, n) + np.float32(0.03))
    run(world, capture, FakeDevice(world), 10.0, status=status, front=FrontSettings(highpass_hz=0.0))
    (note,) = status.snapshot()["notes"]
    assert note == "the microphone has an offset of -30 dBFS; see `edge-denoise doctor --capture`"
    assert status.snapshot()["level_in_dbfs"] == pytest.approx(-60.0, abs=1.0)


@pytest.mark.parametrize(("offset", "is_taken_off"), [(0.03, True), (0.0, False)])
def test_an_offset_is_taken_off_where_there_is_one_and_else_nothing_is_touched(offset, is_taken_off):
    world, status, sound = World(), Status(), noise(scale=0.001)
    capture, playback = (
        FakeDevice(world, sound=lambda start, n: sound(start, n) + np.float32(offset)),
        FakeDevice(world),
    )
    run(world, capture, playback, 6.0, [FakeDenoiser(world, gain=1.0)], status)
    shown, out = status.snapshot(), heard(playback)[0, -32_000:]
    assert shown["highpass_hz"] == (60.0 if is_taken_off else None)
    said = "offset or rumble of -30 dBFS is taken off; --highpass 60 says so for good, off leaves it"
    assert shown["notes"] == ([said] if is_taken_off else [])
    assert abs(out.mean()) < 1e-5
    if not is_taken_off:
        start = place_of(out[:4000], sound(0, 100_000)[0])
        assert np.array_equal(out, sound(start, 32_000)[0])


def speaking(level_dbfs: float, noise_dbfs: float, seconds: float = 40.0) -> np.ndarray:
    """Speech-like bursts, half of every second, in noise that never ends."""
    n = round(seconds * 16_000)
    random = np.random.default_rng(4)
    voice = random.normal(0, 10 ** (level_dbfs / 20), n) * (np.arange(n) // 8000 % 2)
    return (voice + random.normal(0, 10 ** (noise_dbfs / 20), n)).astype(np.float32)


class Ideal(FakeDenoiser):
    """Lets speech through, by its level, and takes noise away."""

    def __init__(self, world: World, threshold_dbfs: float) -> None:
        super().__init__(world, gain=1.0)
        self.threshold_dbfs = threshold_dbfs

    def step(self, hop: np.ndarray, out: np.ndarray) -> None:
        super().step(hop, out)
        if 10 * np.log10(np.mean(out**2) + 1e-12) < self.threshold_dbfs:
            out *= np.float32(0.03)


GAINS = [
    # what, level of speech and of noise, dBFS, gain asked: gain had after 35 s
    ("quiet", -50.0, -80.0, None, 24.0),
    ("very quiet: no more than the most", -65.0, -90.0, None, 30.0),
    ("loud enough", -24.0, -60.0, None, 0.0),
    ("noise alone", -150.0, -50.0, None, 0.0),
    ("as asked", -50.0, -80.0, 12.5, 12.5),
]


@pytest.mark.parametrize(("what", "level_dbfs", "noise_dbfs", "asked_db", "had_db"), GAINS, ids=[r[0] for r in GAINS])
def test_the_input_gain_follows_speech_and_never_noise(what, level_dbfs, noise_dbfs, asked_db, had_db):
    world, status, sound = World(), Status(), speaking(level_dbfs, noise_dbfs)
    capture = FakeDevice(world, sound=lambda start, n: np.take(sound, np.arange(start, start + n), mode="wrap")[None])
    # the threshold moves with the gain, as a network's does: 10 dB above the noise
    ideal = Ideal(world, 0.0)
    step = ideal.step

    def follow(hop: np.ndarray, out: np.ndarray) -> None:
        ideal.threshold_dbfs = noise_dbfs + 10 + status.input_gain_db
        step(hop, out)

    ideal.step = follow
    run(world, capture, FakeDevice(world), 35.0, [ideal], status, front=FrontSettings(gain_db=asked_db))
    assert status.snapshot()["input_gain_db"] == pytest.approx(had_db, abs=1.5)


def test_a_gain_gives_way_at_once_to_what_is_loud():
    gain = AutoGain()
    for _ in range(2000):
        gain.learn(-50.0 + gain.gain_db, -50.0 + gain.gain_db)
    assert gain.gain_db == pytest.approx(24.0, abs=0.1)
    gain.limit(0.5)
    assert gain.gain_db == pytest.approx(20 * np.log10(0.9 / 0.5), abs=0.01)


@pytest.mark.parametrize(("rate_hz", "cutoff_hz"), [(16_000, 60.0), (48_000, 60.0), (192_000, 60.0), (44_100, 120.0)])
def test_the_high_pass_is_3_db_down_at_its_frequency_and_flat_above(rate_hz, cutoff_hz):
    at_s = np.arange(2 * rate_hz) / rate_hz
    for hz, wanted_db, within_db in ((cutoff_hz, -3.0, 0.05), (5 * cutoff_hz, 0.0, 0.02), (cutoff_hz / 4, -24.1, 0.3)):
        front = FrontEnd(FrontSettings(highpass_hz=cutoff_hz), rate_hz, 1)
        tone = (0.5 + 0.1 * np.sin(2 * np.pi * hz * at_s)).astype(np.float32)[None]  # on an offset, which goes
        for start in range(0, tone.shape[1], 1000):
            front.run(tone[:, start : start + 1000])
        level_db = 20 * np.log10(np.std(tone[0, rate_hz:]) / (0.1 / np.sqrt(2)))
        assert level_db == pytest.approx(wanted_db, abs=within_db)
        assert abs(tone[0, rate_hz:].mean()) < 1e-4


def test_the_best_channel_is_the_loudest_that_never_pauses():
    """The left slot is empty, the fourth is what a loudspeaker plays, louder than all and now and then."""
    world, status = World(), Status()
    rows = noise(4)

    def sound(start: int, n: int) -> np.ndarray:
        plays = (np.arange(start, start + n) // 16_000 % 3 == 2).astype(np.float32)
        return rows(start, n) * np.array([[0.0], [0.3], [1.0], [4.0]], np.float32) * np.stack([plays**0] * 3 + [plays])

    playback = FakeDevice(world)
    capture = FakeDevice(world, n_channels=4, sound=sound)
    run(world, capture, playback, 12.0, [FakeDenoiser(world, gain=1.0)], status, channels=Channels.parse("best", None))
    assert status.snapshot()["notes"] == ["channel 3 of 4 is taken; --channels 3 says so for good"]
    out = heard(playback)[0, -64_000:]
    start = place_of(out[:4000], rows(0, 300_000)[2])
    np.testing.assert_allclose(out, rows(start, 64_000)[2], atol=1e-6)


@pytest.mark.parametrize(("channels", "weights"), [("best", [1, 0]), ("mix", [0.5, 0.5]), ("1", [1, 0])])
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_changes_no_other_sample_and_no_choice(channels, weights, odd):
    """It once made its channel the best one for good."""
    world, rows, scale = World(), noise(2), np.array([[1.0], [0.1]], np.float32)

    def sound(start: int, n: int) -> np.ndarray:
        out = rows(start, n) * scale
        out[1, np.arange(start, start + n) == 16_000] = odd
        return out

    playback, capture = FakeDevice(world), FakeDevice(world, n_channels=2, sound=sound)
    status = run(world, capture, playback, 4.0, [FakeDenoiser(world, gain=1.0)], channels=Channels.parse(channels, 2))
    assert status.n_repaired == 1
    wanted, out = weights @ (rows(0, 100_000) * scale), heard(playback)[0, -16_000:]
    start = place_of(out[:4000], wanted)
    np.testing.assert_allclose(out, wanted[start : start + 16_000], atol=1e-6)


BAD_CHANNELS = [
    ("both", None, "--channels is 'both'; give best, mix, all, or numbers from 1 such as 1,3"),
    ("0", None, "--channels is '0'"),
    ("1,,2", None, "--channels is '1,,2'"),
    ("all", None, "--channels all needs a number; give --capture-channels N as well"),
]


@pytest.mark.parametrize(("text", "n_opened", "message"), BAD_CHANNELS)
def test_channels_that_cannot_be_are_refused(text, n_opened, message):
    with pytest.raises(Failure) as failure:
        Channels.parse(text, n_opened)
    assert str(failure.value).startswith(message)


def test_a_device_with_too_few_channels_is_refused():
    world = World()
    with pytest.raises(Failure, match=r"capture: has 2 channel\(s\), not 3; choose from 1 to 2, or `mix`"):
        run(world, FakeDevice(world, n_channels=2), FakeDevice(world), 1.0, channels=Channels((3,)))
    with pytest.raises(Failure, match=r"fake: has 1 channel\(s\) for 2 streams"):
        run(world, FakeDevice(world, n_channels=2), FakeDevice(world), 1.0, channels=Channels((1, 2)))


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
