"""A TFLite flatbuffer, written compactly: equal shapes, grids and constants are stored once and shared.

A graph with unrolled recurrences has over a thousand small tensors; written naively their metadata outweighs the
weights. Only what GTCRN needs is here. Source of the format: TensorFlow's schema.fbs, version 3.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
}
# The lowest operator version that carries int8; 2 where not listed, and 1 for float everywhere.
INT8_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "QUANTIZE": 1, "RESHAPE": 1}


@dataclass(frozen=True)
class TensorGrid:
    """Scales and zero points of a tensor; one each, or one for each channel along `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: its index, shape, type and grid."""

    index: int
    shape: tuple[int, ...]
    dtype: str
    grid: TensorGrid | None


class TfliteFile:
    """Collects tensors and operators, then serializes them."""

    def __init__(self) -> None:
        self.tensors: list[tuple[Tensor, str, int]] = []  # with name and buffer
        self.operators: list[tuple[str, tuple[int, ...], tuple[int, ...], Any]] = []
        self.buffers: list[bytes] = [b""]
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._constants: dict[Hashable, Tensor] = {}

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "float32",
        grid: TensorGrid | None = None,
        name: str = "",
        buffer: int = 0,
    ) -> Tensor:
        """A new tensor; anonymous ones cost the fewest bytes."""
        tensor = Tensor(len(self.tensors), tuple(int(d) for d in shape), dtype, grid)
        self.tensors.append((tensor, name, buffer))
        return tensor

    def constant(self, values: NDArray[Any], grid: TensorGrid | None = None) -> Tensor:
        """A constant tensor; equal constants on the same grid are one tensor."""
        values = np.ascontiguousarray(values)
        data, dtype = values.tobytes(), str(values.dtype)
        key = (data, dtype, values.shape, grid)
        if key not in self._constants:
            if data not in self.buffers:
                self.buffers.append(data)
            self._constants[key] = self.tensor(values.shape, dtype, grid, buffer=self.buffers.index(data))
        return self._constants[key]

    def op(self, code: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: Any = None) -> None:
        """An operator by its builtin name; `options` is an object of the schema (…OptionsT)."""
        self.operators.append((code, tuple(t.index for t in inputs), tuple(t.index for t in outputs), options))

    def to_bytes(self, description: str) -> bytes:
        """The serialized model."""
        return _Serializer(self).model(description)


class _Serializer:
    """Builds the flatbuffer with offsets shared between equal vectors and tables."""

    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self.b = flatbuffers.Builder(1 << 19)
        self._shared: dict[Hashable, int] = {}

    def model(self, description: str) -> bytes:
        f, b = self.file, self.b
        codes = self._codes()
        buffers = self._vector([self._buffer(data) for data in f.buffers])
        tensors = self._vector([self._tensor(*t) for t in f.tensors])
        operators = self._vector([self._operator(o, codes) for o in f.operators])
        subgraph = self._subgraph(tensors, operators)
        opcodes = self._vector([self._opcode(code, version) for code, version in codes])
        subgraphs = self._vector([subgraph])
        text = b.CreateString(description)
        schema.ModelStart(b)
        schema.ModelAddVersion(b, 3)
        schema.ModelAddOperatorCodes(b, opcodes)
        schema.ModelAddSubgraphs(b, subgraphs)
        schema.ModelAddDescription(b, text)
        schema.ModelAddBuffers(b, buffers)
        b.Finish(schema.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _once(self, key: Hashable, make: Callable[[], int]) -> int:
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def _vector(self, offsets: list[int]) -> int:
        self.b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.b.PrependUOffsetTRelative(offset)
        return int(self.b.EndVector())

    def _numbers(self, values: Sequence[float], dtype: str) -> int:
        array = np.asarray(values, dtype)
        return self._once((dtype, array.tobytes()), lambda: int(self.b.CreateNumpyVector(array)))

    def _codes(self) -> list[tuple[str, int]]:
        return sorted({(o[0], self._version(o)) for o in self.file.operators})

    def _version(self, operator: tuple[str, tuple[int, ...], tuple[int, ...], Any]) -> int:
        code, inputs, outputs, _ = operator
        types = {self.file.tensors[i][0].dtype for i in (*inputs[:1], *outputs[:1])}
        if "int8" not in types:
            return 1
        return INT8_VERSIONS.get(code, 2)

    def _buffer(self, data: bytes) -> int:
        vector = None
        if data:
            self.b.StartVector(1, len(data), 16)  # 16-byte alignment, as runtimes map weights in place
            self.b.head -= len(data)
            self.b.Bytes[self.b.head : self.b.head + len(data)] = data
            vector = self.b.EndVector()
        schema.BufferStart(self.b)
        if vector is not None:
            schema.BufferAddData(self.b, vector)
        return int(schema.BufferEnd(self.b))

    def _tensor(self, tensor: Tensor, name: str, buffer: int) -> int:
        shape = self._numbers(tensor.shape, "int32")
        grid = self._grid(tensor.grid) if tensor.grid else None
        text = self._once(("name", name), lambda: int(self.b.CreateString(name)))
        schema.TensorStart(self.b)
        schema.TensorAddShape(self.b, shape)
        schema.TensorAddType(self.b, TYPES[tensor.dtype])
        schema.TensorAddBuffer(self.b, buffer)
        schema.TensorAddName(self.b, text)
        if grid is not None:
            schema.TensorAddQuantization(self.b, grid)
        return int(schema.TensorEnd(self.b))

    def _grid(self, grid: TensorGrid) -> int:
        scales = self._numbers(grid.scales, "float32")
        zero_points = self._numbers(grid.zero_points, "int64")

        def table() -> int:
            schema.QuantizationParametersStart(self.b)
            schema.QuantizationParametersAddScale(self.b, scales)
            schema.QuantizationParametersAddZeroPoint(self.b, zero_points)
            schema.QuantizationParametersAddQuantizedDimension(self.b, grid.axis)
            return int(schema.QuantizationParametersEnd(self.b))

        return self._once(grid, table)

    def _operator(
        self, operator: tuple[str, tuple[int, ...], tuple[int, ...], Any], codes: list[tuple[str, int]]
    ) -> int:
        code, inputs, outputs, options = operator
        ins, outs = self._numbers(inputs, "int32"), self._numbers(outputs, "int32")
        packed = (
            self._once((type(options).__name__, repr(vars(options))), lambda: int(options.Pack(self.b)))
            if options is not None
            else None
        )
        schema.OperatorStart(self.b)
        schema.OperatorAddOpcodeIndex(self.b, codes.index((code, self._version(operator))))
        schema.OperatorAddInputs(self.b, ins)
        schema.OperatorAddOutputs(self.b, outs)
        if packed is not None:
            kind = type(options).__name__.removesuffix("T")
            schema.OperatorAddBuiltinOptionsType(self.b, getattr(schema.BuiltinOptions, kind))
            schema.OperatorAddBuiltinOptions(self.b, packed)
        return int(schema.OperatorEnd(self.b))

    def _subgraph(self, tensors: int, operators: int) -> int:
        inputs = self._numbers([t.index for t in self.file.inputs], "int32")
        outputs = self._numbers([t.index for t in self.file.outputs], "int32")
        schema.SubGraphStart(self.b)
        schema.SubGraphAddTensors(self.b, tensors)
        schema.SubGraphAddInputs(self.b, inputs)
        schema.SubGraphAddOutputs(self.b, outputs)
        schema.SubGraphAddOperators(self.b, operators)
        return int(schema.SubGraphEnd(self.b))

    def _opcode(self, code: str, version: int) -> int:
        number = getattr(schema.BuiltinOperator, code)
        schema.OperatorCodeStart(self.b)
        schema.OperatorCodeAddDeprecatedBuiltinCode(self.b, min(number, 127))
        schema.OperatorCodeAddVersion(self.b, version)
        schema.OperatorCodeAddBuiltinCode(self.b, number)
        return int(schema.OperatorCodeEnd(self.b))
