"""Sound files: any rate, channels and format in; the same length, alignment and kind out; all or nothing."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_artifact import NOW, PAST, toy

from edge_runtime.band import chosen
from edge_runtime.denoiser import Denoiser
from edge_runtime.errors import Failure
from edge_runtime.files.any_rate import AnyRateDenoiser
from edge_runtime.files.containers import CONTAINERS
from edge_runtime.files.denoise_file import FileSummary, denoise_file
from edge_runtime.files.sound_file import Form, create, kept_subtype, write_block

RATES_HZ = (8000, 11025, 16000, 22050, 44100, 48000, 96000)


def noise(n_samples: int, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.1, (n_samples, n_channels)).astype(np.float32)


def make(path: Path, samples: np.ndarray, rate_hz: int = 16000, subtype: str | None = None) -> Path:
    container = CONTAINERS[path.suffix]
    soundfile.write(path, samples, rate_hz, subtype or container.subtypes[0], format=container.format)
    return path


def run(source: Path, target: Path, **options) -> FileSummary:
    return denoise_file(source, target, toy(), **{"engine": "tflite", "precision": "fp32", **options})


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def delay_samples(reference: np.ndarray, found: np.ndarray) -> int:
    """Where the cross-correlation peaks."""
    n = 2 * len(reference)
    spectrum = np.fft.rfft(found, n) * np.conj(np.fft.rfft(reference, n))
    peak = int(np.argmax(np.fft.irfft(spectrum, n)))
    return peak - n if peak > n // 2 else peak


# --- length, alignment, memory -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.one_of(st.sampled_from(RATES_HZ), st.integers(100, 200_000)),
    n_samples=st.integers(0, 5000),
    n_channels=st.integers(1, 3),
    n_block=st.integers(1, 3000),
)
def test_law_as_many_samples_out_as_in(rate_hz, n_samples, n_channels, n_block):
    denoisers = [Denoiser.open(toy(), "tflite", "fp32") for _ in range(n_channels)]
    stream = AnyRateDenoiser(denoisers, rate_hz, chosen(None, rate_hz))
    samples = noise(n_samples, n_channels)
    out = [stream.feed(samples[start : start + n_block]) for start in range(0, n_samples, n_block)]
    assert np.concatenate([*out, stream.flush()]).shape == samples.shape


@pytest.mark.parametrize(
    ("rate_hz", "asked", "taken"),
    [
        (48_000, None, "full"),
        (48_000, "full", "full"),
        (48_000, "speech", "speech"),
        (16_000, None, "speech"),
        (47_999, None, "speech"),
    ],
)
def test_a_file_keeps_its_band_unless_told(tmp_path, rate_hz, asked, taken):
    """What lies above 8 kHz is there or not; speech alone is what it was before there was a choice."""
    source = make(tmp_path / "in.wav", noise(rate_hz), rate_hz, "FLOAT")
    assert run(source, tmp_path / "out.wav", band=asked).band == taken
    out = read(tmp_path / "out.wav")
    power = np.abs(np.fft.rfft(out[:, 0])) ** 2
    above = power[int(9000 * len(out) / rate_hz) :]
    assert (above.sum() > 0.1 * power.sum()) == (taken == "full")
    if taken == "speech":
        stream = AnyRateDenoiser([Denoiser.open(toy(), "tflite", "fp32")], rate_hz)
        np.testing.assert_array_equal(out, np.concatenate([stream.feed(read(source)), stream.flush()]))


def test_a_full_band_that_cannot_be_kept_leaves_nothing(tmp_path):
    source = make(tmp_path / "in.wav", noise(1000), 47_999, "FLOAT")
    with pytest.raises(Failure, match="no full band: 47999 Hz and 16000 Hz have no common grid; --band speech"):
        run(source, tmp_path / "out.wav", band="full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav"]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_output_is_aligned_with_the_input(tmp_path, rate_hz):
    source = make(tmp_path / "in.wav", noise(3 * rate_hz + 123), rate_hz, "FLOAT")
    run(source, tmp_path / "out.wav")
    before, after = read(source), read(tmp_path / "out.wav")
    assert after.shape == before.shape
    assert delay_samples(before[:, 0], after[:, 0]) == 0


def test_at_16_khz_the_file_is_what_the_stream_is(tmp_path):
    source = make(tmp_path / "in.wav", noise(40_001), subtype="FLOAT")
    run(source, tmp_path / "out.wav", engine="onnx", precision="int8")
    denoiser = Denoiser.open(toy(), "onnx", "int8")
    samples = read(source)[:, 0]
    wanted = np.concatenate((denoiser.feed(samples), denoiser.flush()))
    assert np.array_equal(read(tmp_path / "out.wav")[:, 0], wanted)


@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_channels_do_not_meet(tmp_path, rate_hz):
    samples = noise(rate_hz, 3)
    run(make(tmp_path / "all.wav", samples, rate_hz, "FLOAT"), tmp_path / "out.wav")
    together = read(tmp_path / "out.wav")
    for channel in range(3):
        alone = make(tmp_path / "one.wav", samples[:, channel], rate_hz, "FLOAT")
        run(alone, tmp_path / "out.wav", force=True)
        assert np.array_equal(read(tmp_path / "out.wav")[:, 0], together[:, channel])


def test_memory_does_not_grow_with_length(tmp_path):
    peaks = []
    for duration_s in (5, 40):
        source = make(tmp_path / f"{duration_s}.wav", noise(duration_s * 8000), 8000)
        tracemalloc.start()
        run(source, tmp_path / f"{duration_s}.out.wav")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# --- formats -----------------------------------------------------------------------------------------------

KEPT = [
    ("in.wav", "PCM_16", "out.wav", "PCM_16"),
    ("in.wav", "PCM_24", "out.wav", "PCM_24"),
    ("in.wav", "PCM_U8", "out.wav", "PCM_U8"),
    ("in.wav", "FLOAT", "out.wav", "FLOAT"),
    ("in.wav", "ULAW", "out.wav", "ULAW"),
    ("in.wav", "FLOAT", "out.flac", "PCM_24"),  # FLAC has no float: its deepest
    ("in.wav", "ULAW", "out.flac", "PCM_16"),
    ("in.wav", "PCM_16", "out.ogg", "VORBIS"),
    ("in.wav", "PCM_16", "out.opus", "OPUS"),
    ("in.wav", "PCM_16", "out.mp3", "MPEG_LAYER_III"),
    ("in.flac", "PCM_24", "out.aiff", "PCM_24"),
    ("in.ogg", "VORBIS", "out.ogg", "VORBIS"),
    ("in.ogg", "OPUS", "out.ogg", "OPUS"),
    ("in.ogg", "VORBIS", "out.wav", "PCM_16"),
    ("in.mp3", "MPEG_LAYER_III", "out.mp3", "MPEG_LAYER_III"),
    ("in.mp3", "MPEG_LAYER_III", "out.wav", "PCM_16"),  # not MP3 inside WAV
    ("in.caf", "PCM_16", "out.W64", "PCM_16"),
    ("in.au", "PCM_32", "out.rf64", "PCM_32"),
]


@pytest.mark.parametrize(("source", "subtype", "target", "wanted"), KEPT)
def test_rate_channels_and_length_are_kept_and_the_subtype_where_it_can_be(tmp_path, source, subtype, target, wanted):
    path = make(tmp_path / source, noise(12_347, 2), 48000, subtype)
    summary = run(path, tmp_path / target)
    info = soundfile.info(str(tmp_path / target))
    assert (info.samplerate, info.channels, info.subtype) == (48000, 2, wanted)
    assert info.frames == soundfile.info(str(path)).frames == summary.n_samples
    assert (summary.subtype, summary.container) == (wanted, info.format)


def test_every_container_holds_its_subtypes_at_their_exact_length(tmp_path):
    """The table of containers against libsndfile itself: odd lengths betray padding."""
    for suffix, container in CONTAINERS.items():
        for subtype in container.subtypes:
            path = make(tmp_path / f"sound{suffix}", noise(12_347), 16000, subtype)
            assert len(read(path)) == 12_347, (suffix, subtype)
            assert kept_subtype(container, subtype) == subtype


@pytest.mark.parametrize("rate_hz", [16000, 44100])
@pytest.mark.parametrize("n_samples", [0, 1, 255])
def test_very_short_files(tmp_path, n_samples, rate_hz):
    source = make(tmp_path / "in.wav", noise(n_samples, 2), rate_hz)
    assert run(source, tmp_path / "out.wav").n_samples == n_samples
    assert read(tmp_path / "out.wav").shape == (n_samples, 2)


def test_integer_output_is_clipped_and_counted_and_float_is_not(tmp_path):
    samples = np.full((4000, 1), 1.5, np.float32)
    source = make(tmp_path / "in.wav", samples, subtype="FLOAT")
    assert run(source, tmp_path / "out.flac").n_clipped > 3000
    assert read(tmp_path / "out.flac").max() <= 1
    assert run(source, tmp_path / "out.wav").n_clipped == 0
    assert read(tmp_path / "out.wav").max() == pytest.approx(1.5 * (NOW + PAST), rel=1e-3)


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_a_file_with_nan_and_huge_samples_is_repaired_and_counted(tmp_path, rate_hz):
    samples = noise(rate_hz, 2)
    samples[100, 0], samples[200, 1], samples[300] = np.nan, np.inf, 1e20
    source = make(tmp_path / "in.wav", samples, rate_hz, "FLOAT")
    summary = run(source, tmp_path / "out.wav")
    assert (summary.n_nonfinite, summary.n_limited) == (2, 2)
    assert np.isfinite(read(tmp_path / "out.wav")).all()


def test_headers_of_recorders_that_never_knew_the_length_are_taken_as_they_are(tmp_path):
    whole = make(tmp_path / "in.wav", noise(1000)).read_bytes()
    for riff_bytes, data_bytes in ((0xFFFFFFFF, 0xFFFFFFFF), (0x80000024, 0x80000000), (len(whole), 2000)):
        header = b"RIFF" + riff_bytes.to_bytes(4, "little") + whole[8:40] + data_bytes.to_bytes(4, "little")
        (tmp_path / "in.wav").write_bytes(header + whole[44:])
        assert run(tmp_path / "in.wav", tmp_path / "out.wav", force=True).n_samples == 1000


def without_length(flac: bytes) -> bytes:
    """As an encoder leaves it that wrote into a pipe."""
    return flac[:21] + bytes((flac[21] & 0xF0,)) + bytes(20) + flac[42:]


def twice(file: bytes) -> bytes:
    return file + file


STREAMED = {
    "flac": (without_length, 20_000),
    "less.flac": (lambda flac: flac[:22] + (10_000).to_bytes(4, "big") + flac[26:], 20_000),
    "ogg": (twice, 40_000),
    "wav": (twice, 40_000),
}


@pytest.mark.parametrize("kind", STREAMED)
def test_sound_whose_length_no_header_states_is_denoised_to_its_end(tmp_path, kind):
    source = make(tmp_path / f"in.{kind}", noise(20_000))
    streamed, n_wanted = STREAMED[kind]
    source.write_bytes(streamed(source.read_bytes()))
    assert run(source, tmp_path / "out.wav").n_samples == n_wanted
    assert len(read(tmp_path / "out.wav")) == n_wanted


# --- more than 4 GiB ----------------------------------------------------------------------------------------


@pytest.fixture
def small_wav(monkeypatch):
    """As if a WAV, or an AIFF, held 30,000 bytes."""
    for suffix in (".wav", ".aiff"):
        monkeypatch.setitem(CONTAINERS, suffix, CONTAINERS[suffix]._replace(most_bytes=30_000))


@pytest.mark.parametrize(("n_samples", "wanted"), [(14_000, "WAV"), (16_000, "RF64")])
def test_what_no_wav_can_hold_is_written_as_rf64(tmp_path, small_wav, n_samples, wanted):
    run(make(tmp_path / "in.flac", noise(n_samples)), tmp_path / "out.wav")
    assert soundfile.info(str(tmp_path / "out.wav")).format == wanted
    assert len(read(tmp_path / "out.wav")) == n_samples


def test_what_an_aiff_cannot_hold_is_told_before_the_work(tmp_path, small_wav, monkeypatch):
    source = make(tmp_path / "in.flac", noise(16_000))
    monkeypatch.setattr(Denoiser, "open", None)
    with pytest.raises(Failure, match=r"out\.aiff: 0\.0 GiB of sound do not fit into AIFF; write a \.wav, \.w64 or"):
        run(source, tmp_path / "out.aiff")
    assert [path.name for path in tmp_path.iterdir()] == ["in.flac"]


def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    source = make(tmp_path / "in.flac", noise(1_000_000))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**20))
    monkeypatch.setattr(Denoiser, "open", None)
    with pytest.raises(Failure, match=r"out\.wav: cannot be written \(2 MiB are to come, 1 MiB are free\); free some"):
        run(source, tmp_path / "out.wav")


def test_a_recording_of_any_length_is_whole(tmp_path, monkeypatch):
    """What is skipped is a hole in a sparse file: 4.8 GB that no disk holds."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**40))
    path, sound, n_samples = tmp_path / "a.wav", noise(10, 2), 1_200_000_000
    with create(path, path, Form(CONTAINERS[".wav"], "PCM_16", 16_000, 2, n_samples)) as sink:
        write_block(sink, path, sound)
        sink.seek(n_samples - 10)
        write_block(sink, path, sound)
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.frames) == ("RF64", n_samples)
        file.seek(-10, 2)
        np.testing.assert_allclose(file.read(10, dtype="float32"), sound, atol=2**-15)


