"""Pairs as data sets are published: folders, names, formats, rates; what is refused names everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from edge_runtime.errors import Failure
from quant.quality.layouts import counterparts
from quant.quality.pairs import find_pairs, note_on_rate

SOUND = 0.1 * np.random.default_rng(0).standard_normal(4800)


def lay(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return root


# files -> (name of the pair, clean, noisy)
LAYOUTS = {
    "the same names": (["clean/a.wav", "noisy/a.wav"], [("a.wav", "clean/a.wav", "noisy/a.wav")]),
    "VoiceBank-DEMAND": (
        ["clean_testset_wav/p232_001.wav", "noisy_testset_wav/p232_001.wav", "log_testset.txt"],
        [("p232_001.wav", "clean_testset_wav/p232_001.wav", "noisy_testset_wav/p232_001.wav")],
    ),
    "VoiceBank-DEMAND with its training sets": (
        [f"{side}_{part}_wav/p1.wav" for side in ("clean", "noisy") for part in ("testset", "trainset_28spk")],
        [("p1.wav", "clean_testset_wav/p1.wav", "noisy_testset_wav/p1.wav")],
    ),
    "archives unpacked into folders of their names": (
        ["clean_testset_wav/clean_testset_wav/p1.wav", "noisy_testset_wav/noisy_testset_wav/p1.wav"],
        [("p1.wav", "clean_testset_wav/clean_testset_wav/p1.wav", "noisy_testset_wav/noisy_testset_wav/p1.wav")],
    ),
    "DNS Challenge": (
        ["clean/clean_fileid_7.wav", "noisy/clnsp1_train_69005_snr15_tl-21_fileid_7.wav"],
        [
            (
                "clnsp1_train_69005_snr15_tl-21_fileid_7.wav",
                "clean/clean_fileid_7.wav",
                "noisy/clnsp1_train_69005_snr15_tl-21_fileid_7.wav",
            )
        ],
    ),
    "MS-SNSD, several noisy ones of one clean": (
        ["CleanSpeech_testing/clnsp7.wav", *(f"NoisySpeech_testing/noisy{i}_SNRdb_{i}.0_clnsp7.wav" for i in (1, 2))],
        [
            (name, "CleanSpeech_testing/clnsp7.wav", f"NoisySpeech_testing/{name}")
            for name in ("noisy1_SNRdb_1.0_clnsp7.wav", "noisy2_SNRdb_2.0_clnsp7.wav")
        ],
    ),
    "speakers in folders": (
        ["clean/p1/a.wav", "clean/p2/a.wav", "noisy/p1/a.wav", "noisy/p2/a.wav"],
        [("p1/a.wav", "clean/p1/a.wav", "noisy/p1/a.wav"), ("p2/a.wav", "clean/p2/a.wav", "noisy/p2/a.wav")],
    ),
    "capitals, and another format on either side": (
        ["Clean/a.WAV", "Noisy/a.flac"],
        [("a.flac", "Clean/a.WAV", "Noisy/a.flac")],
    ),
    "FLAC beside WAV, and what macOS leaves": (
        ["clean/a.wav", "clean/a.flac", "clean/._a.wav", "noisy/a.flac", "noisy/a.wav", "noisy/._b.wav", "noisy/x.txt"],
        [("a.wav", "clean/a.wav", "noisy/a.wav")],
    ),
    "hidden folders, and M4A beside WAV": (
        ["clean/a.wav", "clean/a.m4a", "noisy/a.wav", "noisy/.ipynb_checkpoints/a.wav", "clean/.git/annex/b.wav"],
        [("a.wav", "clean/a.wav", "noisy/a.wav")],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_is_read(tmp_path: Path, layout: str) -> None:
    files, wanted = LAYOUTS[layout]
    lay(tmp_path, *files)
    found = counterparts(tmp_path)
    assert [(n, *(p.relative_to(tmp_path).as_posix() for p in paths)) for n, *paths in found] == wanted


REFUSED = {
    "no folders": ([], "holds no pairs"),
    "one side": (["noisy/a.wav"], "holds no pairs"),
    "an empty side": (["clean/a.wav", "noisy/._a.wav"], "holds no pairs"),
    "two alone": (["clean/a.wav", "clean/b.wav", "noisy/a.wav", "noisy/c.wav"], "clean b, noisy c have no counterpart"),
    "many alone": ([f"clean/{i:02}.wav" for i in range(60)] + ["noisy/00.wav"], "clean 20 and 39 more have no"),
    "two sets": (
        [f"{side}_{part}/a.wav" for side in ("clean", "noisy") for part in ("x", "y")],
        "holds several sets: clean_x + noisy_x, clean_y + noisy_y",
    ),
    "what is not read": (
        ["clean/a.wav", "clean/b.m4a", "noisy/a.wav", "noisy/b.m4a"],
        'clean: holds recordings that are not read here: 1 .m4a; convert them: for f in *.m4a; do ffmpeg -i "$f"',
    ),
    "one of two numbers alone": (["clean/clean_fileid_7.wav", "noisy/a_fileid_7.wav", "noisy/a_fileid_8.wav"], "no c"),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_what_does_not_match_is_one_line_that_names_it(tmp_path: Path, layout: str) -> None:
    files, words = REFUSED[layout]
    lay(tmp_path, *files)
    with pytest.raises(Failure) as failed:
        counterparts(tmp_path)
    assert words in str(failed.value)
    assert len(str(failed.value)) < 1000


MANIFESTS = {
    "snr\nnoisy/p1/a.wav,1\nnoisy/p2/a.wav,2": [1, 2],
    "snr\nnoisy\\p1\\a.wav,1\nD:\\noisy\\b.wav,2": [1, 1],
    "snr\na,3\n,\n/,\n..,": [3, 3],
    "snr\nnoisy/p2/a.wav,nan": "noisy/p2/a.wav has SNR 'nan', no number; mend that row",
    "snr\na,5 dB": "a has SNR '5 dB', no number; mend that row",
}


@pytest.mark.parametrize("rows", MANIFESTS)
def test_a_manifest_tells_the_snr_of_the_recording_that_it_names(tmp_path: Path, rows: str) -> None:
    lay(tmp_path, *(f"{side}/{speaker}/a.wav" for side in ("clean", "noisy") for speaker in ("p1", "p2")))
    (tmp_path / "manifest.csv").write_text(f"file,{rows}\n")
    wanted = MANIFESTS[rows]
    if isinstance(wanted, list):
        assert [pair.snr_db for pair in find_pairs(tmp_path)] == wanted
        return
    with pytest.raises(Failure) as failed:
        find_pairs(tmp_path)
    assert wanted in str(failed.value)


@pytest.mark.parametrize(
    ("path", "words"), [("absent", "no such folder; name a folder with clean/"), ("file", "not a folder; name a")]
)
def test_no_folder_is_one_line(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match=words):
        find_pairs(tmp_path / path)


def test_a_manifest_may_name_another_format(tmp_path: Path) -> None:
    lay(tmp_path, "clean/a.flac", "noisy/a.flac")
    (tmp_path / "manifest.csv").write_text("file,snr,subset\nnoisy/a.wav,3,x\n")
    (pair,) = find_pairs(tmp_path)
    assert (pair.snr_db, pair.groups) == (3, {"subset": "x"})


@pytest.mark.parametrize("rates_hz", [(48_000, 48_000), (48_000, 16_000), (8_000, 8_000), (16_000, 16_000)])
def test_pairs_of_any_rate_are_heard_at_16_khz(tmp_path: Path, rates_hz: tuple[int, int]) -> None:
    t = np.arange(6400) / 6400
    for side, rate_hz in zip(("clean", "noisy"), rates_hz, strict=True):
        (tmp_path / side).mkdir()
        n = round(0.4 * rate_hz)
        sf.write(tmp_path / side / "a.wav", 0.3 * np.sin(2 * np.pi * 176 * np.arange(n) / n), rate_hz, "FLOAT")
    (pair,) = find_pairs(tmp_path)
    told = "" if rates_hz[1] == 16_000 else f" of {rates_hz[1]} Hz, resampled to 16000"
    assert note_on_rate([pair]) == told
    for sound in pair.read():
        np.testing.assert_allclose(sound[500:-500], 0.3 * np.sin(2 * np.pi * 176 * t)[500:-500], atol=1e-3)


@pytest.mark.parametrize(
    ("sounds", "words"),
    [
        ((SOUND, SOUND[:-1]), "clean and noisy differ in length: 4800 and 4799 samples at 16000 Hz"),
        ((SOUND, np.stack([SOUND, SOUND], axis=1)), "has 2 channels, not one; mix it down: ffmpeg -i a.wav -ac 1"),
        ((SOUND[:0], SOUND[:0]), "holds no samples"),
        ((SOUND, np.where(SOUND > 0.3, np.nan, SOUND)), "holds NaN or infinite samples"),
    ],
)
def test_pairs_that_cannot_be_compared_are_one_line(tmp_path: Path, sounds, words: str) -> None:
    for side, sound in zip(("clean", "noisy"), sounds, strict=True):
        (tmp_path / side).mkdir()
        sf.write(tmp_path / side / "a.wav", sound, 16_000, "FLOAT")
    (pair,) = find_pairs(tmp_path)
    with pytest.raises(Failure) as failed:
        pair.read()
    assert words in str(failed.value)
