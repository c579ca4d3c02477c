"""Counts: the published figures to the unit; the executed ones against torch and counted multiplications."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from quant.audit import counts, frame_time
from quant.network import ulunas
from quant.network.graph import KINDS, Graph, Node, Shape, State
from quant.network.gtcrn import Config, blank, gtcrn, param_shapes
from quant.network.passes import streaming_graph

NETWORK = blank()
STREAMING = streaming_graph(NETWORK)
LAYERS = {layer.name: layer for layer in counts.count(STREAMING)}

# --- as published -------------------------------------------------------------------------------------------

# What ptflops 0.7 reports of each module of the official model, input (257, 63, 2). A GRU here is two there.
GT_CONV = {
    "point_conv1": 831_600, "point_bn1": 66_528, "point_act": 33_264,
    "depth_conv": 332_640, "depth_bn": 66_528, "depth_act": 33_264,
    "point_conv2": 282_744, "point_bn2": 33_264, "tra.att_gru": 85_680, "tra.att_fc": 8_072,
}  # fmt: skip
DPGRNN = {
    "intra_rnn": 2 * 814_968,
    "intra_fc": 532_240,
    "intra_ln": 33_264,
    "inter_rnn": 2 * 1_014_552,
    "inter_fc": 532_240,
    "inter_ln": 33_264,
}
PTFLOPS_0_7 = {
    "erb.bands": 2_322_432,  # erb.erb_fc
    "encoder.en_convs.0.conv": 3_013_920, "encoder.en_convs.0.bn": 131_040, "encoder.en_convs.0.act": 65_520,
    "encoder.en_convs.1.conv": 1_363_824, "encoder.en_convs.1.bn": 66_528, "encoder.en_convs.1.act": 33_264,
    **{f"encoder.en_convs.{i}.{name}": macs for i in (2, 3, 4) for name, macs in GT_CONV.items()},
    **{f"dpgrnn{i}.{name}": macs for i in (1, 2) for name, macs in DPGRNN.items()},
    **{f"decoder.de_convs.{i}.{name}": macs for i in (0, 1, 2) for name, macs in GT_CONV.items()},
    "decoder.de_convs.3.conv": 2_686_320, "decoder.de_convs.3.bn": 131_040, "decoder.de_convs.3.act": 65_520,
    "decoder.de_convs.4.conv": 1_316_574, "decoder.de_convs.4.bn": 32_508,
    "erb.mask": 1_548_288,  # erb.ierb_fc
}  # fmt: skip


def test_every_published_term_is_ptflops_own():
    assert {row.name: row.macs for row in counts.published(NETWORK)} == PTFLOPS_0_7


def test_published_totals_are_exact():
    rows = counts.published(NETWORK)
    assert sum(row.macs for row in rows) == 32_998_378
    assert sum(row.n_learned for row in rows) == 23_669
    assert sum(row.n_learned + row.n_fixed for row in rows) == 48_245


def terms(*kinds: str, network: Graph = NETWORK) -> int:
    return sum(row.macs for row in counts.published(network) if row.kind in kinds)


def additions(network: Graph = NETWORK) -> int:
    """Elements of the residual sums of the DPGRNNs, the only torch.add of the official models."""
    return 63 * sum(
        np.prod(network.shapes[n.name]) for n in network.nodes if n.name.startswith("dpgrnn") and n.kind == "add"
    )


def linear_biases(network: Graph = NETWORK) -> int:
    """The bias once a position, beyond the once a call of 0.7."""
    return sum(
        network.params[n.param("bias")].size * (63 * network.shapes[n.name].bands - 1)
        for n in network.nodes
        if n.kind == "linear"
    )


def transposed_over_inputs(network: Graph = NETWORK) -> int:
    """Transposed convolutions: the weight once an input position, with history, not an output one."""
    return sum(
        network.params[n.param("weight")].size
        * (
            (63 + (n.state.frames if n.state else 0)) * network.shapes[n.inputs[0]].bands
            - 63 * network.shapes[n.name].bands
        )
        for n in network.nodes
        if n.kind == "conv_transpose"
    )


def gru_beyond_operators() -> int:
    """What the GRU formula has and the operators lack: 7 numbers a unit, and the biases of the input half."""

    def of(n: Node) -> int:
        n_units = sum(NETWORK.params[p].shape[1] for p in n.params["weight_hh"])
        return 63 * NETWORK.shapes[n.name].bands * (7 * n_units + 3 * n_units)

    return sum(of(n) for n in NETWORK.nodes if n.kind in ("gru", "bigru"))


@pytest.mark.parametrize(
    ("version", "macs", "difference"),
    [
        ("0.6.9", 32_865_322, lambda: -terms("layer_norm")),
        ("0.7", 32_998_378, lambda: 0),
        ("0.7.1.2", 33_694_906, lambda: terms("prelu") + additions()),  # functional calls too: PReLU twice
        ("0.7.2.2", 33_830_874, lambda: terms("prelu") + additions() + linear_biases()),
        ("0.7.5", 31_971_546, lambda: terms("prelu") + additions() + linear_biases() + transposed_over_inputs()),
        (
            "0.7.5 operators",
            27_828_414,
            lambda: (
                linear_biases()
                + transposed_over_inputs()
                - terms("batch_norm", "prelu", "layer_norm")
                - gru_beyond_operators()
            ),
        ),
    ],
)
def test_other_versions_of_ptflops_differ_by_named_terms(version, macs, difference):
    """The figures of docs/design/counting.md; so its reasons are the whole difference."""
    assert 32_998_378 + difference() == macs


def test_those_of_ul_unas_are_of_the_same_terms():
    """The figures of docs/design/counting.md."""
    network = ulunas.NETWORK.blank(ulunas.NETWORK.published)
    whole, rows = terms(*counts.PUBLISHED, network=network), counts.published(network)
    assert whole == 34_593_920 == frame_time.PUBLISHED_MACS["ul-unas"]
    assert whole - terms("layer_norm", network=network) == 34_460_864
    assert (whole := whole + additions(network)) == 34_726_976
    assert (whole := whole + linear_biases(network)) == 34_905_150
    assert whole + transposed_over_inputs(network) == 34_345_710
    assert (sum(row.n_learned for row in rows), sum(row.n_fixed for row in rows)) == (146_752, 24_576)
    sizes = Counter()
    for n in network.nodes:
        sizes.update({(n.kind, role): sum(network.params[p].size for p in names) for role, names in n.params.items()})
    assert sizes["conv", "bias"] + sizes["conv_transpose", "bias"] == 481
    assert sizes["batch_norm", "weight"] + sizes["batch_norm", "bias"] == 962
    assert sizes["affine_prelu", "slope_weight"] == 388


def test_published_counts_scale_with_frames_but_for_linear_biases():
    one, two = (sum(row.macs for row in counts.published(NETWORK, n)) for n in (1, 2))
    biases = sum(NETWORK.params[n.param("bias")].size for n in NETWORK.nodes if n.kind == "linear")
    assert two - one == one - biases


CONFIGS = {
    "published": Config(),
    "wide": Config(channels=24),
    "one dpgrnn": Config(n_dpgrnn=1),
    "one block": Config(dilations=(2,)),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters_are_all_tensors_but_running_statistics(config):
    rows = counts.published(blank(config))
    sizes = {n: int(np.prod(s)) for n, s in param_shapes(config).items() if "running" not in n}
    assert sum(r.n_learned + r.n_fixed for r in rows) == sum(sizes.values())
    assert sum(r.n_fixed for r in rows) == sum(size for n, size in sizes.items() if n.startswith("erb."))


def test_every_published_row_has_one_home():
    homes = counts.published_by_layer(NETWORK, STREAMING)
    placed = Counter(row.name for rows in homes.values() for row in rows)
    assert placed == dict.fromkeys(PTFLOPS_0_7, 1)
    assert set(homes) == set(LAYERS)
    assert [r.kind for r in homes["encoder.en_convs.0.bn.wide"]] == ["conv", "batch_norm"]
    assert [r.kind for r in homes["decoder.de_convs.3.bn.phases"]] == ["conv_transpose", "batch_norm"]


def test_a_rewritten_graph_has_no_published_counts():
    with pytest.raises(ValueError, match="before the passes"):
        counts.published(STREAMING)


# --- executed: MACs -----------------------------------------------------------------------------------------


def test_every_kind_is_counted_or_removed_by_a_pass():
    removed = {"conv_transpose", "linear", "batch_norm", "prelu", "neighbours", "affine_prelu", "mean_square_channels"}
    assert set(counts.MACS) == set(KINDS) - removed
    assert {kind for kind, roles in KINDS.items() if roles} == set(counts.PUBLISHED) | {
        "edge_bands",
        "affine_relu",
        "band_energy",
    }


def test_a_graph_before_the_passes_is_refused():
    with pytest.raises(ValueError, match="streaming_graph"):
        counts.count(NETWORK)


@pytest.mark.parametrize("name", [n.name for n in STREAMING.nodes if n.kind == "conv"])
def test_convolutions_against_torch(name):
    """Ones times ones, summed: the sum is the number of multiplications. Padding counts, so it is ones."""
    torch = pytest.importorskip("torch")
    node = STREAMING.node(name)
    weight = torch.from_numpy(STREAMING.params[node.param("weight")])
    a, source = node.attrs, STREAMING.shapes[node.inputs[0]]
    past = node.state.frames if node.state else 0
    ones = torch.ones(1, source.channels, past + 1, source.bands + 2 * a["pad"])

    def multiplications(kernel):
        strides, dilations = (1, a["stride"]), (a["dilation"], 1)
        y = torch.nn.functional.conv2d(ones, kernel, None, strides, 0, dilations, a["groups"])
        assert y.shape[1:] == (STREAMING.shapes[name].channels, 1, STREAMING.shapes[name].bands)
        return int(y.sum())

    assert LAYERS[name].macs_frame == multiplications(torch.ones_like(weight))
    assert LAYERS[name].nonzero_macs_frame == multiplications((weight != 0).float())


def test_matrix_products_against_torchs_own_counter():
    """The float model merges the n groups and directions of a GRU into one block-diagonal matrix: n fold."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from quant.network.float_model import FloatModel

    expected = 0
    for node in STREAMING.nodes:
        if node.kind in ("conv", "edge_bands"):
            expected += LAYERS[node.name].macs_frame
        elif node.kind in ("merge_bands", "split_bands"):  # the float model multiplies the zeros, too
            expected += STREAMING.params[node.param("weight")].size * STREAMING.shapes[node.name].channels
        elif node.kind in ("gru", "bigru"):
            names = node.params["weight_ih"] + node.params["weight_hh"]
            matrices = sum(STREAMING.params[p].size for p in names) * STREAMING.shapes[node.name].bands
            expected += matrices * len(node.params["weight_ih"])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        FloatModel(STREAMING)(torch.zeros(1, 2, 3, 257))
    assert counter.get_total_flops() == 2 * 3 * expected


