"""Speech in, ranges out: corpora and mixtures on small files, observers by the laws they claim."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration import corpus as corpus_module
from calibration.corpus import Corpus
from calibration.mixing import Clip, Mix, measure_level_dbfs, measure_snr_db, mixtures
from calibration.observers import (
    OBSERVERS,
    SMALLEST_PEAK,
    ChannelMax,
    Histogram,
    MinMax,
    MinMse,
    Observer,
    Percentile,
)
from calibration.ranges import Provenance, Ranges, TapRange
from edge_runtime.errors import Failure
from edge_runtime.stft import SAMPLE_RATE_HZ as RATE_HZ

LAWS = settings(max_examples=60, deadline=None)


def noise(n_samples: int, seed: int = 0, amplitude: float = 0.1) -> np.ndarray:
    return (amplitude * np.random.default_rng(seed).standard_normal(n_samples)).clip(-1, 1).astype(np.float32)


def syllables(n_samples: int, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes four times a second, as speech does, with true silence between."""
    on = np.sin(2 * np.pi * 4 * np.arange(n_samples) / RATE_HZ) > 0
    return noise(n_samples, seed) * on


def write(path: Path, values: np.ndarray, rate_hz: int = RATE_HZ, **form: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, values, rate_hz, **form)
    return path


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    """Seven short utterances (0.3 to 2.1 s) and four noises, one of them mostly padding."""
    root = tmp_path_factory.mktemp("corpora")
    for n in range(7):
        write(root / f"speech/{n}.wav", syllables(4800 * (n + 1), seed=n))
    for n in range(3):
        write(root / f"noise/{n}.wav", noise(32_000, seed=n))
    write(root / "noise/padded.wav", np.r_[np.zeros(60_000), noise(4_000)])
    return Corpus.open(root / "speech"), Corpus.open(root / "noise")


# ---- corpus


def test_corpus_finds_every_format_at_any_depth_in_one_order(tmp_path: Path) -> None:
    for name in ("b.FLAC", "a/z.ogg", "a.wav", "B.mp3", "a/b/c.wav"):
        write(tmp_path / name, noise(2 * RATE_HZ), format="MP3" if name == "B.mp3" else None)
    (tmp_path / "manifest.csv").write_text("file,duration\n")
    (tmp_path / "._a.wav").write_bytes(b"macOS leaves these")
    corpus = Corpus.open(tmp_path)
    assert corpus.names == ("B.mp3", "a.wav", "a/b/c.wav", "a/z.ogg", "b.FLAC")
    assert corpus.duration_s == pytest.approx(10, abs=0.2)  # MP3 pads


def test_links_to_folders_are_followed_once_and_hidden_folders_are_not_looked_into(tmp_path: Path) -> None:
    write(tmp_path / "disk/speaker/a.wav", noise(6 * RATE_HZ))
    write(tmp_path / "corpus/.git/annex/objects/b.wav", noise(6 * RATE_HZ))
    for link, target in (("disk/speaker/back", "disk"), ("corpus/libri", "disk"), ("corpus/x", "corpus")):
        (tmp_path / link).symlink_to(tmp_path / target)
    assert Corpus.open(tmp_path / "corpus").names == ("libri/speaker/a.wav",)


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav", noise(6 * RATE_HZ))
    (tmp_path / "locked").mkdir()
    look = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", folder)
        return look(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    with pytest.raises(Failure, match=r"locked: cannot be read \(Permission denied\); check who may read it"):
        Corpus.open(tmp_path)


def test_reading_mixes_down_resamples_and_leaves_the_offset(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000 * 6) / 48_000)
    write(tmp_path / "stereo.wav", np.stack([tone + 0.2, 0 * tone], axis=1), 48_000, subtype="FLOAT")
    values = Corpus.open(tmp_path).read("stereo.wav")
    assert (values.shape, values.dtype) == ((6 * RATE_HZ,), np.float32)
    assert values.mean() == pytest.approx(0.1, abs=1e-4)
    wanted = 0.1 + 0.15 * np.sin(2 * np.pi * 440 * np.arange(6 * RATE_HZ) / RATE_HZ)
    assert np.abs(values - wanted)[500:-500].max() < 1e-4


