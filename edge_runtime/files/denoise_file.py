"""Denoise a sound file, a second at a time: constant memory, exact length, all or nothing on disk."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.band import chosen
from edge_runtime.denoiser import Denoiser
from edge_runtime.engines import AUTO
from edge_runtime.files.any_rate import AnyRateDenoiser
from edge_runtime.files.sound_file import (
    Form,
    check_source,
    check_target,
    check_written,
    create,
    kept_subtype,
    write_block,
)
from edge_runtime.files.sound_source import SoundSource, count
from edge_runtime.manifest import Artifact
from edge_runtime.stft import Float32Array, Repairs
from edge_runtime.whole_file import written_whole

_LONG_S: Final = 30  # shorter files are done before a progress bar is read


class FileSummary(NamedTuple):
    """What was done. `n_samples` is per channel; repairs and clipping count over all channels."""

    output: str
    container: str
    subtype: str
    sample_rate_hz: int
    n_channels: int
    n_samples: int
    duration_s: float
    elapsed_s: float
    engine: str
    engine_reason: str
    precision: str
    band: str
    n_nonfinite: int
    n_limited: int
    n_clipped: int


def denoise_file(
    in_path: str | Path,
    out_path: str | Path,
    artifact: Artifact,
    engine: str = AUTO,
    precision: str = "int8",
    n_threads: int = 1,
    *,
    band: str | None = None,
    force: bool = False,
    progress: bool | None = None,
) -> FileSummary:
    """Denoise `in_path` into `out_path`: same rate, channels, length and alignment; same subtype if possible.

    `band` None keeps what lies above 8 kHz where that is possible, SPEECH ends there; see `band.chosen`.
    `progress` None shows a bar for long files on a terminal. Failure: a path, the sound, the model or the
    disk is not fit; what was at `out_path` is then untouched.
    """
    source_path, target_path = Path(in_path), Path(out_path)
    check_source(source_path)
    container = check_target(target_path, source_path, force=force)
    began_s = time.perf_counter()
    with SoundSource(source_path) as source, written_whole(target_path) as part:
        taken = chosen(band, source.rate_hz, source_path)
        n_samples = count(source_path)[0] if source.n_stated is None else source.n_stated
        subtype = kept_subtype(container, source.subtype)
        form = Form(container, subtype, source.rate_hz, source.n_channels, n_samples, source.tags)
        with create(part, target_path, form) as sink:
            denoisers = [Denoiser.open(artifact, engine, precision, n_threads) for _ in range(source.n_channels)]
            stream = AnyRateDenoiser(denoisers, source.rate_hz, taken)
            blocks = _clean_blocks(source.blocks(source.rate_hz), stream)
            shown = _watched(blocks, source.rate_hz, n_samples / source.rate_hz, progress)
            n_clipped = n_written = 0  # a header may have stated less than there is
            for block in shown:
                n_clipped += write_block(sink, target_path, block)
                n_written += len(block)
        check_written(part, target_path, n_written)
    elapsed_s = time.perf_counter() - began_s
    form = form._replace(n_samples=n_written)
    return _summary(target_path, form, denoisers[0], elapsed_s, taken, stream.repairs, n_clipped)


def _summary(
    path: Path, form: Form, denoiser: Denoiser, elapsed_s: float, band: str, repairs: Repairs, n_clipped: int
) -> FileSummary:
    return FileSummary(
        output=str(path),
        container=form.container.format,
        subtype=form.subtype,
        sample_rate_hz=form.rate_hz,
        n_channels=form.n_channels,
        n_samples=form.n_samples,
        duration_s=form.n_samples / form.rate_hz,
        elapsed_s=elapsed_s,
        engine=denoiser.engine.name,
        engine_reason=denoiser.engine_reason,
        precision=denoiser.engine.precision,
        band=band,
        n_nonfinite=repairs.n_nonfinite,
        n_limited=repairs.n_limited,
        n_clipped=n_clipped,
    )


def _clean_blocks(blocks: Iterable[Float32Array], stream: AnyRateDenoiser) -> Iterator[Float32Array]:
    for block in blocks:
        yield stream.feed(block)
    yield stream.flush()


def _watched(
    blocks: Iterable[Float32Array], rate_hz: int, duration_s: float, progress: bool | None
) -> Iterator[Float32Array]:
    """The blocks, with a bar on standard error that counts their seconds."""
    if not (progress if progress is not None else duration_s > _LONG_S and sys.stderr.isatty()):
        yield from blocks
        return
    from tqdm import tqdm  # a quarter of all that a short file would wait for

    with tqdm(total=round(duration_s), unit="s", unit_scale=True, leave=False) as bar:
        for block in blocks:
            yield block
            bar.update(len(block) / rate_hz)
