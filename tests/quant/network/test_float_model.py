"""The float model is the official network, whole or frame by frame, and taps see all of it without changing it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import one_thread
import pytest
import torch
from torch import Tensor

from edge_runtime.stft import HOP_SAMPLES, N_BINS, Float32Array, Synthesis
from quant.inputs import assets
from quant.inputs.checkpoint import Checkpoint
from quant.network.float_model import GRU_TAPS, FloatModel, States, identity
from quant.network.graph import Graph
from quant.network.gtcrn import gtcrn

# The ladder's bound, of the largest value. Both sides are float32 and sum in other orders: 3e-7 was measured.
BOUND = 1e-5


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model(graph: Graph) -> FloatModel:
    return FloatModel(graph).eval()


@pytest.fixture(scope="module")
def whole(spectra: Float32Array) -> Tensor:
    """(1, 2, 626, 257): the mixture as the model takes it."""
    return torch.from_numpy(spectra).permute(2, 0, 1)[None].contiguous()


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, of the largest value: an STFT bin is up to sum(window) = 325 times a sample."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def in_chunks(model: FloatModel, spectrum: Tensor, lengths: list[int]) -> Tensor:
    """Frames handed over `lengths` at a time, states carried between."""
    states: States | None = None
    parts = []
    for chunk in spectrum.split(lengths, 2):
        part, states = model(chunk, states)
        parts.append(part)
    return torch.cat(parts, 2)


def synthesized(enhanced: Tensor) -> Float32Array:
    """(1, 2, frames, 257) -> (samples,)."""
    frames = np.ascontiguousarray(enhanced[0].permute(1, 2, 0).numpy())
    hops, synthesis = np.empty((len(frames), HOP_SAMPLES), np.float32), Synthesis()
    for frame, hop in zip(frames, hops, strict=True):
        synthesis.push(frame, hop)
    return hops.reshape(-1)


# --- against the official network -------------------------------------------------------------------------------


def official_frames(spectra: Float32Array) -> Float32Array:
    """The official streaming ONNX, as published, on (n, 257, 2)."""
    session = one_thread.session(str(assets.weights()))
    caches = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name != "mix"}
    enhanced = np.empty_like(spectra)
    for frame, out in zip(spectra, enhanced, strict=True):
        first, *rest = session.run(None, {"mix": frame.reshape(1, N_BINS, 1, 2), **caches})
        out[:] = first[0, :, 0]
        caches = dict(zip(caches, rest, strict=True))
    return enhanced


@pytest.mark.parametrize("rewritten", [False, True], ids=["as_written", "rewritten"])
def test_equals_the_official_streaming_onnx_frame_by_frame(
    rewritten: bool, official: Checkpoint, graph: Graph, spectra_3_s: Float32Array
) -> None:
    model = FloatModel(graph if rewritten else gtcrn(official.params)).eval()
    spectrum = torch.from_numpy(spectra_3_s).permute(2, 0, 1)[None]
    ours = in_chunks(model, spectrum, [1] * len(spectra_3_s))
    theirs = torch.from_numpy(official_frames(spectra_3_s)).permute(2, 0, 1)[None]
    assert theirs.abs().max() > 1, "the recording should be heard"
    assert error(ours, theirs) <= BOUND


# --- streaming --------------------------------------------------------------------------------------------------


def test_offline_equals_frame_by_frame_after_10_s(model: FloatModel, whole: Tensor) -> None:
    offline, _ = model(whole)
    streamed = in_chunks(model, whole, [1] * whole.shape[2])
    assert np.abs(synthesized(offline)).max() > 0.1, "the recording should be heard"
    assert np.abs(synthesized(offline) - synthesized(streamed)).max() <= BOUND
    assert error(streamed[:, :, -1], offline[:, :, -1]) <= BOUND


@pytest.mark.parametrize("lengths", [[188], [1, 187], [60, 60, 68], [7] * 26 + [6], [3, 100, 1, 84]], ids=str)
def test_any_chunking_of_frames_is_the_same_stream(model: FloatModel, whole: Tensor, lengths: list[int]) -> None:
    spectrum = whole[:, :, :188]
    offline, _ = model(spectrum)
    assert error(in_chunks(model, spectrum, lengths), offline) <= BOUND


def test_two_streams_at_once_do_not_meet(model: FloatModel, whole: Tensor) -> None:
    first, second = whole[:, :, :40], whole[:, :, 200:240]
    states: dict[str, States | None] = {"first": None, "second": None}
    parts: dict[str, list[Tensor]] = {"first": [], "second": []}
    for frame in range(40):
        for name, spectrum in (("first", first), ("second", second)):
            part, states[name] = model(spectrum[:, :, frame : frame + 1], states[name])
            parts[name].append(part)
    assert torch.equal(torch.cat(parts["first"], 2), in_chunks(model, first, [1] * 40))
    assert torch.equal(torch.cat(parts["second"], 2), in_chunks(model, second, [1] * 40))


def test_a_batch_is_its_rows(model: FloatModel, whole: Tensor) -> None:
    rows = torch.cat([whole[:, :, :40], whole[:, :, 200:240]])
    both, states = model(rows)
    for row in (0, 1):
        alone, alone_states = model(rows[row : row + 1])
        assert error(both[row : row + 1], alone) <= BOUND
        for name, state in alone_states.items():
            assert error(states[name][row : row + 1], state) <= BOUND, name


def test_starting_again_forgets_everything(model: FloatModel, whole: Tensor) -> None:
    fresh, _ = model(whole[:, :, :20])
    _, states = model(whole[:, :, 300:340])
    carried, _ = model(whole[:, :, :20], states)
    again, _ = model(whole[:, :, :20])
    assert torch.equal(again, fresh)
    assert not torch.equal(carried, fresh), "the states should matter"


def test_states_are_those_the_graph_declares(model: FloatModel, whole: Tensor) -> None:
    start = model.zero_states(torch.zeros(1))
    for length in (1, 2, 30):
        _, states = model(whole[:, :, :length])
        assert {name: state.shape for name, state in states.items()} == {
            name: state.shape for name, state in start.items()
        }
    assert sum(state.numel() for state in start.values()) == 2 * 16 * 16 * 33 + 6 * 16 + 2 * 33 * 16


# --- taps -------------------------------------------------------------------------------------------------------


def test_a_tap_sees_every_value_and_parameter(model: FloatModel, graph: Graph, whole: Tensor) -> None:
    shapes: dict[str, torch.Size] = {}

    def tap(name: str, value: Tensor) -> Tensor:
        shapes.setdefault(name, value.shape)
        return value

    model(whole[:, :, :4], tap=tap)
    inside = {f"{n.name}.{role}" for n in graph.nodes if n.kind in ("gru", "bigru") for role in GRU_TAPS}
    assert set(shapes) == set(graph.inputs) | {n.name for n in graph.nodes} | set(graph.params) | inside
    for node in graph.nodes:
        if node.kind not in ("gru", "bigru"):  # tapped step by step
            channels, bands = graph.shapes[node.name]
            assert shapes[node.name] == (1, channels, 4, bands), node.name


def test_a_tap_that_does_nothing_changes_nothing(model: FloatModel, whole: Tensor) -> None:
    def copied(name: str, value: Tensor) -> Tensor:
        return value.clone()

    plain, _ = model(whole[:, :, :20], fused=frozenset())
    for tap in (identity, copied):
        assert torch.equal(model(whole[:, :, :20], tap=tap, fused=frozenset())[0], plain)


def test_pytorchs_own_recurrence_is_ours(model: FloatModel, whole: Tensor) -> None:
    """`gru_step` one after the other, and the kernel that runs where nothing is tapped."""
    fused, stepped = model(whole[:, :, :60])[0], model(whole[:, :, :60], fused=frozenset())[0]
    assert float((fused - stepped).abs().max() / stepped.abs().max()) < 1e-5


def test_every_tap_counts(model: FloatModel, graph: Graph, whole: Tensor) -> None:
    """Negating any one value changes the output: nothing is tapped that is not used."""
    spectrum = whole[:, :, 60:64]
    plain, _ = model(spectrum)
    names = [n.name for n in graph.nodes]
    names += [f"{n.name}.{role}" for n in graph.nodes if n.kind in ("gru", "bigru") for role in GRU_TAPS]
    for turned in names:
        enhanced, _ = model(spectrum, tap=lambda name, value, turned=turned: -value if name == turned else value)
        assert not torch.equal(enhanced, plain), turned


def test_gradients_reach_every_parameter(graph: Graph, whole: Tensor) -> None:
    """The same model is trained later: nothing in it may cut the graph of autograd."""
    with torch.enable_grad():
        model = FloatModel(graph)
        model(whole[:, :, 60:64])[0].square().sum().backward()
    cold = [name for name in graph.params if model.weight(name).grad is None or not model.weight(name).grad.any()]
    assert cold == []