class Factor:
    """A number that counts how often it is multiplied."""

    n = 0

    def __mul__(self, other: object) -> Factor:
        Factor.n += 1
        return self

    def __add__(self, other: object) -> Factor:
        return self

    __rmul__, __radd__, __sub__, __rsub__ = __mul__, __add__, __add__, __add__


def factors(*shape: int) -> np.ndarray:
    return np.full(shape, Factor(), object)


def spectrum_features(x):
    return x[0] * x[0] + x[1] * x[1]


def normalized(x):
    centred, deviation, weight, bias = x - x.sum(), factors(), factors(*x.shape), factors(*x.shape)
    (centred * centred).sum()
    return centred * deviation[()] * weight + bias


def complex_product(x, m):
    return x[0] * m[0] - x[1] * m[1], x[1] * m[0] + x[0] * m[1]


def erb(node):
    """Bands without a product with zero."""
    for row in STREAMING.params[node.param("weight")]:
        n = np.count_nonzero(row)
        factors(STREAMING.shapes[node.name].channels, n) @ factors(n)


def mended(node):
    for weight in STREAMING.params[node.param("weight")]:
        factors(*weight.shape) @ factors(weight.shape[1])


def recurrent(node):
    """r * h_n and z * (h - n) beside the matrix products; sigmoid and tanh multiply nothing."""
    for w_ih, w_hh in zip(node.params["weight_ih"], node.params["weight_hh"], strict=True):
        n_in, hidden = STREAMING.params[w_ih].shape[1], STREAMING.params[w_hh].shape[1]
        for _ in range(STREAMING.shapes[node.name].bands):
            x, h = factors(n_in), factors(hidden)
            x_r, x_z, x_n = np.split(factors(3 * hidden, n_in) @ x, 3)
            h_r, h_z, h_n = np.split(factors(3 * hidden, hidden) @ h, 3)
            r, z = x_r + h_r, x_z + h_z
            n = x_n + r * h_n
            h = n + z * (h - n)


