"""No ONNX model that names another file reaches ONNX Runtime, wherever in it the name stands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_artifact import toy

from edge_runtime.engines import open_model
from edge_runtime.engines.onnx_file import names_files
from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry

PORTS = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]


def elsewhere(location: str = "../secret") -> onnx.TensorProto:
    """A tensor that is said to lie in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def of_graph(graph: onnx.GraphProto) -> bytes:
    return helper.make_model(graph).SerializeToString()


def initializer(tensor: onnx.TensorProto) -> bytes:
    add = helper.make_node("Add", ["x", "w"], ["y"])
    return of_graph(helper.make_graph([add], "g", PORTS[:1], PORTS[1:], [tensor]))


def constant(tensor: onnx.TensorProto) -> bytes:
    nodes = [helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("Add", ["x", "w"], ["y"])]
    return of_graph(helper.make_graph(nodes, "g", PORTS[:1], PORTS[1:]))


def branch(tensor: onnx.TensorProto) -> bytes:
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "i", [], PORTS[1:], [tensor])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    return of_graph(helper.make_graph([node], "g", PORTS[:1], PORTS[1:]))


def sparse(tensor: onnx.TensorProto) -> bytes:
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", PORTS[:1], PORTS[1:])
    graph.sparse_initializer.add().values.CopyFrom(tensor)
    return of_graph(graph)


def function(tensor: onnx.TensorProto) -> bytes:
    nodes = [helper.make_node("Constant", [], ["b"], value=tensor)]
    model = onnx.ModelProto()
    model.functions.append(helper.make_function("d", "f", ["a"], ["b"], nodes, [helper.make_opsetid("", 13)]))
    return model.SerializeToString()


PLACES: dict[str, Callable[[onnx.TensorProto], bytes]] = {
    "an initializer": initializer,
    "a constant": constant,
    "a branch": branch,
    "sparse": sparse,
    "a function": function,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_name_of_a_file_is_found_anywhere(place: str) -> None:
    assert names_files(PLACES[place](elsewhere()))
    assert not names_files(PLACES[place](numpy_helper.from_array(np.zeros(4, np.float32), "w")))


def test_the_location_alone_is_enough() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    assert names_files(initializer(tensor))
    tensor.data_location = TensorProto.DEFAULT
    assert not names_files(initializer(tensor))


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "here.bin", "*/_ORT_MEM_ADDR_/*"])
def test_the_engine_opens_none(location: str) -> None:
    entry = ModelEntry(file="model.onnx", states=(), golden_snr_floor_db=0)
    with pytest.raises(Failure, match=r"model.onnx: names other files for its weights, which are not read"):
        open_model(initializer(elsewhere(location)), entry, "onnx", "fp32")


@pytest.mark.parametrize("model", [b"\xff" * 20, b"\x3a\xff\x01", b"\x0f", b"\x08"])
def test_what_is_no_protobuf_is_one_line(model: bytes) -> None:
    entry = ModelEntry(file="model.onnx", states=(), golden_snr_floor_db=0)
    with pytest.raises(Failure, match="is no ONNX model"):
        open_model(model, entry, "onnx", "fp32")


def test_models_of_a_build_name_none() -> None:
    for name in ("model.onnx", "model.fp32.onnx"):
        assert not names_files((toy().directory / name).read_bytes())
