"""TFLite operators as GTCRN's lowering needs them, one method each, on tensors of four dimensions.

What XNNPACK, TFLite's fast delegate, takes decides the form: it splits into at most 4 and concatenates at most 5, and
knows no grouped convolution. A graph that stays within is one partition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_runtime.stft import Float32Array
from quant.emit.tflite.file import Tensor, TensorGrid, TfliteFile
from quant.int8.qparams import WEIGHT_LIMIT, QParams, quantize_bias, quantize_weight

BANDS, CHANNELS = 2, 3  # the axes of a band-major tensor (1, frames, bands, channels)
MOST_CONCATENATED = 5
LEAST_SLOPE = 1.00001 / 256  # of an 8-bit LeakyReLU, in steps of its output a step of its input; a bit above the bound
BINARY = {
    "ADD": schema.AddOptionsT,
    "SUB": schema.SubOptionsT,
    "MUL": schema.MulOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT,
}


def as_grid(q: QParams) -> TensorGrid:
    """A grid in the file's terms."""
    return TensorGrid((q.scale,), (q.zero_point,))


def as_qparams(grid: TensorGrid) -> QParams:
    """The grid of a whole tensor in the plan's terms."""
    return QParams(grid.scales[0], grid.zero_points[0])


def dense(weight: Float32Array, groups: int) -> Float32Array:
    """A grouped kernel (out, in/groups, t, b) as a dense one with zeros: older fast kernels know no groups, and newer
    ones gain little by them."""
    if groups == 1:
        return weight
    n_out, per_group, kt, kf = weight.shape
    out = np.zeros((n_out, per_group * groups, kt, kf), weight.dtype)
    for g in range(groups):
        rows = slice(g * n_out // groups, (g + 1) * n_out // groups)
        out[rows, g * per_group : (g + 1) * per_group] = weight[rows]
    return out


class TfliteOps(TfliteFile):
    """A file with operators. A result is int8 where a grid `q` is given or its input has one that cannot change."""

    def new(self, shape: Sequence[int], q: QParams | None, name: str = "") -> Tensor:
        return self.tensor(shape, "int8" if q else "float32", as_grid(q) if q else None, name)

    def like(self, x: Tensor, q: QParams | None, shape: Sequence[int] | None = None) -> Tensor:
        return self.new(x.shape if shape is None else shape, q)

    def convert(self, x: Tensor, q: QParams | None) -> Tensor:
        """QUANTIZE onto a grid (also from another grid), or DEQUANTIZE when there is none."""
        out = self.like(x, q)
        self.op(
            "QUANTIZE" if q else "DEQUANTIZE",
            [x],
            [out],
            schema.QuantizeOptionsT() if q else schema.DequantizeOptionsT(),
        )
        return out

    def moved(
        self,
        code: str,
        inputs: list[Tensor],
        shape: Sequence[int],
        options: object = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """An operator that moves values and so keeps their grid."""
        out = out or self.tensor(shape, inputs[0].dtype, inputs[0].grid)
        self.op(code, inputs, [out], options)
        return out

    def ints(self, values: Sequence[int]) -> Tensor:
        return self.constant(np.asarray(values, np.int32))

    def reshape(self, x: Tensor, shape: Sequence[int], out: Tensor | None = None) -> Tensor:
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        return self.moved("RESHAPE", [x, self.ints(shape)], shape, options, out)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        shape = [x.shape[i] for i in order]
        return self.moved("TRANSPOSE", [x, self.ints(order)], shape, schema.TransposeOptionsT())

    def slice_axis(self, x: Tensor, axis: int, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        begin, size = [0] * len(x.shape), list(x.shape)
        begin[axis], size[axis] = start, stop - start
        return self.moved("SLICE", [x, self.ints(begin), self.ints(size)], size, schema.SliceOptionsT(), out)

    def rows(self, x: Tensor, axis: int = BANDS) -> list[Tensor]:
        """Every row of an axis; slices, because SPLIT into more than 4 parts would leave the fast kernels."""
        return [self.slice_axis(x, axis, i, i + 1) for i in range(x.shape[axis])]

    def split(self, x: Tensor, axis: int, n: int) -> list[Tensor]:
        options = schema.SplitOptionsT()
        options.numSplits = n
        shape = list(x.shape)
        shape[axis] //= n
        outs = [self.tensor(shape, x.dtype, x.grid) for _ in range(n)]
        self.op("SPLIT", [self.constant(np.array(axis, np.int32)), x], outs, options)
        return outs

    def concat(self, xs: Sequence[Tensor], axis: int, out: Tensor | None = None) -> Tensor:
        """In a tree of at most 5 at a time: more at once would leave the fast kernels."""
        while len(xs) > MOST_CONCATENATED:
            starts = range(0, len(xs), MOST_CONCATENATED)
            xs = [self.concat(xs[i : i + MOST_CONCATENATED], axis) for i in starts]
        if len(xs) == 1 and out is None:
            return xs[0]
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self.moved("CONCATENATION", list(xs), shape, options, out)

    def pad(self, x: Tensor, axis: int, before: int, after: int) -> Tensor:
        """Real zeros before and after."""
        if before == after == 0:
            return x
        widths = np.zeros((4, 2), np.int32)
        widths[axis] = before, after
        shape = list(x.shape)
        shape[axis] += before + after
        return self.moved("PAD", [x, self.constant(widths)], shape, schema.PadOptionsT())

    def binary(self, code: str, a: Tensor, b: Tensor, q: QParams | None = None) -> Tensor:
        options = BINARY[code]()
        out = self.like(a, q, np.broadcast_shapes(a.shape, b.shape))
        self.op(code, [a, b], [out], options)
        return out

    def unary(self, code: str, x: Tensor, q: QParams | None = None, options: object = None) -> Tensor:
        out = self.like(x, q)
        self.op(code, [x], [out], options)
        return out

    def relu(self, x: Tensor) -> Tensor:
        """In 8 bits as the activation of a sum with zero: no fast kernel takes an operator of its own."""
        if x.grid is None:
            return self.unary("RELU", x)
        options = schema.AddOptionsT()
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        zero = self.constant(np.full((1, 1, 1, 1), x.grid.zero_points[0], np.int8), x.grid)
        return self.moved("ADD", [x, zero], x.shape, options)

    def leaky_relu(self, x: Tensor, slope: float, q: QParams | None) -> Tensor:
        """In 8 bits with a slope of at least `LEAST_SLOPE`: no fast kernel takes less, which is under a step of it."""
        if q and x.grid:
            least = LEAST_SLOPE * q.scale / x.grid.scales[0]
            slope = slope if abs(slope) >= least else least
        options = schema.LeakyReluOptionsT()
        options.alpha = slope
        return self.unary("LEAKY_RELU", x, q, options)

    def mean(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        options = schema.ReducerOptionsT()
        options.keepDims = True
        shape = [1 if i in axes else d for i, d in enumerate(x.shape)]
        out = self.tensor(shape)
        self.op("MEAN", [x, self.ints(axes)], [out], options)
        return out

    def product(self, x: Tensor, weight: Float32Array) -> Tensor:
        """weight (out, in) times the last axis, in float."""
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        out = self.tensor((*x.shape[:-1], len(weight)))
        zero = self.constant(np.zeros(len(weight), np.float32))
        self.op("FULLY_CONNECTED", [x, self.constant(np.ascontiguousarray(weight)), zero], [out], options)
        return out

    def scalar(self, value: float) -> Tensor:
        return self.constant(np.full((1, 1, 1, 1), value, np.float32))

    def filter(
        self,
        x: Tensor,
        weight: Float32Array,
        bias: Float32Array,
        q: QParams | None,
        *,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        padded: bool = False,
        scales: Float32Array | None = None,
    ) -> Tensor:
        """A convolution: weight (out, time, band, in), or (1, time, band, out) when depthwise.

        Over bands it pads to keep ceil(bands / stride), but on an input `padded` before.
        `scales`: one a channel; the node is 8-bit when `q` is given.
        """
        w, b = self.weights(x, weight, bias, scales, 3 if depthwise else 0, q)
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding = schema.Padding.VALID if padded else schema.Padding.SAME
        options.strideW, options.strideH = stride, 1
        options.dilationHFactor, options.dilationWFactor = dilation, 1
        n_out = len(bias)
        if depthwise:
            options.depthMultiplier = n_out // x.shape[CHANNELS]
        before = weight.shape[2] - 1 if padded else 0
        bands = -(-(x.shape[BANDS] - before) // stride)
        out = self.new((1, 1, bands, n_out), q)
        self.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, w, b], [out], options)
        return out

    def weights(
        self,
        x: Tensor,
        weight: Float32Array,
        bias: Float32Array,
        scales: Float32Array | None,
        axis: int,
        q: QParams | None,
    ) -> tuple[Tensor, Tensor]:
        """Weight and bias tensors: integers for an 8-bit node, float otherwise."""
        if q is None or scales is None:
            return self.constant(weight), self.constant(bias)
        first = np.moveaxis(weight, axis, 0)
        integers = np.moveaxis(quantize_weight(first, scales), 0, axis)
        assert x.grid is not None
        grid = TensorGrid(tuple(scales.tolist()), (0,) * len(scales), axis)
        biases = quantize_bias(bias, x.grid.scales[0], scales)
        units = (np.float32(x.grid.scales[0]) * scales).astype(np.float32)
        bias_grid = TensorGrid(tuple(units.tolist()), (0,) * len(scales))
        return self.constant(integers, grid), self.constant(biases, bias_grid)

    def reverse(self, x: Tensor) -> Tensor:
        """The bands from the other end, as an exact product with the exchange matrix.

        REVERSE_V2 would do, but no fast kernel takes it: the graph would fall into one more partition.
        """
        n = x.shape[BANDS]
        exchange = np.eye(n, dtype=np.float32)[::-1, None, None]
        q = as_qparams(x.grid) if x.grid else None
        rows = self.transpose(x, (0, 1, 3, 2))
        y = self.filter(rows, exchange, np.zeros(n, np.float32), q, scales=np.full(n, 1 / WEIGHT_LIMIT, np.float32))
        return self.transpose(y, (0, 1, 3, 2))