EQUATIONS = {
    "features": lambda node, x: spectrum_features(x),
    "mean_square": lambda node, x: (x * x).sum(1),
    "edge_bands": lambda node, x, source: mended(node),
    "gate": lambda node, x, g: x * g,
    "layer_norm": lambda node, x: normalized(x),
    "mask": lambda node, x, m: complex_product(x, m),
    "merge_bands": lambda node, x: erb(node),
    "split_bands": lambda node, x: erb(node),
    "gru": lambda node, x: recurrent(node),
    "bigru": lambda node, x: recurrent(node),
}


@pytest.mark.parametrize("name", [n.name for n in STREAMING.nodes if n.kind in EQUATIONS])
def test_other_kinds_against_counted_multiplications(name):
    node = STREAMING.node(name)
    Factor.n = 0
    EQUATIONS[node.kind](node, *(factors(*STREAMING.shapes[i]) for i in node.inputs))
    assert LAYERS[name].macs_frame == Factor.n > 0


def test_the_rest_multiplies_nothing():
    counted = {"conv", *EQUATIONS}
    assert all(layer.macs_frame == 0 for layer in LAYERS.values() if layer.kind not in counted)


def test_zero_weights_are_counted_apart():
    """A stride 2 kernel of 5 as two phases of 3 holds one structural zero: 5 of 6 multiplications count."""
    phases = LAYERS["decoder.de_convs.3.bn.phases"]
    assert phases.nonzero_macs_frame * 6 == phases.macs_frame * 5


