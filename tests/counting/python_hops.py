"""Hops of silence and noise through the Python runtime, to be counted: ARTIFACT ENGINE PRECISION N_HOPS."""

import sys

import numpy as np

from edge_runtime import Denoiser

directory, engine, precision, n_hops = sys.argv[1:]
denoiser = Denoiser.open(directory, engine, precision)
hop = np.random.default_rng(0).normal(0, 0.05, 256).astype(np.float32)
hop_out = np.empty_like(hop)
for _ in range(int(n_hops)):
    denoiser.step(hop, hop_out)
