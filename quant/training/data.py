"""Batches of noisy and clean spectra from two corpora, mixed anew at every step; a part of the files is kept apart.

A batch depends on the corpora, the settings, the seed, the step and the rank alone, so a run resumes to the same
numbers and every process of a distributed one hears something else.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from calibration.corpus import Corpus
from calibration.mixing import Clip, Mix, mixtures
from edge_runtime.errors import Failure
from edge_runtime.machine import check_semaphores
from edge_runtime.stft import SQRT_HANN, WindowName
from quant.network.spectra import analyse

HELD_OUT_SHARE = 0.1  # of the files of either corpus, for validation


class Batch(NamedTuple):
    """Spectra (clips, 2, frames, 257), and a line for each recording that could not be used."""

    noisy: Tensor
    clean: Tensor
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sounds:
    """Speech and noise, how they are mixed, `mix.n_clips` a batch, and the window that spectra are taken through."""

    speech: Corpus
    noise: Corpus
    mix: Mix
    window: WindowName = SQRT_HANN

    def split(self) -> tuple[Sounds, Sounds]:
        """(for training, for validation): by a hash of the file name, so that adding files moves none across.

        Failure: a corpus too small to part.
        """
        speech, noise = _split(self.speech), _split(self.noise)
        return replace(self, speech=speech[0], noise=noise[0]), replace(self, speech=speech[1], noise=noise[1])

    def clips(self, seed: int, left_out: Callable[[Failure], None]) -> list[Clip]:
        """One batch of mixtures; recordings that cannot be used are told to `left_out`. Failure: none can."""
        return list(mixtures(self.speech, self.noise, replace(self.mix, seed=seed), left_out))

    def batch(self, seed: int) -> Batch:
        """One batch of spectra. Failure: see `clips`."""
        left_out: list[str] = []
        clips = self.clips(seed, lambda failure: left_out.append(failure.what))
        noisy, clean = (np.stack([getattr(clip, side) for clip in clips]) for side in ("noisy", "clean"))
        spectra = [torch.from_numpy(analyse(sound, self.window)) for sound in (noisy, clean)]
        return Batch(spectra[0], spectra[1], tuple(left_out))


def _split(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """By rank of the names' hashes: at least one file on either side."""
    if len(corpus.names) < 2:
        remedy = "validation needs a file that training does not hear: put in at least two recordings"
        raise Failure("holds a single recording", where=corpus.folder, remedy=remedy)
    ranked = sorted(corpus.names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    n_held = max(1, round(HELD_OUT_SHARE * len(ranked)))
    held = set(ranked[:n_held])
    kept = tuple(name for name in corpus.names if name not in held)
    return replace(corpus, names=kept), replace(corpus, names=tuple(n for n in corpus.names if n in held))


class _Steps(Dataset["Batch | Failure"]):
    """Step -> batch, for the loader's workers."""

    def __init__(self, sounds: Sounds, first: int, last: int, seed: int, rank: int) -> None:
        self.sounds, self.first, self.last, self.seed, self.rank = sounds, first, last, seed, rank

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, i: int) -> Batch | Failure:
        # No two ranks, steps or seeds meet: 65,536 ranks a step, 2^32 steps a seed.
        try:
            return self.sounds.batch(self.seed * 2**48 + (self.first + i) * 2**16 + self.rank)
        except Failure as failure:  # raised in a worker it would come out with the worker's traceback in it
            return failure


def _outlive_signals(worker: int) -> None:
    """What ends a program reaches all of its processes. The one that was asked ends the others: a worker that died of
    it first was an error to PyTorch, told as a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def batches(
    sounds: Sounds, first: int, last: int, *, seed: int = 0, rank: int = 0, n_workers: int = 1
) -> Iterator[Batch]:
    """The batches of steps `first` to `last`, made ahead in `n_workers` processes (0: in this one).

    Failure: no recording can be used, or a process died, or cannot be.
    """
    if n_workers:
        check_semaphores()
    steps = _Steps(sounds, first, last, seed, rank)
    made = iter(DataLoader(steps, batch_size=None, num_workers=n_workers, worker_init_fn=_outlive_signals))
    for _ in range(first, last):
        try:
            batch = next(made)
        except RuntimeError as error:  # what PyTorch raises when the system has killed a worker
            said = str(error).splitlines()[0]
            raise Failure(f"a process that mixes sounds died ({said})", remedy="lower --workers or --batch") from error
        if isinstance(batch, Failure):
            raise batch
        yield Batch(*batch)