def test_the_reason_for_a_failed_write_is_the_systems(tmp_path):
    """A limit on the size of files, which is no full disk."""
    code = (
        "import resource, signal, sys; import numpy as np; from pathlib import Path\n"
        "from edge_runtime.files.containers import CONTAINERS\n"
        "from edge_runtime.files.sound_file import Form, create, write_block\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "path = Path(sys.argv[1]); sink = create(path, path, Form(CONTAINERS['.wav'], 'PCM_16', 16000, 1, 9000))\n"
        "write_block(sink, path, np.zeros((9000, 1), np.float32))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.wav")], capture_output=True, text=True)
    line = done.stderr.strip().splitlines()[-1]
    assert "a.wav: cannot be written (File too large); write to a file system, or under a limit, that takes" in line
    assert (tmp_path / "a.wav").stat().st_size <= 5000


# --- tags ---------------------------------------------------------------------------------------------------

TAGS = {"title": "Grüße", "artist": "somebody", "date": "2026", "comment": "of the noisy one"}


@pytest.mark.parametrize(("source", "target"), [("in.flac", "out.wav"), ("in.wav", "out.flac"), ("in.ogg", "out.ogg")])
def test_tags_are_kept(tmp_path, source, target):
    path = make(tmp_path / source, noise(5000))
    with soundfile.SoundFile(path, "w", 16000, 1, format=CONTAINERS[path.suffix].format) as file:
        for name, text in TAGS.items():
            setattr(file, name, text)
        file.write(noise(5000))
    run(path, tmp_path / target)
    with soundfile.SoundFile(tmp_path / target) as file:
        assert {name: getattr(file, name) for name in TAGS} == TAGS


