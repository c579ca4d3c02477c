"""The streaming transform equals torch's offline one, and gives the input back."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.stft import (
    HOP_SAMPLES,
    LATENCY_SAMPLES,
    N_BINS,
    WINDOW_SAMPLES,
    Analysis,
    Synthesis,
    WindowName,
    window,
)


def noise(n_hops: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, n_hops * HOP_SAMPLES).astype(np.float32)


NAMES: tuple[WindowName, ...] = get_args(WindowName)
each_window = pytest.mark.parametrize("name", NAMES)


def analyse(samples: np.ndarray, name: WindowName) -> np.ndarray:
    """(n_frames, 257, 2) of the samples and one hop of silence after them."""
    analysis = Analysis(name)
    hops = np.append(samples, np.zeros(HOP_SAMPLES, np.float32)).reshape(-1, HOP_SAMPLES)
    spectra = np.empty((len(hops), N_BINS, 2), np.float32)
    for hop, spectrum in zip(hops, spectra, strict=True):
        analysis.push(hop, spectrum)
    return spectra


def synthesise(spectra: np.ndarray, name: WindowName) -> np.ndarray:
    """The samples of all frames, without the LATENCY_SAMPLES that come before the first."""
    synthesis = Synthesis(name)
    hops = np.empty((len(spectra), HOP_SAMPLES), np.float32)
    for spectrum, hop in zip(spectra, hops, strict=True):
        synthesis.push(spectrum, hop)
    return hops.reshape(-1)[LATENCY_SAMPLES:]


def torch_window(torch, name: WindowName):
    return torch.hann_window(WINDOW_SAMPLES).pow(0.5 if name == "sqrt_hann" else 1)


@each_window
def test_analysis_is_torch_stft(name):
    torch = pytest.importorskip("torch")
    samples = noise(40)
    wanted = torch.stft(
        torch.from_numpy(samples),
        WINDOW_SAMPLES,
        HOP_SAMPLES,
        window=torch_window(torch, name),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    wanted = torch.view_as_real(wanted).transpose(0, 1).numpy()
    found = analyse(samples, name)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5


@each_window
def test_synthesis_is_torch_istft(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    spectra = rng.normal(0, 1, (30, N_BINS, 2)).astype(np.float32)  # not the spectrum of any signal
    complex_spectra = torch.view_as_complex(torch.from_numpy(spectra).transpose(0, 1).contiguous())
    wanted = torch.istft(complex_spectra, WINDOW_SAMPLES, HOP_SAMPLES, window=torch_window(torch, name))
    found = synthesise(spectra, name)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted.numpy()).max() <= 1e-5


@given(n_hops=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), name=st.sampled_from(NAMES))
def test_law_synthesis_of_analysis_is_the_input(n_hops, seed, name):
    samples = noise(n_hops, seed)
    assert np.abs(synthesise(analyse(samples, name), name) - samples).max() <= 1e-6


@each_window
def test_both_windows_of_a_sample_add_up_to_one(name):
    products = np.prod([part.astype(np.float64) for part in window(name)], 0)
    assert np.abs(products[:HOP_SAMPLES] + products[HOP_SAMPLES:] - 1).max() <= 1e-7


def test_the_root_of_hann_is_the_same_both_ways_to_the_last_bit():
    np.testing.assert_array_equal(*window("sqrt_hann"))


def test_reset_forgets():
    analysis, synthesis = Analysis(), Synthesis()
    hop, spectrum, out = noise(1), np.empty((N_BINS, 2), np.float32), np.empty(HOP_SAMPLES, np.float32)
    outs = []
    for _ in range(2):
        analysis.push(hop, spectrum)
        synthesis.push(spectrum, out)
        outs.append((spectrum.copy(), out.copy()))
        analysis.reset()
        synthesis.reset()
    assert all(np.array_equal(a, b) for a, b in zip(*outs, strict=True))
