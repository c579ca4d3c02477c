"""Round trip by correlation: exact on loops with a known delay, and refused where nothing comes back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_sound import FakeDevice, World
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.alsa.pcm import Direction, Unfit, Wish
from edge_runtime.cli import main
from edge_runtime.doctor import latency
from edge_runtime.doctor.latency import lines, measure
from edge_runtime.doctor.round_trip import AMPLITUDE, MLS_ORDER, Heard, find, mls, summarise
from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array

RATE_HZ = 16_000


class Loop:
    """A cable of a known delay, gain and noise, and perhaps an echo, or a clock that slips."""

    rate_hz = playback_rate_hz = RATE_HZ
    n_xruns = 0
    converter_ms = 0.0

    def __init__(self, delay: int, gain: float = 1.0, noise: float = 0.0, period: int = 256, echo: float = 0.0) -> None:
        self.period_samples = period
        self._line = np.zeros(delay, np.float32)
        self._echo_line = np.zeros(delay + 900, np.float32)
        self._gain, self._noise, self._echo = gain, noise, echo
        self._random = np.random.default_rng(delay)

    def exchange(self, played: Float32Array) -> Float32Array:
        self._line = np.concatenate((self._line, played))
        self._echo_line = np.concatenate((self._echo_line, played))
        heard = self._gain * (self._line[: played.size] + self._echo * self._echo_line[: played.size])
        self._line, self._echo_line = self._line[played.size :], self._echo_line[played.size :]
        return (heard + self._random.normal(0, self._noise, played.size)).astype(np.float32)


@pytest.mark.parametrize("order", [10, 11, 12, 13, 14, 15])
def test_the_stimulus_is_a_maximum_length_sequence(order: int) -> None:
    """Golomb's property: the circular autocorrelation is N at 0 and -1 elsewhere; nothing shorter has it."""
    sequence = mls(order).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(sequence)) ** 2
    correlation = np.rint(np.fft.irfft(spectrum, sequence.size))
    assert sequence.size == 2**order - 1
    assert correlation[0] == sequence.size
    assert (correlation[1:] == -1).all()


@settings(max_examples=15, deadline=None)
@given(
    delay=st.integers(256, 15_000),
    gain=st.sampled_from([1.0, -1.0, 0.1, 0.003]),
    snr_db=st.floats(-6, 60),
    period=st.sampled_from([64, 256, 441]),
)
def test_the_delay_is_found_to_the_sample(delay: int, gain: float, snr_db: float, period: int) -> None:
    noise = AMPLITUDE * abs(gain) * 10 ** (-snr_db / 20)
    found = measure(Loop(delay, gain, noise, period), n_repeats=2)
    assert found["repeats"] == [delay] * 2
    assert found["delay_samples"] == delay
    assert found["spread_samples"] == 0
    assert found["delay_ms"] == pytest.approx(1000 * delay / RATE_HZ, abs=0.001)
    assert found["is_inverted"] == (gain < 0)


def test_the_direct_sound_wins_over_an_echo_at_half_its_level() -> None:
    assert measure(Loop(700, echo=0.2))["delay_samples"] == 700


SILENT = [
    ("nothing comes back", Loop(300, gain=0.0)),
    ("only noise comes back", Loop(300, gain=0.0, noise=0.1)),
    ("it is 40 dB below the noise", Loop(300, gain=0.004, noise=0.1)),
    ("it comes too late, in the next repeat", Loop(2 * RATE_HZ)),
]


@pytest.mark.parametrize(("case", "loop"), SILENT)
def test_nothing_heard_is_refused_with_the_remedy(case: str, loop: Loop) -> None:
    with pytest.raises(Failure, match=r"came back in [0-2] of 5 repeats; connect playback to capture"):
        measure(loop)


def test_noise_alone_is_never_taken_for_the_stimulus() -> None:
    random, stimulus = np.random.default_rng(3), mls()
    for _ in range(20):
        assert find(random.normal(0, 1, 24_000).astype(np.float32), stimulus, RATE_HZ) is None


def test_one_repeat_that_went_wrong_does_not_move_the_result() -> None:
    heard = [Heard(500, 30.0, False), None, Heard(500, 31.0, False), Heard(1012, 25.0, False), Heard(500, 30.0, False)]
    found = summarise(heard, RATE_HZ)
    assert (found.delay_samples, found.spread_samples, found.confidence_db) == (500, 512, 25.0)


class Breaking(Loop):
    """A loop with an xrun in every `each`-th exchange."""

    def __init__(self, each: int) -> None:
        super().__init__(1024)
        self._each, self._n_exchanges = each, 0

    def exchange(self, played: Float32Array) -> Float32Array:
        self._n_exchanges += 1
        self.n_xruns = self._n_exchanges // self._each
        return super().exchange(played)


def test_a_repeat_with_an_xrun_in_it_does_not_count() -> None:
    found = measure(Breaking(each=250))  # a repeat has 95 periods
    assert (found["repeats"], found["n_xruns"]) == ([1024] * 4, 1)


def test_a_stream_that_keeps_breaking_is_a_failure() -> None:
    with pytest.raises(Failure, match="xruns before the first stimulus; give it more"):
        measure(Breaking(each=3))


class Known(Loop):
    """Stands for two ALSA devices."""

    def __init__(self, *_named: object) -> None:
        super().__init__(1024)

    def __enter__(self) -> Known:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass


