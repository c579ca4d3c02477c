"""The integer reference judges the emitters; here it is judged: by exact fractions, and by the float model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from random_networks import PUBLISHED, random_network

from calibration.mixing import Mix
from calibration.ranges import Provenance, Ranges, TapRange
from edge_runtime.engines.golden import snr_db
from edge_runtime.stft import Float32Array
from quant.int8.fake_quantize import plan_tap
from quant.int8.plan import SAME_GRID, Plan, make_plan
from quant.int8.qparams import (
    QParams,
    choose_weight_scales,
    dequantize,
    quantize,
    quantize_bias,
    quantize_weight,
)
from quant.int8.reference import Reference
from quant.network.float_model import FloatModel
from quant.network.graph import Graph, Node, Shape, State
from quant.network.passes import streaming_graph
from quant.ptq.quantize import Quantized

Array = NDArray[Any]


def streamed(reference: Reference, frames: Float32Array) -> Float32Array:
    return np.stack([reference.step(frame) for frame in frames]).astype(np.float32)


# --- against exact arithmetic -----------------------------------------------------------------------------------

# (channels in, channels out, kernel over time and band, stride, groups, dilation)
CONVOLUTIONS = {
    "pointwise": (4, 3, (1, 1), 1, 1, 1),
    "wide": (2, 4, (1, 5), 2, 1, 1),
    "grouped": (4, 4, (1, 5), 2, 2, 1),
    "phases": (4, 8, (1, 3), 1, 2, 1),
    "depthwise": (3, 3, (3, 3), 1, 3, 1),
    "dilated": (3, 3, (3, 3), 1, 3, 5),
}
N_BANDS = 7


def convolution(name: str, seed: int = 0) -> tuple[Graph, Plan]:
    """x -> quantize -> convolution, random weights, grids that saturate now and then."""
    n_in, n_out, (kt, kf), stride, groups, dilation = CONVOLUTIONS[name]
    rng = np.random.default_rng(seed)
    params = {
        "w": rng.standard_normal((n_out, n_in // groups, kt, kf)).astype(np.float32),
        "b": rng.standard_normal(n_out).astype(np.float32),
    }
    past = (kt - 1) * dilation
    attrs = {"kernel": (kt, kf), "stride": stride, "groups": groups, "dilation": dilation, "pad": kf // 2}
    nodes = (
        Node("quantize", "x.q8", ("x",)),
        Node(
            "conv",
            "y",
            ("x.q8",),
            {"weight": ("w",), "bias": ("b",)},
            attrs,
            State("s", past, N_BANDS, n_in) if past else None,
        ),
    )
    out = Shape(n_out, (N_BANDS + 2 * (kf // 2) - kf) // stride + 1)
    shapes = {"x": Shape(n_in, N_BANDS), "x.q8": Shape(n_in, N_BANDS), "y": out}
    grids = {"x.q8": QParams(float(np.float32(0.013)), 11), "y": QParams(float(np.float32(0.037)), -5)}
    plan = Plan({"x.q8": "int8", "y": "int8"}, grids, {"w": choose_weight_scales(params["w"])})
    return Graph({"x": shapes["x"]}, nodes, shapes, params, "y"), plan


def exactly(name: str, graph: Graph, plan: Plan, history: list[Array]) -> Array:
    """The definition, term by term: frames (channels, bands) of int8 up to now -> (out, bands) of int8."""
    n_in, n_out, (kt, kf), stride, groups, dilation = CONVOLUTIONS[name]
    scales, source, target = plan.weight_scales["w"], plan.grids["x.q8"], plan.grids["y"]
    weight, bias = quantize_weight(graph.params["w"], scales), quantize_bias(graph.params["b"], source.scale, scales)
    made = np.empty(graph.shapes["y"], np.int8)
    for o in range(n_out):
        unit = Fraction(source.scale) * Fraction(float(scales[o])) / Fraction(target.scale)
        for band in range(graph.shapes["y"].bands):
            total = int(bias[o])
            for i in range(n_in // groups):
                for t in range(kt):
                    for k in range(kf):
                        at = band * stride + k - kf // 2
                        frame = len(history) - 1 - (kt - 1 - t) * dilation
                        if 0 <= at < N_BANDS and frame >= 0:
                            x = int(history[frame][o // (n_out // groups) * (n_in // groups) + i, at])
                            total += (x - source.zero_point) * int(weight[o, i, t, k])
            made[o, band] = min(max(round(total * unit) + target.zero_point, -128), 127)  # round: ties to even
    return made


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_its_definition(name: str) -> None:
    """Exact, over frames that reach beyond the dilation; the past is real zero before the stream starts."""
    graph, plan = convolution(name)
    reference, rng = Reference(graph, plan), np.random.default_rng(1)
    history: list[Array] = []
    for _ in range(13):
        x = (2 * rng.standard_normal((N_BANDS, graph.shapes["x"].channels))).astype(np.float32)
        history.append(quantize(x.T, plan.grids["x.q8"]))
        np.testing.assert_array_equal(reference.step(x).T, exactly(name, graph, plan, history))


def two_nodes(
    node: Node, source: Shape, target: Shape, params: dict[str, Array], **scales: Array
) -> tuple[Graph, Plan]:
    """x -> quantize -> the node, on grids that saturate now and then."""
    nodes = (Node("quantize", "x.q8", ("x",)), node)
    grids = {"x.q8": QParams(float(np.float32(0.013)), 11), "y": QParams(float(np.float32(0.037)), -5)}
    if node.kind in SAME_GRID:
        grids["y"] = grids["x.q8"]
    plan = Plan({"x.q8": "int8", "y": "int8"}, grids, scales)
    return Graph({"x": source}, nodes, {"x": source, "x.q8": source, "y": target}, params, "y"), plan


def affine_case(rng: np.random.Generator) -> tuple[Graph, Plan, Callable[[Array], Array]]:
    shape = Shape(3, N_BANDS)
    params = {k: rng.standard_normal(s).astype(np.float32) for k, s in (("w", shape), ("b", shape), ("r", (3,)))}
    params["b"][0] *= 100  # so large that its channel's scale follows from it
    node = Node("affine_relu", "y", ("x.q8",), {"weight": ("w",), "bias": ("b",), "rise": ("r",)})
    prepared, _ = two_nodes(node, shape, shape, params)
    some = TapRange(-1.7, 1.6, 1, -1.7, 1.6)
    ranges = Ranges({"x.q8": some, "y": some}, Provenance("min_max", Mix(), "", "", ""))
    plan = make_plan(prepared, {"x.q8": "int8", "y": "int8"}, ranges)
    scales, source, target = plan.weight_scales["w"], plan.grids["x.q8"], plan.grids["y"]
    weight, rise = quantize_weight(params["w"], scales), quantize_weight(params["r"], scales)
    bias = quantize_bias(params["b"], source.scale, scales[:, None])
    assert np.abs(bias).max() <= 2**15 - 1, "16 bits hold it"

    def definition(x: Array) -> Array:
        made = np.empty(shape, np.int8)
        for c in range(3):
            unit = Fraction(source.scale) * Fraction(float(scales[c])) / Fraction(target.scale)
            for f in range(N_BANDS):
                step = int(x[c, f]) - source.zero_point
                total = int(weight[c, f]) * step + int(rise[c]) * max(step, 0) + int(bias[c, f])
                made[c, f] = min(max(round(total * unit) + target.zero_point, -128), 127)
        return made

    return prepared, plan, definition


def energy_case(kind: str, rng: np.random.Generator) -> tuple[Graph, Plan, Callable[[Array], Array]]:
    source, over_bands = Shape(3, N_BANDS), kind == "mean_square"
    weight = rng.uniform(0, 1, 3).astype(np.float32)
    scales = choose_weight_scales(weight[None])
    params = {} if over_bands else {"weight": ("w",)}
    target = Shape(3, 1) if over_bands else Shape(1, N_BANDS)
    known = {} if over_bands else {"w": weight}
    graph, plan = two_nodes(Node(kind, "y", ("x.q8",), params), source, target, known, w=scales)
    x_grid, y_grid = plan.grids["x.q8"], plan.grids["y"]
    integers = quantize_weight(weight, scales)

    def definition(x: Array) -> Array:
        squares = [[(int(v) - x_grid.zero_point) ** 2 for v in row] for row in x]
        unit = Fraction(x_grid.scale) ** 2 / Fraction(y_grid.scale)
        if over_bands:
            reals = [[sum(row) * unit / N_BANDS] for row in squares]
        else:
            sums = [sum(int(w) * row[f] for w, row in zip(integers, squares, strict=True)) for f in range(N_BANDS)]
            reals = [[total * unit * Fraction(float(scales[0])) for total in sums]]
        return np.array([[min(max(round(v) + y_grid.zero_point, -128), 127) for v in row] for row in reals], np.int8)

    return graph, plan, definition


CASES = {
    "affine_relu": affine_case,
    "mean_square": partial(energy_case, "mean_square"),
    "band_energy": partial(energy_case, "band_energy"),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_node_is_its_definition(kind: str) -> None:
    rng = np.random.default_rng(3)
    graph, plan, definition = CASES[kind](rng)
    reference = Reference(graph, plan)
    for _ in range(20):
        x = (2 * rng.standard_normal((N_BANDS, 3))).astype(np.float32)
        np.testing.assert_array_equal(reference.step(x).T, definition(quantize(x.T, plan.grids["x.q8"])))


def test_stacked_bands_are_padded_with_real_zero_and_come_back() -> None:
    graph, plan = two_nodes(Node("stack_bands", "y", ("x.q8",)), Shape(1, N_BANDS), Shape(4, 2), {})
    nodes = (*graph.nodes, Node("unstack_bands", "z", ("y",)))
    there_and_back = Graph(graph.inputs, nodes, {**graph.shapes, "z": Shape(1, N_BANDS)}, {}, "z")
    both = Plan({**plan.precision, "z": "int8"}, {**plan.grids, "z": plan.grids["y"]}, {})
    x, seen = np.arange(N_BANDS, dtype=np.float32)[:, None] / 10, dict[str, Array]()
    back = Reference(there_and_back, both).step(x, seen.__setitem__)
    grid, stacked = plan.grids["x.q8"], quantize(x.T, plan.grids["x.q8"])[0]
    np.testing.assert_array_equal(seen["y"].T.ravel(), [*stacked, grid.zero_point])
    np.testing.assert_array_equal(back[:, 0], stacked)


# --- against the float model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_8_bits_it_is_the_float_model(name: str, spectra_3_s: Float32Array) -> None:
    """130 dB was measured: float32 sums in another order."""
    frames, graph = spectra_3_s[60:80], streaming_graph(random_network(name))
    found = streamed(Reference(graph, Plan({}, {}, {})), frames)
    with torch.no_grad():
        wanted = FloatModel(graph)(torch.from_numpy(frames).permute(2, 0, 1)[None].contiguous())[0]
    assert snr_db(wanted[0].permute(1, 2, 0).numpy(), found) >= 100


def in_torch(values: Array) -> torch.Tensor:
    """(channels, bands) -> (1, channels, 1, bands)."""
    return torch.from_numpy(np.ascontiguousarray(values))[None, :, None]


class Forced:
    """A tap that rounds as the plan says, compares with what the reference made, and goes on with the reference's."""

    def __init__(self, quantized: Quantized) -> None:
        self.q, self.rounded = quantized, plan_tap(quantized.graph, quantized.plan)
        self.kinds = {node.name: node.kind for node in quantized.graph.nodes}
        self.off: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def start(self, values: dict[str, Array]) -> None:
        self.values, self.band = values, Counter[str]()

    def __call__(self, name: str, value: torch.Tensor) -> torch.Tensor:
        value = self.rounded(name, value)
        if name not in self.values:
            return value
        stored, grid = self.values[name], self.q.plan.grids.get(name)
        wanted = stored if grid is None else dequantize(stored, grid)
        if self.kinds[name] == "bigru":  # step i: band i forward, band n - 1 - i backward
            forward, backward = np.split(wanted, 2)
            i = self.band[name]
            self.band[name] += 1
            forced = torch.from_numpy(np.concatenate([forward[:, i], backward[:, -1 - i]]))[None, None]
        elif self.kinds[name] == "gru":
            forced = torch.from_numpy(np.ascontiguousarray(wanted.T))[None]
        else:
            forced = in_torch(wanted)
        if grid is not None:
            lsb = ((forced - value) / grid.scale).abs().round().int()
            self.off[self.kinds[name]].update(lsb.flatten().tolist())
        return forced