LONG = noise(8 * RATE_HZ)
LONG[: 2 * RATE_HZ] = 0


@pytest.mark.parametrize(
    ("place", "start_s", "end_s"),
    [(None, 0, 8), (0.5, 3, 5), (1.0, 6, 8), (0.0, 0, 8)],
    ids=["all", "the middle", "the end", "all, for its start is silent"],
)
def test_of_a_long_recording_a_part_is_read(tmp_path: Path, monkeypatch, place, start_s: int, end_s: int) -> None:
    monkeypatch.setattr(corpus_module, "LONG_S", 2.0)
    write(tmp_path / "a.wav", LONG, subtype="FLOAT")
    values = Corpus.open(tmp_path).read("a.wav", place)
    np.testing.assert_array_equal(values, LONG[start_s * RATE_HZ : end_s * RATE_HZ])


def test_fingerprint_follows_names_and_contents_only(tmp_path: Path) -> None:
    one = write(tmp_path / "one/a.wav", noise(6 * RATE_HZ))
    write(tmp_path / "two/a.wav", noise(6 * RATE_HZ))
    prints = [Corpus.open(tmp_path / folder).fingerprint() for folder in ("one", "two")]
    assert prints[0] == prints[1]
    one.rename(one.with_name("b.wav"))
    assert Corpus.open(tmp_path / "one").fingerprint() != prints[0]
    write(tmp_path / "two/a.wav", noise(6 * RATE_HZ, seed=1))
    assert Corpus.open(tmp_path / "two").fingerprint() != prints[1]


def _nothing(folder: Path) -> None:
    folder.rmdir()


def _a_file(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("not a folder")


def _no_audio(folder: Path) -> None:
    (folder / "manifest.csv").write_text("file\n")


def _garbage(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(b"RIFF, it says")


def _short(folder: Path) -> None:
    write(folder / "a.wav", noise(2 * RATE_HZ))
    write(folder / "b.wav", noise(2 * RATE_HZ))


def _with_nan(folder: Path) -> None:
    write(folder / "nan.wav", np.r_[noise(6 * RATE_HZ), math.nan], subtype="FLOAT")


def _with_inf(folder: Path) -> None:
    write(folder / "inf.wav", np.r_[noise(6 * RATE_HZ), math.inf], subtype="FLOAT")


def _cut_off(folder: Path) -> None:
    path = write(folder / "cut.flac", noise(6 * RATE_HZ))
    path.write_bytes(path.read_bytes()[:9000])


def _silent(folder: Path) -> None:
    write(folder / "hush.wav", np.zeros(6 * RATE_HZ))


def _empty_beside_sound(folder: Path) -> None:
    write(folder / "a.wav", noise(6 * RATE_HZ))
    write(folder / "none.wav", noise(0))


def _clips_of(folder: Path) -> list[Clip]:
    corpus = Corpus.open(folder)
    return list(mixtures(corpus, corpus, Mix(clip_ms=1000, n_clips=8)))


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (_nothing, "corpus: no such folder"),
        (_a_file, "corpus: not a folder; name a folder of recordings"),
        (_no_audio, "corpus: no recordings in it; put in some aif, aiff, au, caf, flac, mp3, "),
        (_garbage, "bad.wav: cannot be read as sound"),
        (_short, "corpus: holds only 4.0 s of audio; at least 5 s are needed"),
        (_with_nan, "nan.wav: holds NaN or infinite samples; remove or repair the file"),
        (_with_inf, "inf.wav: holds NaN or infinite samples"),
        (_cut_off, "cut.flac: damaged after "),
        (_silent, "hush.wav: is silent; remove the file"),
        (_empty_beside_sound, "none.wav: is empty: it holds no samples; remove the file"),
    ],
)
def test_a_bad_corpus_is_one_line(tmp_path: Path, break_it: Callable[[Path], None], expected: str) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    break_it(folder)
    with pytest.raises(Failure) as failure:
        _clips_of(folder)
    assert expected in str(failure.value)
    assert "\n" not in str(failure.value)


