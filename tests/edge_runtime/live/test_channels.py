"""Channels of a microphone: denoised apart, mixed, chosen; silent ones, offsets, gain."""

from __future__ import annotations

import numpy as np
import pytest
from fake_sound import FakeDenoiser, FakeDevice, World, noise, run
from heard_sound import heard, place_of

from edge_runtime.errors import Failure
from edge_runtime.live.channels import Channels
from edge_runtime.live.sound.front import AutoGain, FrontEnd, FrontSettings
from edge_runtime.live.status import Status


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