# What share of the values may be off by one step, by recipe: the float model sums reals in float32, the reference
# integers, so near a tie one in a few hundred thousand falls the other way; with every node in 8 bits a few more.
MOST_OFF = {"static": 1e-5, "everything": 1e-4, "ul-unas": 1e-4}


@pytest.mark.parametrize("recipe", MOST_OFF)
def test_fake_quantization_is_the_reference_node_by_node(
    recipe: str, quantized: Quantized, everything: Quantized, ulunas_quantized: Quantized, spectra: Float32Array
) -> None:
    """Each node reads what the reference read, states included, so nothing cascades."""
    chosen = {"static": quantized, "everything": everything, "ul-unas": ulunas_quantized}[recipe]
    graph, plan = chosen.graph, chosen.plan
    reference, forced, model = Reference(graph, plan), Forced(chosen), FloatModel(graph).eval()
    carried = {
        node.state.name: plan.grids.get(node.inputs[0] if node.kind == "conv" else node.name)
        for node in graph.nodes
        if node.state is not None
    }
    for frame in spectra[60:90]:
        states = {}
        for name, state in reference.states.items():
            real = state if state.dtype == np.float32 else dequantize(state, carried[name])
            states[name] = torch.from_numpy(np.ascontiguousarray(real.transpose(1, 0, 2)))[None]
        values: dict[str, Array] = {}
        reference.step(frame, values.__setitem__)
        forced.start(values)
        with torch.no_grad():
            model(in_torch(frame.T), states, forced)
    for kind, off in forced.off.items():
        assert max(off) <= 1, kind
        assert 1 - off[0] / off.total() <= MOST_OFF[recipe], kind
    assert {"conv", "bigru", "quantize"} <= set(forced.off)