def test_the_command_prints_figures(monkeypatch, capsys) -> None:
    monkeypatch.setattr(latency, "AlsaDuplex", Known)
    command = ["latency", "--capture", "a", "--playback", "b", "--repeats", "2"]
    assert main(command) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "round trip 1024 samples at 16000 Hz, 64.00 ms"
    assert second.startswith("2 repeats, 0 samples apart")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repeats"] == [1024, 1024]


def test_an_inverted_loop_is_named() -> None:
    assert "inverted" in lines(measure(Loop(512, gain=-1), n_repeats=1))[-1]


def cable(playback: FakeDevice, late_s: float):
    """What a microphone on a cable hears of what is played, some time later."""

    def sound(rate_hz: int):
        def heard(start: int, n: int) -> np.ndarray:
            out = np.zeros(n)
            if playback.played:
                blocks = playback.played[-40:]
                step_s = 1 / playback.rate_hz
                at_s = np.concatenate([t + step_s * np.arange(len(block)) for t, block in blocks])
                values = np.concatenate([block[:, 0] for _, block in blocks])
                out = np.interp(np.arange(start, start + n) / rate_hz - late_s, at_s, values, left=0, right=0)
            return out[None].astype(np.float32)

        return heard

    return sound


PAIRS = [(16_000, 16_000), (48_000, 48_000), (44_100, 48_000), (48_000, 44_100), (16_000, 48_000), (48_000, 16_000)]


@pytest.mark.parametrize(("capture_hz", "playback_hz"), PAIRS)
def test_devices_of_two_rates_are_measured_and_the_converter_is_told(capture_hz, playback_hz) -> None:
    world = World()
    playback = FakeDevice(world, playback_hz)
    capture = FakeDevice(world, capture_hz, sound=cable(playback, 0.010)(capture_hz))

    def opened(name: str, direction: Direction, wish: Wish):
        device = capture if name == "microphone" else playback
        if wish.rate_hz not in (None, device.rate_hz):
            raise Unfit(f"{direction} cannot run at {wish.rate_hz} Hz", where=name)
        return device.open(direction, wish)

    with latency.AlsaDuplex("microphone", "speaker", Wish(), 12.0, open_pcm=opened) as duplex:
        found = measure(duplex, n_repeats=2)
    assert (found["rate_hz"], found["playback_rate_hz"]) == (capture_hz, playback_hz)
    assert (found["converter_ms"] > 0) == (capture_hz != playback_hz)
    assert found["n_xruns"] == 0
    wanted_ms = 10.0 + 16.0 + 12.0 + found["converter_ms"]  # the cable, a period, the margin
    assert found["delay_ms"] == pytest.approx(wanted_ms, abs=0.2)
    assert len(lines(found)) == 2 + (capture_hz != playback_hz)


def test_a_sample_that_is_not_finite_is_no_round_trip() -> None:
    """A NaN was the largest correlation, at 0."""
    world = World()
    playback = FakeDevice(world)
    hears = cable(playback, 0.010)(16_000)
    odd = FakeDevice(
        world, sound=lambda start, n: np.where(np.arange(start, start + n) % 16_000, hears(start, n), np.nan)
    )
    devices = {"microphone": odd, "speaker": playback}
    opened = lambda name, direction, wish: devices[name].open(direction, wish)  # noqa: E731
    with latency.AlsaDuplex("microphone", "speaker", Wish(), 12.0, open_pcm=opened) as duplex:
        assert measure(duplex, n_repeats=2)["delay_ms"] == pytest.approx(38.0, abs=0.2)


def test_a_rate_that_is_asked_for_is_no_wish() -> None:
    def opened(name: str, direction: Direction, wish: Wish):
        raise Unfit("cannot run at 44100 Hz", where=name, remedy="leave --rate out")

    with pytest.raises(Failure, match="cannot run at 44100 Hz"):
        latency.AlsaDuplex("a", "b", Wish(44_100), 12.0, open_pcm=opened)


@pytest.mark.parametrize("option", [["--periods", "1"], ["--repeats", "0"], ["--rate", "1"], ["--rate", "x"]])
def test_odd_numbers_are_usage_errors(option: list[str], capsys) -> None:
    assert main(["latency", "--capture", "a", "--playback", "b", *option]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_stimulus_is_half_a_second() -> None:
    duration_s = (2**MLS_ORDER - 1) / RATE_HZ
    assert duration_s == pytest.approx(0.512, abs=0.001)


@pytest.mark.audio
@pytest.mark.slow  # needs a calm machine: one that is late loses sound
def test_on_a_sound_server_a_known_delay_is_found(tmp_path: Path) -> None:
    """Speaker linked to microphone; 16 ms more silence queued ahead must be 256 samples more, exactly."""
    from rigs import pipewire

    if missing := pipewire.missing():
        pytest.skip(f"needs {missing}")
    with pipewire.Graph(tmp_path) as graph:
        graph.link("fakespk:monitor_", "fakemic:input_")
        trips = [json.loads(_latency_in(graph, margin_ms)) for margin_ms in (12, 28)]
    assert [trip["spread_samples"] for trip in trips] == [0, 0]
    assert trips[1]["delay_samples"] - trips[0]["delay_samples"] == 256


def _latency_in(graph, margin_ms: int) -> str:
    from rigs import pipewire

    ends = ["--capture", pipewire.MICROPHONE, "--playback", pipewire.SPEAKER, "--margin-ms", str(margin_ms)]
    done = graph.run(sys.executable, "-m", "edge_runtime.cli", "latency", *ends, "--repeats", "3", "--json")
    assert done.returncode == 0, done.stderr
    return done.stdout
