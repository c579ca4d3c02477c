"""An ONNX model under construction: operators, shared constants, states, and QuantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.manifest import StateEntry
from quant.emit.emitted import UINT8_SHIFT, state_entry
from quant.int8.qparams import QParams

OPSET = 17
IR_VERSION = 8
CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # to (1, frames, bands, channels), and back


class OnnxFile:
    """Collects nodes, constants, inputs and outputs, then serializes them."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.states: list[StateEntry] = []

    @property
    def constant_bytes(self) -> int:
        """Weights, biases, scales and shapes."""
        return sum(len(constant.raw_data) for constant in self.constants.values())

    def to_bytes(self, title: str, description: str, metadata: Mapping[str, str] | None = None) -> bytes:
        """The checked, serialized model. `title`: of the network."""
        constants = list(self.constants.values())
        graph = helper.make_graph(self.nodes, title.lower(), self.inputs, self.outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="edge-denoise",
            doc_string=f"{title}, {description}",
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def input(self, name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> str:
        """Declare an input; returns its name."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> str:
        """Declare an output; returns its name."""
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        out: str | None = None,
        n_out: int = 1,
        bears: str | None = None,
        **attrs: Any,
    ) -> Any:
        """One ONNX operator; returns the name of its output, or the list of names when there are several.

        The operator that does the work of a graph node `bears` its name, by which the coverage audit finds it again
        after ONNX Runtime's fusions.
        """
        number = len(self.nodes)
        outs = [out or bears or f"v{number}"] if n_out == 1 else [f"v{number}_{i}" for i in range(n_out)]
        self.nodes.append(helper.make_node(kind, list(inputs), outs, name=bears or f"n{number}", **attrs))
        return outs[0] if n_out == 1 else outs

    def const(self, values: Any, dtype: str = "float32") -> str:
        """A named constant; equal ones are one initializer."""
        array = np.asarray(values, dtype)
        key = f"{array.dtype}{array.shape}{array.tobytes().hex()}"
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array.copy("C"), f"c{len(self.constants)}")
        return str(self.constants[key].name)

    def ints(self, *values: int) -> str:
        return self.const(values, "int64")

    def quantized(self, value: str, q: QParams) -> str:
        return str(self.op("QuantizeLinear", [value, *self.grid(q)]))

    def dequantized(self, value: str, q: QParams) -> str:
        return str(self.op("DequantizeLinear", [value, *self.grid(q)]))

    def grid(self, q: QParams) -> tuple[str, str]:
        return self.const(q.scale), self.const(q.zero_point + UINT8_SHIFT, "uint8")

    def integers(self, values: Any, scales: Any, axis: int, zero_point: int = 0) -> str:
        """Integer constants behind DequantizeLinear: one scale an index of `axis`, one zero point for all."""
        zero_points = np.full(len(scales), zero_point)
        grid = (self.const(values, values.dtype), self.const(scales), self.const(zero_points, values.dtype))
        return str(self.op("DequantizeLinear", grid, axis=axis))

    def state_in(self, name: str, shape: Sequence[int], q: QParams | None) -> str:
        """The input of a state, uint8 on a grid (a convolution's then lies channels last) or float."""
        self.states.append(state_entry(name, shape, q, unsigned=True))
        return self.input(name, shape, TensorProto.UINT8 if q else TensorProto.FLOAT)

    def state_out(self, name: str, shape: Sequence[int], q: QParams | None) -> str:
        """Its output, of the same type and on the same grid."""
        return self.output(f"{name}_out", shape, TensorProto.UINT8 if q else TensorProto.FLOAT)