# --- streams ----------------------------------------------------------------------------------------------------


def test_reset_is_a_new_stream(quantized: Quantized, spectra_3_s: Float32Array) -> None:
    reference = Reference(quantized.graph, quantized.plan)
    first = streamed(reference, spectra_3_s[60:70])
    carried_on = streamed(reference, spectra_3_s[60:70])
    reference.reset()
    np.testing.assert_array_equal(streamed(reference, spectra_3_s[60:70]), first)
    assert not np.array_equal(carried_on, first), "the states should matter"


def test_two_streams_do_not_meet(quantized: Quantized, spectra_3_s: Float32Array) -> None:
    one, other = (Reference(quantized.graph, quantized.plan) for _ in range(2))
    alone = streamed(Reference(quantized.graph, quantized.plan), spectra_3_s[60:66])
    together = []
    for frame, noise in zip(spectra_3_s[60:66], spectra_3_s[100:106], strict=True):
        together.append(one.step(frame))
        other.step(noise)
    np.testing.assert_array_equal(np.stack(together), alone)


def test_states_are_as_declared_and_stay_so(quantized: Quantized, spectra_3_s: Float32Array) -> None:
    reference = Reference(quantized.graph, quantized.plan)

    def forms() -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        return {name: (state.shape, state.dtype) for name, state in reference.states.items()}

    at_start = forms()
    for node in quantized.graph.nodes:
        if node.state is not None:
            s, dtype = node.state, np.int8 if quantized.plan.is_int8(node) else np.float32
            assert at_start[s.name] == ((s.frames, s.channels, s.bands), dtype)
    streamed(reference, spectra_3_s[60:63])
    assert forms() == at_start