# --- all or nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, Failure("full")])
@pytest.mark.parametrize("existing", [None, b"precious"])
def test_a_failure_midway_leaves_the_folder_as_it_was(tmp_path, monkeypatch, error, existing):
    def break_after_a_while(*_arguments):
        raise error

    source = make(tmp_path / "in.wav", noise(16000))
    if existing:
        (tmp_path / "out.wav").write_bytes(existing)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("edge_runtime.files.denoise_file.write_block", break_after_a_while)
    with pytest.raises(type(error) if isinstance(error, BaseException) else error):
        run(source, tmp_path / "out.wav", force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_that_is_a_link_stays_one(tmp_path):
    source = make(tmp_path / "in.wav", noise(1000))
    (tmp_path / "real").mkdir()
    (tmp_path / "out.wav").symlink_to(tmp_path / "real" / "out.wav")
    run(source, tmp_path / "out.wav")
    assert (tmp_path / "out.wav").is_symlink()
    assert len(read(tmp_path / "real" / "out.wav")) == 1000


def test_an_empty_output_that_exists_may_be_filled(tmp_path):
    source = make(tmp_path / "in.wav", noise(1000))
    (tmp_path / "out.wav").touch()
    run(source, tmp_path / "out.wav")
    assert len(read(tmp_path / "out.wav")) == 1000


def test_progress_is_drawn_when_asked_and_never_for_short_files(tmp_path, capsys):
    source = make(tmp_path / "in.wav", noise(32_000))
    run(source, tmp_path / "a.wav", progress=True)
    assert "0.00/2.00" in capsys.readouterr().err
    run(source, tmp_path / "b.wav")
    assert capsys.readouterr().err == ""