def test_the_erb_matrices_are_counted_sparse():
    params = NETWORK.params | {"erb.erb_fc.weight": np.eye(64, 192, dtype=np.float32)}
    sparse = {layer.name: layer for layer in counts.count(streaming_graph(gtcrn(params)))}["erb.bands"]
    assert (sparse.macs_frame, sparse.nonzero_macs_frame) == (3 * 64, 3 * 64)


# --- executed: bytes ----------------------------------------------------------------------------------------


def tiny() -> Graph:
    """input 2x4 -> a 3x4 -> b 3x4 -> c = a + b, the output; nobody reads d and e."""
    params = {"w": np.ones((3, 2, 1, 1), np.float32), "b": np.ones(3, np.float32)}
    attrs = {"kernel": (1, 1), "stride": 1, "groups": 1, "pad": 0, "dilation": 1}
    nodes = (
        Node("conv", "a", ("x",), {"weight": ("w",), "bias": ("b",)}, attrs, State("s", 2, 4, 3)),
        Node("leaky_relu", "b", ("a",), attrs={"slope": 0.5}),
        Node("add", "c", ("a", "b")),
        Node("slice", "d", ("c",), attrs={"start": 0, "stop": 1}),
        Node("slice", "e", ("c",), attrs={"start": 0, "stop": 1}),
    )
    shapes = {"x": Shape(2, 4), **dict.fromkeys("abc", Shape(3, 4)), **dict.fromkeys("de", Shape(1, 4))}
    return Graph({"x": Shape(2, 4)}, nodes, shapes, params, "c")


def test_a_value_lives_from_its_node_to_its_last_reader():
    numbers = {"a": 8 + 12, "b": 12 + 12, "c": 12 + 12 + 12, "d": 12 + 4, "e": 12 + 4}
    alive = {layer.name: layer.activation_bytes for layer in counts.count(tiny())}
    assert alive == {name: 4 * n for name, n in numbers.items()}
    assert counts.totals(counts.count(tiny())).peak_activation_bytes == 4 * 36


def test_int8_values_weights_and_states_take_a_byte():
    layers = {layer.name: layer for layer in counts.count(tiny(), {"a": "int8", "b": "int8", "c": "float"})}
    assert layers["a"].weight_bytes == 6 + 3 * 4 + 3 * 4  # weights, scales, int32 biases
    assert layers["a"].state_bytes == 24
    assert layers["c"].activation_bytes == 12 + 12 + 4 * 12
    floats = {layer.name: layer for layer in counts.count(tiny())}
    assert (floats["a"].weight_bytes, floats["a"].state_bytes) == (4 * 9, 4 * 24)


def test_int8_gru_has_a_scale_a_row():
    name = "dpgrnn1.inter_rnn"  # two groups of 8 units with 8 inputs
    (layer,) = (row for row in counts.count(STREAMING, {name: "int8"}) if row.name == name)
    assert layer.weight_bytes == 2 * (2 * 24 * 8 + 2 * 24 * 4 + 2 * 24 * 4)


def test_states_are_those_of_the_design():
    """Convolutions 2 x 16 x 16 x 33, attention 6 x 16, recurrence over time 2 x 33 x 16 numbers."""
    n_values = 2 * 16 * 16 * 33 + 6 * 16 + 2 * 33 * 16
    assert sum(layer.state_bytes for layer in LAYERS.values()) == 4 * n_values


def test_totals_are_sums_and_a_peak():
    precision = {name: "int8" for name, layer in LAYERS.items() if layer.kind == "conv"}
    layers = counts.count(STREAMING, precision)
    total = counts.totals(layers)
    convolutions = sum(layer.macs_frame for layer in layers if layer.kind == "conv")
    assert total.int8_share == convolutions / sum(layer.macs_frame for layer in layers)
    assert total.mmacs_per_s == pytest.approx(62.5 * total.macs_frame / 1e6)
    assert total.peak_activation_bytes == max(layer.activation_bytes for layer in layers)
    assert total.ram_bytes == total.weight_bytes + total.state_bytes + total.peak_activation_bytes


def test_precisions_of_another_graph_are_refused():
    with pytest.raises(ValueError, match=r"features\.q8 is not in the graph"):
        counts.count(STREAMING, {"features.q8": "int8"})