def test_a_stream_starts_from_real_zero(quantized: Quantized) -> None:
    reference = Reference(quantized.graph, quantized.plan)
    for node in quantized.graph.nodes:
        if node.state is not None and quantized.plan.is_int8(node):
            grid = quantized.plan.grids[node.inputs[0] if node.kind == "conv" else node.name]
            assert not dequantize(reference.states[node.state.name], grid).any()


def test_the_tap_sees_every_value_as_it_is_stored(quantized: Quantized, spectra_3_s: Float32Array) -> None:
    seen: dict[str, Array] = {}
    enhanced = Reference(quantized.graph, quantized.plan).step(spectra_3_s[70], seen.__setitem__)
    assert list(seen) == [node.name for node in quantized.graph.nodes]
    for node in quantized.graph.nodes:
        assert seen[node.name].shape == quantized.graph.shapes[node.name]
        assert (seen[node.name].dtype == np.int8) == quantized.plan.is_int8(node), node.name
    np.testing.assert_array_equal(seen["enhanced"].T, enhanced)


@pytest.mark.parametrize(
    "frame", [np.zeros((257, 2)), np.full((257, 2), 1e4), np.full((257, 2), 1e-30)], ids=["silence", "loud", "faint"]
)
def test_any_level_gives_finite_numbers(frame: Array, quantized: Quantized) -> None:
    reference = Reference(quantized.graph, quantized.plan)
    with np.errstate(all="raise", under="ignore"):
        for _ in range(3):
            enhanced = reference.step(frame.astype(np.float32))
    assert np.isfinite(enhanced).all()
    assert np.abs(enhanced).max() <= 2 * np.abs(frame).max(), "a mask is at most one in each part"
