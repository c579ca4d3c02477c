"""Sound as it is found: all that is in a file, or one line; headers are promises."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.errors import Failure
from edge_runtime.files import chunks, mp3, sound_source
from edge_runtime.files.sound_source import SoundSource, count

RATE_HZ, N, N_CHANNELS = 16_000, 20_001, 2
WIDTHS = {"PCM_U8": 1, "ULAW": 1, "PCM_16": 2, "PCM_24": 3, "FLOAT": 4, "DOUBLE": 8}


def written(path: Path, form: str, subtype: str, n: int = N, n_channels: int = N_CHANNELS, rate_hz: int = RATE_HZ):
    """Noise, as the file holds it."""
    sound = 0.1 * np.random.default_rng(n).standard_normal((n, n_channels))
    soundfile.write(path, sound, rate_hz, subtype, format=form)
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def everything(path: Path) -> np.ndarray:
    return sound_source.read(path).samples


# --- headers that state 0, half or no length ----------------------------------------------------------------------

Lie = Callable[[bytearray, int], None]  # the file, and the bytes of sound that its header shall state


def lie_riff(file: bytearray, n_bytes: int) -> None:
    struct.pack_into("<I", file, file.index(b"data") + 4, n_bytes)


def lie_riff_whole(file: bytearray, n_bytes: int) -> None:
    lie_riff(file, n_bytes)
    struct.pack_into("<I", file, 4, n_bytes and n_bytes + 36)


def lie_rf64(file: bytearray, n_bytes: int) -> None:
    struct.pack_into("<QQQ", file, file.index(b"ds64") + 8, 0, n_bytes, 0)


def lie_bw64(file: bytearray, n_bytes: int) -> None:
    lie_rf64(file, n_bytes)
    file[:4] = b"BW64"


def lie_w64(file: bytearray, n_bytes: int) -> None:
    struct.pack_into("<Q", file, file.index(b"data\xf3\xac") + 16, n_bytes and n_bytes + 24)


def lie_aiff(file: bytearray, n_bytes: int) -> None:
    struct.pack_into(">I", file, file.index(b"SSND") + 4, n_bytes and n_bytes + 8)
    struct.pack_into(">I", file, file.index(b"COMM") + 10, n_bytes // 4)


def lie_caf(file: bytearray, n_bytes: int) -> None:
    struct.pack_into(">q", file, file.index(b"data") + 4, n_bytes and n_bytes + 4)


def lie_au(file: bytearray, n_bytes: int) -> None:
    struct.pack_into(">I", file, 8, n_bytes)


LIARS: dict[str, tuple[str, Lie]] = {
    "the chunk of a WAV": ("WAV", lie_riff),
    "a WAV as a whole": ("WAV", lie_riff_whole),
    "an extensible WAV": ("WAVEX", lie_riff),
    "RF64": ("RF64", lie_rf64),
    "BW64": ("RF64", lie_bw64),
    "W64": ("W64", lie_w64),
    "AIFF": ("AIFF", lie_aiff),
    "CAF": ("CAF", lie_caf),
    "AU": ("AU", lie_au),
}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.999])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("liar", LIARS)
def test_a_header_that_states_less_hides_nothing(tmp_path: Path, liar: str, subtype: str, share: float) -> None:
    form, lie = LIARS[liar]
    wanted = written(tmp_path / "told", form, subtype)
    file, n_frame = bytearray((tmp_path / "told").read_bytes()), N_CHANNELS * WIDTHS[subtype]
    lie(file, int(share * N) * n_frame)
    (tmp_path / "told").write_bytes(file)
    np.testing.assert_array_equal(everything(tmp_path / "told"), wanted)
    assert count(tmp_path / "told") == (N, RATE_HZ)


FROM_PIPES = [("WAV", lie_riff, stated) for stated in (0x7FFF_FFFF, 0xFFFF_FFFF, 0x8000_0000, 0x7FFF_FFFF - 36)]
FROM_PIPES += [("AIFF", lie_aiff, 0x7F00_0000), ("AIFF", lie_aiff, 0x7EFF_FFFC), ("W64", lie_w64, 2**63 - 25)]
FROM_PIPES += [("W64", lie_w64, 2**64 - 25), ("CAF", lie_caf, 2**63 - 5)]


@pytest.mark.parametrize(("form", "lie", "stated"), FROM_PIPES)
def test_what_was_written_into_a_pipe_states_more_than_a_disk_holds(tmp_path: Path, form: str, lie: Lie, stated: int):
    wanted = written(tmp_path / "in", form, "PCM_16")
    file = bytearray((tmp_path / "in").read_bytes())
    lie(file, stated)
    (tmp_path / "in").write_bytes(file)
    np.testing.assert_array_equal(everything(tmp_path / "in"), wanted)


@pytest.mark.parametrize("n_samples", [0, 1, 5])
def test_an_honest_short_wav_is_as_short_as_it_says(tmp_path: Path, n_samples: int) -> None:
    written(tmp_path / "in.wav", "WAV", "PCM_16", n_samples)
    assert len(everything(tmp_path / "in.wav")) == n_samples


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


TAILS = {
    "chunks": chunk(b"LIST", b"INFO" + chunk(b"INAM", b"a title ")) + chunk(b"bext", bytes(602)),
    "a chunk that nobody knows": chunk(b"xYz1", os.urandom(1000)),
    "a chunk cut off": chunk(b"LIST", b"INFO" + bytes(400))[:100],
    "an ID3v1 tag": b"TAG" + bytes(125),
    "an ID3v2 tag": b"ID3\x04" + bytes(500),
    "a few bytes": b"\r\n\x1a",
}


@pytest.mark.parametrize("tail", TAILS)
def test_what_follows_the_sound_is_not_taken_for_sound(tmp_path: Path, tail: str) -> None:
    wanted = written(tmp_path / "in.wav", "WAV", "PCM_16")
    with (tmp_path / "in.wav").open("ab") as file:
        file.write(TAILS[tail])
    np.testing.assert_array_equal(everything(tmp_path / "in.wav"), wanted)


def test_a_chunk_may_follow_an_odd_length_at_once(tmp_path: Path) -> None:
    """Against the rule, but written."""
    wanted = written(tmp_path / "in.wav", "WAV", "PCM_U8", n_channels=1)
    file = (tmp_path / "in.wav").read_bytes()[: 44 + N]
    (tmp_path / "in.wav").write_bytes(file + TAILS["chunks"])
    np.testing.assert_array_equal(everything(tmp_path / "in.wav"), wanted)


def test_sound_that_a_header_of_32_bits_cannot_state_is_read_in_slices(tmp_path: Path, monkeypatch) -> None:
    """As of a WAV of more than 4 GiB: here a slice is 1000 bytes."""
    monkeypatch.setattr(chunks, "SLICE_BYTES", 1000)
    for form, lie in (("WAV", lie_riff), ("AIFF", lie_aiff)):
        wanted = written(tmp_path / "in", form, "PCM_24")
        file = bytearray((tmp_path / "in").read_bytes())
        lie(file, 0)
        (tmp_path / "in").write_bytes(file)
        np.testing.assert_array_equal(everything(tmp_path / "in"), wanted)


def test_more_than_4_gib_of_a_wav_are_seen(tmp_path: Path) -> None:
    """Zeros that no disk holds: a sparse file."""
    written(tmp_path / "in.wav", "WAV", "PCM_16")
    os.truncate(tmp_path / "in.wav", 5 * 2**30)
    with SoundSource(tmp_path / "in.wav") as source:
        assert sum(part.end - part.start for part in source._parts) == 5 * 2**30 - 44


@pytest.mark.parametrize("form", ["NIST", "VOC", "IRCAM", "SVX", "AVR"])
def test_other_containers_go_to_the_end_of_the_file_by_themselves(tmp_path: Path, form: str) -> None:
    soundfile.write(tmp_path / "in", 0.1 * np.ones(10_000), RATE_HZ, "PCM_16", format=form)
    with (tmp_path / "in").open("ab") as file:
        file.write(b"\x01\x02" * 5_000)
    assert len(everything(tmp_path / "in")) >= 15_000


# --- streams without a length, and one after the other --------------------------------------------------------------


def without_length(flac: bytes) -> bytes:
    """As an encoder leaves it that wrote into a pipe: no count of samples, no checksum."""
    file = bytearray(flac)
    file[21] &= 0xF0
    file[22:26] = bytes(4)
    file[26:42] = bytes(16)
    return bytes(file)


@pytest.mark.parametrize("prefix", [b"", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)])
def test_a_flac_that_states_no_length_is_read_to_its_end(tmp_path: Path, prefix: bytes) -> None:
    wanted = written(tmp_path / "in.flac", "FLAC", "PCM_16")
    (tmp_path / "in.flac").write_bytes(prefix + without_length((tmp_path / "in.flac").read_bytes()))
    with SoundSource(tmp_path / "in.flac") as source:
        assert source.n_stated is None
    np.testing.assert_array_equal(everything(tmp_path / "in.flac"), wanted)
    assert count(tmp_path / "in.flac") == (N, RATE_HZ)


@pytest.mark.parametrize("n_stated", [1, 4096, N - 1])
@pytest.mark.parametrize("prefix", [b"", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)])
def test_a_flac_that_states_less_is_read_to_its_end(tmp_path: Path, prefix: bytes, n_stated: int) -> None:
    wanted = written(tmp_path / "in.flac", "FLAC", "PCM_16")
    file = bytearray((tmp_path / "in.flac").read_bytes())
    struct.pack_into(">I", file, 22, n_stated)
    (tmp_path / "in.flac").write_bytes(prefix + file)
    np.testing.assert_array_equal(everything(tmp_path / "in.flac"), wanted)


@pytest.mark.parametrize("tail", [TAILS["an ID3v1 tag"], b"APETAGEX" + bytes(500), bytes(5000)])
def test_a_flac_ends_before_what_is_no_sound(tmp_path: Path, tail: bytes) -> None:
    wanted = written(tmp_path / "in.flac", "FLAC", "PCM_16")
    with (tmp_path / "in.flac").open("ab") as file:
        file.write(tail)
    np.testing.assert_array_equal(everything(tmp_path / "in.flac"), wanted)


def test_of_a_cut_flac_it_is_said_how_much_is_whole(tmp_path: Path) -> None:
    """In frames of 4096 samples, each of which stands alone."""
    written(tmp_path / "in.flac", "FLAC", "PCM_16")
    (tmp_path / "in.flac").write_bytes((tmp_path / "in.flac").read_bytes()[:-100])
    with pytest.raises(Failure, match=f"damaged after 16384 of {N} samples"):
        everything(tmp_path / "in.flac")


TAGS = {"no tag": (b"", b""), "tags": (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), b"APETAGEX" + bytes(5000))}


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("loud_first", [False, True])
def test_an_mp3_of_a_variable_rate_needs_no_header(tmp_path: Path, loud_first: bool, tags: str) -> None:
    """By the length of its first frame it has twice the sound, or a quarter."""
    sound = np.concatenate((0.3 * np.random.default_rng(0).standard_normal(RATE_HZ), np.zeros(RATE_HZ)))
    whole = io.BytesIO()
    soundfile.write(whole, sound if loud_first else sound[::-1], RATE_HZ, format="MP3", bitrate_mode="VARIABLE")
    frames = whole.getvalue()[mp3.frame_bytes(whole.getvalue()[:4]) :]
    (tmp_path / "in.mp3").write_bytes(frames.join(TAGS[tags]))
    n_samples, rate_hz = count(tmp_path / "in.mp3")
    assert rate_hz == RATE_HZ
    assert 2 * RATE_HZ <= n_samples <= 2 * RATE_HZ + 3 * 576, "the coder's delay, and what fills the last frame"


CHAINED = [
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("FLAC", "PCM_16"),
    ("WAV", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("W64", "FLOAT"),
]
CHAINED += [("MP3", "MPEG_LAYER_III")]
ULP = {form: 0 for form, _ in CHAINED} | {"MP3": 1e-6}  # libmpg123 rounds by where its output lies in memory


@pytest.mark.parametrize(("form", "subtype"), CHAINED)
def test_recordings_put_end_to_end_are_read_one_after_the_other(tmp_path: Path, form: str, subtype: str) -> None:
    parts = [written(tmp_path / f"{n}", form, subtype, n) for n in (16_000, 3_000, 16_000)]
    whole = b"".join((tmp_path / f"{n}").read_bytes() for n in (16_000, 3_000, 16_000))
    (tmp_path / "whole").write_bytes(whole)
    np.testing.assert_allclose(everything(tmp_path / "whole"), np.concatenate(parts), atol=ULP[form])
    assert count(tmp_path / "whole") == (35_000, RATE_HZ)


@pytest.mark.parametrize(("form", "subtype"), [("OGG", "VORBIS"), ("WAV", "PCM_16")])
@pytest.mark.parametrize("other", [(1, RATE_HZ), (2, 8_000)])
def test_parts_of_another_rate_or_channel_count_are_one_line(tmp_path: Path, form: str, subtype: str, other) -> None:
    written(tmp_path / "1", form, subtype)
    written(tmp_path / "2", form, subtype, N, *other)
    (tmp_path / "whole.x").write_bytes((tmp_path / "1").read_bytes() + (tmp_path / "2").read_bytes())
    with pytest.raises(
        Failure, match=rf"goes on with {other[0]} x {other[1]} Hz after 2 x 16000 Hz; convert it: ffmpeg"
    ):
        everything(tmp_path / "whole.x")


def test_an_mp3_beside_a_file_of_macos_is_read(tmp_path: Path) -> None:
    """libsndfile looks for `._NAME` beside a file that it opens by name, and takes it for a resource fork."""
    wanted = written(tmp_path / "in.mp3", "MP3", "MPEG_LAYER_III")
    (tmp_path / "._in.mp3").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02" + bytes(4000))
    np.testing.assert_allclose(everything(tmp_path / "in.mp3"), wanted, atol=ULP["MP3"])


def test_an_mp3_is_read_where_a_file_server_keeps_resource_forks(tmp_path: Path, monkeypatch) -> None:
    """libsndfile looks for one of a file without a name, too: in the working folder."""
    wanted = written(tmp_path / "in.mp3", "MP3", "MPEG_LAYER_III")
    (tmp_path / ".AppleDouble").mkdir()
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(everything(tmp_path / "in.mp3"), wanted, atol=ULP["MP3"])


# --- one line -------------------------------------------------------------------------------------------------------


def cut(file: bytes) -> bytes:
    return file[: len(file) // 2]


CUT = [
    ("WAV", "PCM_16", "cut short: its header promises 80004 bytes of sound, "),
    ("RF64", "PCM_16", "cut short: its header promises 80004 bytes of sound, "),
    ("W64", "FLOAT", "cut short: its header promises 160008 bytes of sound, "),
    ("AIFF", "PCM_16", "cut short: its header promises 80004 bytes of sound, "),
    ("CAF", "PCM_16", "cut short: its header promises 80004 bytes of sound, "),
    ("FLAC", "PCM_16", "damaged after "),
    ("MP3", "MPEG_LAYER_III", "cut short: its header promises "),
    ("OGG", "VORBIS", "cut short: its last page ends behind its end"),
]


@pytest.mark.parametrize(("form", "subtype", "words"), CUT)
def test_half_a_file_is_one_line(tmp_path: Path, form: str, subtype: str, words: str) -> None:
    written(tmp_path / "in.x", form, subtype)
    (tmp_path / "in.x").write_bytes(cut((tmp_path / "in.x").read_bytes()))
    with pytest.raises(Failure) as failed:
        everything(tmp_path / "in.x")
    assert str(failed.value).startswith(f"{tmp_path / 'in.x'}: {words}")
    assert str(failed.value).endswith("; copy it again")


UNREAD = {
    "in.m4a": (
        b"\0\0\0\x20ftypM4A \0\0\0\0",
        "is MPEG-4 sound (AAC or ALAC), which is not read here; convert it",
    ),
    "in.aac": (b"\xff\xf1\x50\x80\x1b\xbf\xfc" + bytes(100), "is AAC, which is not read here; convert it: ffmpeg"),
    "in.wma": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(100), "is WMA, which is not read here"),
    "a b.webm": (b"\x1a\x45\xdf\xa3" + bytes(100), "convert it: ffmpeg -i 'a b.webm' 'a b.wav'"),
    "._in.wav": (b"\x00\x05\x16\x07" + bytes(100), "is macOS metadata, not sound; take the file without `._`"),
    "in.wav": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "is a Git LFS pointer, not the sound itself; run",
    ),
    "page.wav": (b"<!DOCTYPE html><html>", "is a web page, not sound; download the file itself"),
    "none.wav": (b"", "is empty: 0 bytes"),
    "text.wav": (
        b"these are no samples\n" * 9,
        "cannot be read as sound (Format not recognised); get it again",
    ),
    "head.wav": (b"RIFF\0\0\0\0WAVEfmt ", "cannot be read as sound ("),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_one_line_with_a_remedy(tmp_path: Path, name: str) -> None:
    content, words = UNREAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Failure) as failed:
        everything(tmp_path / name)
    assert str(failed.value).startswith(f"{tmp_path / name}: ")
    assert words in str(failed.value)


@pytest.mark.parametrize("n_bytes", range(0, 140, 3))
@pytest.mark.parametrize("form", ["WAV", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "OGG", "MP3"])
def test_the_start_of_a_file_is_a_sound_or_one_line(tmp_path: Path, form: str, n_bytes: int) -> None:
    soundfile.write(tmp_path / "in", np.zeros(100), RATE_HZ, format=form)
    (tmp_path / "in").write_bytes((tmp_path / "in").read_bytes()[:n_bytes])
    try:
        assert len(everything(tmp_path / "in")) <= 100
    except Failure as failure:
        assert str(failure).startswith(f"{tmp_path / 'in'}: ")  # noqa: PT017  either will do


@pytest.mark.parametrize("rate_hz", [0x7FFF_FFFF, 20_000_000, 1, 999])
def test_a_rate_that_no_sound_has_is_one_line(tmp_path: Path, rate_hz: int) -> None:
    written(tmp_path / "in.wav", "WAV", "PCM_16", rate_hz=rate_hz)
    with pytest.raises(Failure, match=f"has a sample rate of {rate_hz} Hz"):
        SoundSource(tmp_path / "in.wav")


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [0, 1, 32_001, 64_000, 0x3FFFFFFF, 0x7FFFFFE7, 0x7FFFFFE8, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("endian", ["BIG", "LITTLE"])
def test_an_au_file_ends_where_it_ends(tmp_path: Path, endian: str, stated: int) -> None:
    """libsndfile made nothing of a length of 2 GiB, and the denoised file was empty."""
    path = tmp_path / "a.au"
    soundfile.write(path, np.full(16_000, 0.25), 16_000, format="AU", subtype="PCM_16", endian=endian)
    data = bytearray(path.read_bytes())
    struct.pack_into(">I" if endian == "BIG" else "<I", data, 8, stated)
    path.write_bytes(data)
    assert len(sound_source.read(path).samples) == 16_000


def test_no_memory_is_made_for_what_a_header_claims(tmp_path: Path) -> None:
    written(tmp_path / "in.flac", "FLAC", "PCM_16", 1000)
    file = bytearray((tmp_path / "in.flac").read_bytes())
    file[21] |= 0x0F  # 64 thousand million samples
    (tmp_path / "in.flac").write_bytes(file)
    tracemalloc.start()
    with pytest.raises(Failure, match="damaged after 1000 of 6442"):
        everything(tmp_path / "in.flac")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_mixed_recording_takes_the_memory_of_one_channel(tmp_path: Path) -> None:
    wanted = written(tmp_path / "in.wav", "WAV", "FLOAT", 200_000, n_channels=8).mean(axis=1, dtype=np.float32)
    tracemalloc.start()
    mixed = sound_source.read(tmp_path / "in.wav", mixed=True).samples
    assert tracemalloc.get_traced_memory()[1] < 5e6, "6.4e6 of all channels"
    tracemalloc.stop()
    np.testing.assert_array_equal(mixed[:, 0], wanted)
    np.testing.assert_array_equal(
        sound_source.read(tmp_path / "in.wav", 2.0, mixed=True).samples[:, 0], wanted[:32_000]
    )


def test_what_is_too_long_for_the_memory_is_one_line(tmp_path: Path, monkeypatch) -> None:
    def full(self: SoundSource) -> object:
        raise MemoryError

    written(tmp_path / "in.wav", "WAV", "PCM_16")
    monkeypatch.setattr(SoundSource, "blocks", full)
    with pytest.raises(Failure, match=r"in.wav: is too long for the memory here; cut it: ffmpeg -i in.wav -f segment"):
        everything(tmp_path / "in.wav")


def test_a_part_is_a_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(range(100)))
    with (tmp_path / "in").open("rb", buffering=0) as file:
        from edge_runtime.files.contents import PartView

        view = PartView(file, chunks.Part(b"head", 10, 20))
        assert view.read() == b"head" + bytes(range(10, 20))
        assert (view.seek(-3, io.SEEK_END), view.read(), view.tell()) == (11, bytes((17, 18, 19)), 14)
        assert (view.seek(2), view.read(4), view.seek(-1, io.SEEK_CUR), view.read(1)) == (2, b"ad\x0a\x0b", 5, b"\x0b")
        assert (view.seek(50), view.read()) == (50, b"")


# --- names --------------------------------------------------------------------------------------------------------


def test_a_name_that_the_locale_cannot_spell_is_opened(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/gr\xfc\xdfe.wav"  # Latin-1 on a UTF-8 disk
    wanted = written(tmp_path / "in.wav", "WAV", "PCM_16")
    os.rename(tmp_path / "in.wav", name)
    np.testing.assert_array_equal(everything(Path(os.fsdecode(name))), wanted)
