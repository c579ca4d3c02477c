"""The full band: what lies above 8 kHz goes the way of the highest band that the network hears, and never louder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy  # which loads scipy.signal, seconds, only when a test asks for it
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.band import FULL, SPEECH, Band, Filters, FullBandDenoiser, chosen
from edge_runtime.errors import Failure
from edge_runtime.stft import HOP_SAMPLES, Float32Array

RATES = [22_050, 24_000, 32_000, 44_100, 48_000, 96_000]


class Network:
    """What a denoiser is to the full band: a hop behind, and the rest as the test says of the stream so far."""

    def __init__(self, heard: Callable[[Float32Array], Float32Array] = lambda recent: recent) -> None:
        self._heard = heard
        self.reset()

    def reset(self) -> None:
        self._recent = np.zeros(4 * HOP_SAMPLES, np.float32)

    def step(self, hop: Float32Array, out: Float32Array) -> None:
        """The last but one hop; before it some past for a filter."""
        self._recent = np.concatenate([self._recent[HOP_SAMPLES:], hop])
        out[:] = self._heard(self._recent)[2 * HOP_SAMPLES : 3 * HOP_SAMPLES]


def noise(rate_hz: int, seconds: float = 2.0) -> Float32Array:
    return np.random.default_rng(3).normal(0, 0.1, round(rate_hz * seconds)).astype(np.float32)


def through(network: Network, samples: Float32Array, rate_hz: int) -> Float32Array:
    stream = FullBandDenoiser(network, Filters(rate_hz))  # type: ignore[arg-type]
    return np.concatenate([stream.feed(samples), stream.flush()])


def gains_db(samples: Float32Array, out: Float32Array, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and how much of the power at each is in `out`."""
    skip = rate_hz // 4  # until the gain has found its place
    frequency_hz, power_in = scipy.signal.welch(samples[skip:], rate_hz, nperseg=2048)
    _, power_out = scipy.signal.welch(out[skip:], rate_hz, nperseg=2048)
    return frequency_hz, 10 * np.log10(power_out / power_in + 1e-12)


def attenuated_above(gain: float, cut_hz: float) -> Callable[[Float32Array], Float32Array]:
    """Everything above `cut_hz` at 16 kHz times `gain`, in phase."""
    taps = scipy.signal.firwin(201, cut_hz, fs=16_000)

    def heard(recent: Float32Array) -> Float32Array:
        low = np.convolve(recent, taps, mode="same")
        return (gain * recent + (1 - gain) * low).astype(np.float32)

    return heard


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_network_that_changes_nothing_changes_nothing(rate_hz):
    """Through the seam, up to the rate's own end."""
    samples = noise(rate_hz)
    out = through(Network(), samples, rate_hz)
    assert out.shape == samples.shape
    assert np.abs(out - samples).max() < 1e-6


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("gain", [0.5, 0.1, 0.01])
def test_what_is_above_passes_as_the_highest_band_does(rate_hz, gain):
    samples = noise(rate_hz)
    frequency_hz, db = gains_db(samples, through(Network(attenuated_above(gain, 5000)), samples, rate_hz), rate_hz)
    wanted_db = 20 * np.log10(gain)
    above = (frequency_hz > 6200) & (frequency_hz < 0.48 * rate_hz)
    assert np.abs(db[above] - wanted_db).max() < 0.5, "flat through the seam, and on"
    assert np.abs(db[(frequency_hz > 200) & (frequency_hz < 4000)]).max() < 0.1


@pytest.mark.parametrize("gain", [1.0, 2.0, 30.0])
def test_what_is_above_is_never_louder_than_it_came(gain):
    samples = noise(48_000)
    out = through(Network(lambda recent: gain * recent), samples, 48_000)
    frequency_hz, db = gains_db(samples, out, 48_000)
    assert np.abs(db[frequency_hz > 9000]).max() < 0.01


def test_a_silent_network_leaves_nothing_above_either():
    samples = noise(48_000)
    out = through(Network(lambda recent: 0 * recent), samples, 48_000)
    assert np.abs(out[12_000:]).max() < 1e-7


def test_it_opens_with_a_sibilant_and_closes_behind_it():
    """A network that lets through what it hears from 0.5 to 0.7 s: above, the sound is there within 8 ms and gone, by
    40 dB, 60 ms after."""
    rate_hz, n_seen = 48_000, [0]

    def heard(recent: Float32Array) -> Float32Array:
        n_seen[0] += HOP_SAMPLES
        at_s = (n_seen[0] - 4 * HOP_SAMPLES + np.arange(recent.size)) / 16_000
        return (recent * ((at_s > 0.5) & (at_s < 0.7))).astype(np.float32)

    samples = noise(rate_hz, 1.504)
    out = through(Network(heard), samples, rate_hz)
    sections = np.array([[1, -2, 1, 1, 1.2, 0.45]])  # some high-pass
    before, after = scipy.signal.sosfilt(sections, samples), scipy.signal.sosfilt(sections, out)
    level_db = 10 * np.log10((after**2).reshape(-1, 384).mean(1) / (before**2).reshape(-1, 384).mean(1) + 1e-12)
    at_s = np.arange(level_db.size) * 0.008
    delay_s = 0.0045  # of the filter to 16 kHz, which the network's clock does not know
    assert level_db[(at_s > 0.516 + delay_s) & (at_s < 0.68)].min() > -1
    assert level_db[at_s > 0.77].max() < -40


