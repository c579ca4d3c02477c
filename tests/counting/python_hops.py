"""Hops of noise through the Python runtime, to be counted between two marks (`icount.c`), once all is warm: ARTIFACT
ENGINE PRECISION N_HOPS."""

import os
import sys

import numpy as np

from edge_runtime import Denoiser

N_WARM = 10

directory, engine, precision, n_hops = sys.argv[1:]
denoiser = Denoiser.open(directory, engine, precision)
hop = np.random.default_rng(0).normal(0, 0.05, 256).astype(np.float32)
hop_out = np.empty_like(hop)
for n in (N_WARM, int(n_hops)):
    for _ in range(n):
        denoiser.step(hop, hop_out)
    os.getppid()