def test_every_recording_that_cannot_be_used_is_named_in_one_run(tmp_path: Path) -> None:
    """Whether its header or only its samples tell."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for break_it in (_garbage, _with_nan, _cut_off, _silent, _empty_beside_sound):
        break_it(folder)
    (folder / "no_bytes.wav").touch()
    with pytest.raises(Failure) as failure:
        Corpus.open(folder)
    line = str(failure.value)
    assert line.startswith(f"{folder}: 6 recordings cannot be used: bad.wav (cannot be read as sound (")
    for told in (
        "cut.flac (damaged after ",
        "hush.wav (is silent)",
        "nan.wav (holds NaN or infinite samples)",
        "no_bytes.wav (is empty: 0 bytes)",
        "none.wav (is empty: it holds no samples)",
    ):
        assert told in line
    assert line.endswith("; remove or repair them")


def test_silence_met_in_the_middle_names_the_rest_too(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name, np.zeros(6 * RATE_HZ))
    write(tmp_path / "c.wav", noise(6 * RATE_HZ))
    with pytest.raises(Failure, match=r"2 recordings cannot be used: a\.wav \(is silent\), b\.wav \(is silent\)"):
        _clips_of(tmp_path)


def test_what_cannot_be_used_may_be_left_out(tmp_path: Path) -> None:
    """The others are mixed, the same ones at every run, and each is told."""
    for name in ("a.wav", "b.wav", "c.wav"):
        write(tmp_path / name, noise(3 * RATE_HZ) if name != "b.wav" else np.zeros(3 * RATE_HZ))
    corpus, mix, told = Corpus.open(tmp_path), Mix(clip_ms=1000, n_clips=12), []
    clips = list(mixtures(corpus, corpus, mix, told.append))
    assert {name for clip in clips for name in clip.speech_name.split("+") if name} == {"a.wav", "c.wav"}
    assert {str(failure) for failure in told} == {f"{tmp_path / 'b.wav'}: is silent; remove the file"}
    assert all(map(equal, clips, mixtures(corpus, corpus, mix, lambda failure: None)))
    hushed = replace(corpus, names=("b.wav",))
    with pytest.raises(Failure, match="is silent"):
        list(mixtures(hushed, hushed, mix, lambda failure: None))


def test_a_recording_in_two_formats_counts_once_and_foreign_ones_are_told(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "b.flac", "sub/a.flac", "c.WAV"):
        write(tmp_path / name, noise(3 * RATE_HZ))
    for name in ("d.m4a", "e.m4a", "f.wma"):
        (tmp_path / name).write_bytes(b"x")
    told: list[str] = []
    assert Corpus.open(tmp_path, told.append).names == ("a.wav", "b.flac", "c.WAV", "sub/a.flac")
    convert = 'convert them: for f in *.m4a; do ffmpeg -i "$f" "${f%.*}.wav"; done'
    assert told == [
        f"{tmp_path}: left out 2 .m4a, 1 .wma; {convert}",
        f"{tmp_path}: recordings in two formats, counted once: 1",
    ]
    (tmp_path / "only").mkdir()
    (tmp_path / "only/d.m4a").write_bytes(b"x")
    with pytest.raises(Failure) as failure:
        Corpus.open(tmp_path / "only")
    assert str(failure.value) == f"{tmp_path / 'only'}: no recordings in it that are read here, but 1 .m4a; {convert}"


def test_a_large_corpus_gives_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "FIRST_SIGN_S", 0.0)
    for name in ("a.wav", "b.wav", "c.wav"):
        write(tmp_path / name, noise(3 * RATE_HZ))
    told: list[str] = []
    Corpus.open(tmp_path, told.append)
    assert told == [f"{tmp_path}: looking at 1 of 3 recordings"]


# ---- mixing


def equal(one: Clip, other: Clip) -> bool:
    plain, twin = asdict(one), asdict(other)
    arrays = [np.array_equal(plain.pop(name), twin.pop(name)) for name in ("noisy", "clean")]
    return all(arrays) and plain == twin


mixes = st.builds(
    Mix,
    snr_db=st.tuples(st.floats(-20, 0), st.floats(0, 40)),
    level_dbfs=st.tuples(st.floats(-60, -30), st.floats(-30, -3)),
    share_clean=st.floats(0, 0.5),
    share_noise_alone=st.floats(0, 0.5),
    n_clips=st.just(6),
    clip_ms=st.integers(200, 3000),
    warmup_ms=st.just(100),
    seed=st.integers(0, 1000),
)
MIX_LAWS = settings(LAWS, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MIX_LAWS
@given(mix=mixes)
def test_every_clip_is_what_it_says(corpora: tuple[Corpus, Corpus], mix: Mix) -> None:
    for clip in mixtures(*corpora, mix):
        hum = clip.noisy - clip.clean
        assert clip.noisy.shape == clip.clean.shape == (mix.clip_samples,)
        assert clip.noisy.dtype == clip.clean.dtype == np.float32
        assert np.abs(clip.noisy).max() <= 1
        assert measure_level_dbfs(clip.noisy) == pytest.approx(clip.level_dbfs, abs=0.1)
        assert clip.level_dbfs <= mix.level_dbfs[1] + 0.1
        at_full_scale = np.abs(clip.noisy).max() > 0.999999
        assert clip.level_dbfs >= mix.level_dbfs[0] - 0.1 or at_full_scale
        if clip.kind == "mixed":
            assert mix.snr_db[0] <= clip.snr_db <= mix.snr_db[1]
            assert measure_snr_db(clip.clean, hum) == pytest.approx(clip.snr_db, abs=0.1)
        elif clip.kind == "clean":
            assert (clip.snr_db, clip.noise_name) == (math.inf, "")
            assert not hum.any()
        else:
            assert (clip.snr_db, clip.speech_name) == (-math.inf, "")
            assert not clip.clean.any()


@MIX_LAWS
@given(mix=mixes, n_clips=st.integers(1, 6))
def test_same_seed_same_clips_and_fewer_are_a_prefix(corpora: tuple[Corpus, Corpus], mix: Mix, n_clips: int) -> None:
    whole = list(mixtures(*corpora, mix))
    fewer = list(mixtures(*corpora, replace(mix, n_clips=n_clips)))
    assert all(equal(one, other) for one, other in zip(fewer, whole, strict=False))
    other_seed = next(mixtures(*corpora, replace(mix, seed=mix.seed + 1)))
    assert not equal(whole[0], other_seed)


def test_recordings_are_all_used_before_any_is_used_again(corpora: tuple[Corpus, Corpus]) -> None:
    speech, hum = corpora
    clips = list(mixtures(speech, hum, Mix(n_clips=28, clip_ms=800)))
    talkers = [name for clip in clips for name in clip.speech_name.split("+") if name]
    hums = [clip.noise_name for clip in clips if clip.noise_name]
    for names, used in ((speech.names, talkers), (hum.names, hums)):
        for start in range(0, len(used) - len(names), len(names)):
            assert set(used[start : start + len(names)]) == set(names)


def test_shares_snr_and_level_are_covered_evenly_by_few_clips(corpora: tuple[Corpus, Corpus]) -> None:
    clips = list(mixtures(*corpora, Mix(clip_ms=600)))
    kinds = [clip.kind for clip in clips]
    assert 4 <= kinds.count("clean") <= 6
    assert 4 <= kinds.count("noise") <= 6
    quarters = np.histogram([clip.snr_db for clip in clips if clip.kind == "mixed"], 4, (-5, 20))[0]
    assert quarters.min() >= 6
    assert np.histogram([clip.level_dbfs for clip in clips], 4, (-45, -15))[0].min() >= 9


def test_short_utterances_are_joined_and_named(corpora: tuple[Corpus, Corpus]) -> None:
    clips = mixtures(*corpora, Mix(clip_ms=3000, share_clean=1, share_noise_alone=0))
    assert all(clip.kind == "clean" and "+" in clip.speech_name for clip in islice(clips, 5))


def test_snr_ignores_pauses_and_level_does_not() -> None:
    loud, hum = noise(RATE_HZ), noise(RATE_HZ, seed=1)
    paused = np.r_[loud, np.zeros(RATE_HZ, np.float32)]
    assert measure_snr_db(paused, hum) == pytest.approx(measure_snr_db(loud, hum), abs=1e-9)
    assert measure_level_dbfs(paused) == pytest.approx(measure_level_dbfs(loud) - 10 * math.log10(2))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"snr_db": (20, -5)}, "snr_db is 20..-5"),
        ({"snr_db": (math.nan, 5)}, "snr_db is nan..5"),
        ({"level_dbfs": (-math.inf, 0)}, "level_dbfs is -inf..0"),
        ({"share_clean": -0.1}, "shares of clean and noise are (-0.1, 0.1)"),
        ({"share_clean": 0.7, "share_noise_alone": 0.7}, "they are parts of 1"),
        ({"n_clips": 0}, "n_clips is 0"),
        ({"warmup_ms": 4000}, "4000 ms warm-up of 4000 ms; leave some to observe"),
        ({"warmup_ms": -1}, "leave some to observe"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_an_impossible_mix_dies_at_birth(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(Failure, match="calibration mix: ") as failure:
        Mix(**wrong)
    assert expected in str(failure.value)


# ---- observers

floats = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-100, -(2.0**-100), 2.0**-149])
arrays = hnp.arrays(np.float32, st.integers(1, 200), elements=floats)
forms = pytest.mark.parametrize(("n_bits", "symmetric"), [(8, False), (8, True), (16, True), (4, False)])
each_observer = pytest.mark.parametrize("observer", OBSERVERS.values(), ids=OBSERVERS.keys())


def seen(observer: type[Observer], *chunks: np.ndarray) -> Observer:
    made = observer()
    for chunk in chunks:
        made.observe(chunk)
    return made


@LAWS
@given(values=arrays, cuts=st.lists(st.integers(0, 200), max_size=5), seed=st.integers(0, 99))
@example(values=np.float32([-0.0, 0.0]), cuts=[1], seed=1)
@example(values=np.float32([2.0**-100, -(2.0**-100), 1e6]), cuts=[1, 2], seed=0)
def test_any_chunks_in_any_order_are_the_same_histogram(values: np.ndarray, cuts: list[int], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    whole, parts = Histogram(), Histogram()
    whole.observe(values)
    for part in np.split(shuffled, sorted(cuts)):
        parts.observe(part)
    assert (whole.exponent, whole.n_values) == (parts.exponent, parts.n_values)
    assert repr((whole.min, whole.max)) == repr((parts.min, parts.max))  # repr tells 0.0 from -0.0
    assert np.array_equal(whole.counts, parts.counts)


@LAWS
@given(values=arrays)
def test_bins_hold_what_they_say(values: np.ndarray) -> None:
    histogram = Histogram()
    histogram.observe(values)
    places = np.floor(values.astype(np.float64) / histogram.width).astype(int) + len(histogram.counts) // 2
    assert np.array_equal(histogram.counts, np.bincount(places, minlength=len(histogram.counts)))
    assert (histogram.min, histogram.max) == (values.min(), values.max())
    assert histogram.peak < SMALLEST_PEAK or histogram.peak / histogram.width >= 4096


@each_observer
@forms
@LAWS
@given(values=arrays)
def test_a_range_holds_0_and_is_never_empty(
    observer: type[Observer], n_bits: int, symmetric: bool, values: np.ndarray
) -> None:
    low, high = seen(observer, values).range(n_bits, symmetric)
    assert low <= 0 <= high
    assert repr(low) != "-0.0"
    assert high - low >= SMALLEST_PEAK
    assert not symmetric or low == -high
    widest = np.abs(values).max() if symmetric else max(values.max(), 0)
    half_a_step = (high - low) / 2**n_bits  # what a whole zero point may move the range
    assert high <= max(widest, SMALLEST_PEAK) + half_a_step


@pytest.mark.parametrize(
    ("values", "symmetric", "expected"),
    [
        ([0.0, 0.0], False, (0.0, SMALLEST_PEAK)),
        ([0.0, 0.0], True, (-SMALLEST_PEAK, SMALLEST_PEAK)),
        ([1e-30], False, (0.0, SMALLEST_PEAK)),
        ([-1e-30], False, (-1e-30, SMALLEST_PEAK)),
        ([3.0, 3.0], False, (0.0, 3.0)),  # constants come back exactly: 3 is a whole step of 0..3
        ([-3.0, -3.0], False, (-3.0, 0.0)),
        ([-3.0], True, (-3.0, 3.0)),
        ([2.0, 5.0], False, (0.0, 5.0)),
        ([-1.0, 5.0], True, (-5.0, 5.0)),
    ],
)
@each_observer
def test_plain_ranges(
    observer: type[Observer], values: list[float], symmetric: bool, expected: tuple[float, float]
) -> None:
    found = seen(observer, np.float32(values)).range(8, symmetric)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(Failure, match="observed NaN or infinity"):
        MinMax().observe(np.float32([0.0, value, 1.0]))


@each_observer
def test_nothing_observed_is_refused(observer: type[Observer]) -> None:
    with pytest.raises(Failure, match="nothing was observed"):
        seen(observer, np.zeros((3, 0), np.float32)).range(8, False)


def test_min_max_is_exact() -> None:
    values = noise(10_000, amplitude=3.7)
    assert seen(MinMax, values[:10], values[10:]).range(8, False) == (values.min(), values.max())


@pytest.mark.parametrize("p", [50.0, 99.0, 99.9, 100.0])
def test_percentile_is_numpy_s_to_a_bin(p: float) -> None:
    values = np.random.default_rng(0).laplace(0.3, 1, 100_000).astype(np.float32)
    observer = Percentile(p=p)
    observer.observe(values)
    low, high = observer.range(8, False)
    near = {"abs": 2 * observer.histogram.width}
    assert high == pytest.approx(np.percentile(values, p), **near)
    assert low == pytest.approx(min(np.percentile(values, 100 - p), 0), **near)
    assert observer.range(8, True)[1] == pytest.approx(np.percentile(np.abs(values), p), **near)


def squared_error(values: np.ndarray, low: float, high: float, n_bits: int, symmetric: bool) -> float:
    """What quantizing to `n_bits` truly costs, 0 kept exact."""
    scale = (high - low) / (2**n_bits - (2 if symmetric else 1))
    first = round(low / scale)
    codes = np.clip(np.round(values / scale), first, first + round((high - low) / scale))
    return float(np.mean((codes * scale - values) ** 2))


SHAPES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "normal": lambda rng: rng.normal(size=50_000),
    "laplace": lambda rng: rng.laplace(size=50_000),
    "rectified": lambda rng: np.maximum(rng.normal(size=50_000), 0),
    "leaky": lambda rng: (lambda x: np.where(x > 0, x, 0.1 * x))(rng.laplace(size=50_000)),
    "shifted": lambda rng: rng.normal(4, 1, 50_000),
    "uniform": lambda rng: rng.uniform(-1, 1, 50_000),
    "outlier": lambda rng: np.r_[rng.normal(size=50_000), 60.0],
}


@pytest.mark.parametrize("shape", SHAPES)
@forms
def test_min_mse_costs_no_more_than_any_other_clipping(shape: str, n_bits: int, symmetric: bool) -> None:
    values = SHAPES[shape](np.random.default_rng(0)).astype(np.float32)
    found = seen(MinMse, values).range(n_bits, symmetric)
    low, high = seen(MinMax, values).range(n_bits, symmetric)
    shrunk = [(low * keep, high * keep) for keep in np.geomspace(0.05, 1, 40)]
    best = min(squared_error(values, *bounds, n_bits, symmetric) for bounds in shrunk)
    # 5 %: the histogram's bins, and the zero point's rounding, which the expected error leaves out.
    assert squared_error(values, *found, n_bits, symmetric) <= 1.05 * best


def test_min_mse_clips_the_more_the_fewer_the_bits() -> None:
    observer = seen(MinMse, np.random.default_rng(0).laplace(size=100_000).astype(np.float32))
    highs = [observer.range(n_bits, True)[1] for n_bits in (3, 4, 6, 8, 16)]
    assert highs == sorted(highs)
    assert highs[0] < 0.5 * highs[-1]


def test_min_mse_clips_either_end_by_itself() -> None:
    values = np.r_[np.random.default_rng(0).uniform(-1, 1, 50_000), 8.0].astype(np.float32)
    low, high = seen(MinMse, values).range(4, False)
    assert low == pytest.approx(-1, abs=0.1)
    assert high < 2


def test_observers_may_share_one_histogram() -> None:
    histogram = Histogram()
    histogram.observe(noise(1000))
    assert Percentile(histogram, p=100).range(8, False) == MinMax(histogram).range(8, False)


def test_channel_maxima() -> None:
    values = noise(40_000).reshape(4, -1)
    values[2] = 0
    observer = ChannelMax()
    for chunk in np.array_split(values, 7, axis=1):
        observer.observe(chunk)
    assert np.array_equal(observer.maxima(100), np.abs(values).max(axis=1))
    assert observer.maxima(99) == pytest.approx(np.percentile(np.abs(values), 99, axis=1), abs=2e-4)
    with pytest.raises(ValueError, match="zip"):
        observer.observe(values[:3])


# ---- ranges

finite = st.floats(allow_nan=False, allow_infinity=False)


def provenance(**changes: Any) -> Provenance:
    known = {"observer": "min_mse", "mix": Mix(seed=7), "speech_sha256": "ab", "noise_sha256": "cd"}
    return Provenance(**{**known, "checkpoint_sha256": "ef", **changes})


def plain_ranges() -> Ranges:
    tap = TapRange.observed(seen(MinMse, noise(1000)), n_bits=8, symmetric=False)
    return Ranges({"mask": tap, "encoder.0": TapRange(-1.0, 2.5, 10, -1.5, 3.0)}, provenance())


@settings(LAWS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bounds=st.tuples(finite, finite, finite, finite), tap=st.text(min_size=1))
def test_ranges_come_back_to_the_last_bit(tmp_path: Path, bounds: tuple[float, ...], tap: str) -> None:
    low, high = -abs(bounds[0]), abs(bounds[1])
    if low == high:
        return
    saved = Ranges({tap: TapRange(low, high, 3, min(bounds[2:]), max(bounds[2:]))}, provenance())
    saved.save(tmp_path / "ranges.json")
    assert Ranges.load(tmp_path / "ranges.json") == saved


def test_the_same_ranges_are_the_same_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    ranges = plain_ranges()
    ranges.save(tmp_path / "a.json")
    Ranges(dict(reversed(ranges.values.items())), ranges.provenance).save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_saving_where_one_cannot_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="missing: no such folder; make it first"):
        plain_ranges().save(tmp_path / "missing" / "ranges.json")
    (tmp_path / "taken").mkdir()
    with pytest.raises(Failure, match="taken: cannot be written"):
        plain_ranges().save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def _changed(**changes: Any) -> str:
    """A good file with changes to the tap `mask`, or to what stands above it."""
    content = msgspec.to_builtins(plain_ranges())
    for name, value in changes.items():
        (content if name in content else content["values"]["mask"])[name] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read (No such file or directory); leave --ranges out to calibrate anew"),
        ("", "is not JSON"),
        ("low: 1", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        ("[]", "is not a ranges file"),
        ("{}", "is not a ranges file"),
        (_changed(format="edge-denoise manifest"), "is 'edge-denoise manifest', not 'edge-denoise ranges'"),
        (_changed(version=2), "has format version 2, this program reads 1"),
        (_changed(low=math.nan), "is not JSON"),  # JSON has no NaN
        (_changed(low=None), "is not a ranges file (Expected `float`, got `null`"),
        (_changed(low="x"), "is not a ranges file (Expected `float`, got `str`"),
        (_changed(low=2.0, high=1.0), "tap 'mask': low 2.0 is above high 1.0"),
        (_changed(min=2.0, max=1.0), "tap 'mask': min 2.0 is above max 1.0"),
        (_changed(low=0.5, high=1.0), "tap 'mask': 0.5 to 1.0 leaves out 0"),
        (_changed(low=0.0, high=0.0), "tap 'mask': is empty"),
        (_changed(colour="red"), "is not a ranges file (Object contains unknown field `colour`"),
        (_changed().replace('"n_clips": 48', '"n_clips": 0'), "calibration mix: n_clips is 0"),
        (_changed().replace("-1.5", "-1e999"), "is not a ranges file"),
    ],
)
def test_a_bad_ranges_file_is_one_line(tmp_path: Path, content: str | bytes | None, expected: str) -> None:
    path = tmp_path / "ranges.json"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(Failure) as failure:
        Ranges.load(path)
    assert str(failure.value).startswith(f"{path}: ")
    assert expected in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf])
def test_ranges_are_finite_from_birth(bound: float) -> None:
    with pytest.raises(Failure, match="tap 'mask': high is "):
        Ranges({"mask": TapRange(-1.0, bound, 1, 0.0, 0.0)}, provenance())