SOUNDS = [
    # what comes up in faint noise, which the network takes away all of: its length, how fast it dies away, the least
    # and the most of its energy that is heard above; where it begins as sharply as here, the first 16 ms are not
    ("a sibilant", 0.100, 0.0, 0.80, 1.0),
    ("a long sibilant", 0.300, 0.0, 0.93, 1.0),
    ("a click", 0.020, 0.0, 0.0, 1e-6),
    ("a cup that rings, 20 dB in 30 ms", 0.100, 667.0, 0.0, 1e-6),
]


@pytest.mark.parametrize("rate_hz", [22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(("what", "length_s", "fall_db_a_s", "least", "most"), SOUNDS, ids=[row[0] for row in SOUNDS])
def test_what_lasts_evenly_is_heard_without_the_network(rate_hz, what, length_s, fall_db_a_s, least, most):
    """And before and after it nothing is."""
    at_s = np.arange(2 * rate_hz) / rate_hz - 1.0
    shape = 0.001 + ((at_s >= 0) & (at_s < length_s)) * 10 ** (-fall_db_a_s * np.maximum(at_s, 0) / 20)
    samples = (shape * noise(rate_hz)).astype(np.float32)
    out = through(Network(lambda recent: 0 * recent), samples, rate_hz)
    high = scipy.signal.firwin(255, 9_000, fs=rate_hz, pass_zero=False)
    before, after = (np.convolve(one, high, mode="same") ** 2 for one in (samples, out))
    during = (at_s > -0.005) & (at_s < length_s + 0.005)
    assert least <= after[during].sum() / before[during].sum() <= most
    assert after[(at_s > -0.75) & (at_s < -0.02)].max() < 1e-9
    assert after[at_s > length_s + 0.05].max() < 1e-9


def test_noise_that_sets_in_is_heard_above_for_half_a_second_at_most():
    """Without a word of the network's; after silence, and out of fainter noise."""
    rate_hz = 48_000
    for floor in (0.0, 0.001):
        samples = (noise(rate_hz) * np.where(np.arange(2 * rate_hz) < rate_hz, floor, 1.0)).astype(np.float32)
        out = through(Network(lambda recent: 0 * recent), samples, rate_hz)
        assert np.abs(out[round(1.5 * rate_hz) :]).max() < 1e-6


@settings(max_examples=20, deadline=None)
@given(
    rate_hz=st.sampled_from([44_100, 48_000]),
    sizes=st.lists(st.sampled_from([1, 2, 7, 255, 705, 768, 769, 5000]), min_size=1, max_size=20),
)
def test_chunks_do_not_matter_and_reset_starts_over(rate_hz, sizes):
    samples = noise(rate_hz, 0.5)
    stream = FullBandDenoiser(Network(attenuated_above(0.3, 3000)), Filters(rate_hz))  # type: ignore[arg-type]
    wanted = np.concatenate([stream.feed(samples), stream.flush()])
    out, start = [], 0
    for size in [*sizes, samples.size]:
        out.append(stream.feed(samples[start : start + size]))
        start += size
    np.testing.assert_array_equal(np.concatenate([*out, stream.flush()]), wanted)


def test_the_hop_that_is_wanted_is_the_hop_that_comes():
    band = Band(Filters(44_100))
    for _ in range(200):
        n = band.n_wanted
        assert band.push(np.zeros(n - 1, np.float32)) == n - 1
        assert not band.is_whole
        assert band.push(np.zeros(5, np.float32)) == 1
        assert band.is_whole
        assert len(band.join(np.zeros(HOP_SAMPLES, np.float32))) in (705, 706)


@pytest.mark.parametrize(
    ("asked", "rate_hz", "band"),
    [
        (None, 16_000, SPEECH),
        (None, 8_000, SPEECH),
        (None, 48_000, FULL),
        (None, 44_100, FULL),
        (None, 47_999, SPEECH),  # no common grid: as it was
        (FULL, 16_000, SPEECH),  # nothing is above
        (FULL, 48_000, FULL),
        (SPEECH, 48_000, SPEECH),
    ],
)
def test_the_band_is_full_where_there_is_more_to_keep(asked, rate_hz, band):
    assert chosen(asked, rate_hz) == band


def test_a_full_band_that_cannot_be_kept_is_refused_in_one_line():
    message = "a.wav: no full band: 47999 Hz and 16000 Hz have no common grid; --band speech ends at 8 kHz"
    with pytest.raises(Failure) as failure:
        chosen(FULL, 47_999, "a.wav")
    assert str(failure.value) == message
