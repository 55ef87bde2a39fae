"""The rounding of layers' inputs as plain float operators, which no runtime takes for integers.

scale * clip(round(x / scale), low, high), halves to even. A dynamic scale is found from the least
and the largest of the tensor as a whole, widened to hold 0, or for every row from its largest size.
8-bit floats of a size between two powers of two are whole numbers of one step, an eighth of the
lower power of e4m3: the rounding is to those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, log2
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, helper

from compressors.quantization.float_formats import DTYPES
from compressors.quantization.input_quantizer import SMALLEST_STEP
from compressors.quantization.layers import LayerQuantization
from evaluation.lowering.graph import Graph

SMALLEST = float(np.finfo(np.float32).tiny)  # to divide by, where an input is nothing but zeros


@dataclass
class Rounding:
    """Puts roundings into a graph; layers that round one tensor alike share theirs."""

    graph: Graph
    _known: dict[tuple[object, ...], str] = field(default_factory=dict)

    def of(self, node: NodeProto, facts: LayerQuantization) -> str:
        """The name of a layer's rounded input."""
        grid = (facts.inputs, facts.dynamic, facts.by_row, facts.scale, facts.zero_point)
        key = (node.input[0], facts.activation_bits, *grid)
        if key not in self._known:
            steps = _Steps(self.graph, self.graph.nodes.index(node))
            self._known[key] = _rounded(steps, node.input[0], facts)
        return self._known[key]


def _rounded(steps: _Steps, x: str, facts: LayerQuantization) -> str:
    assert facts.activation_bits is not None
    if facts.inputs != "affine":
        return _in_floats(steps, x, facts)
    highest = 2**facts.activation_bits - 1
    if facts.by_row:
        scale, low, high = _row_by_row(steps, x, highest)
    elif facts.dynamic:
        scale, low, high = _by_itself(steps, x, highest)
    else:
        assert facts.scale is not None
        assert facts.zero_point is not None
        zero = facts.zero_point
        scale, low, high = (steps.number(v) for v in (facts.scale, -zero, highest - zero))
    units = steps.make("Round", steps.make("Div", x, scale))
    return steps.make("Mul", steps.make("Clip", units, low, high), scale)


def _in_floats(steps: _Steps, x: str, facts: LayerQuantization) -> str:
    """To 8-bit floats; below the least power of two, where 0 lies, the step is the same."""
    number_format = torch.finfo(DTYPES[facts.inputs])
    assert facts.scale is not None
    scale, least, most = (
        steps.number(v) for v in (facts.scale, log2(number_format.tiny), number_format.max)
    )
    units = steps.make("Clip", steps.make("Div", x, scale), steps.number(-number_format.max), most)
    logarithm = steps.make("Log", steps.make("Abs", units))
    exponent = steps.make("Floor", steps.make("Mul", logarithm, steps.number(1 / log(2))))
    power = steps.make("Max", exponent, least)
    size = steps.make("Pow", steps.number(2), power)
    step = steps.make("Mul", size, steps.number(number_format.eps))
    levels = steps.make("Mul", steps.make("Round", steps.make("Div", units, step)), step)
    return steps.make("Mul", levels, scale)


def _by_itself(steps: _Steps, x: str, highest: int) -> tuple[str, str, str]:
    """Scale, lowest and highest integer from the tensor's own range."""
    nothing, most = steps.number(0), steps.number(highest)
    low = steps.make("Min", steps.reduce("ReduceMin", x), nothing)
    high = steps.make("Max", steps.reduce("ReduceMax", x), nothing)
    step = steps.make("Div", steps.make("Sub", high, low), most)
    scale = steps.make("Max", step, steps.number(SMALLEST))
    lowest = steps.make("Round", steps.make("Div", low, scale))
    return scale, lowest, steps.make("Add", lowest, most)


def _row_by_row(steps: _Steps, x: str, highest: int) -> tuple[str, str, str]:
    """A scale for every row, around 0."""
    largest = steps.reduce("ReduceMax", steps.make("Abs", x), axes=[-1], keepdims=1)
    step = steps.make("Div", largest, steps.number(highest / 2))
    scale = steps.make("Max", step, steps.number(SMALLEST_STEP))
    middle = (highest + 1) // 2
    return scale, steps.number(-middle), steps.number(highest - middle)


@dataclass
class _Steps:
    """Nodes put in one after another, from a place on."""

    graph: Graph
    place: int

    def make(self, kind: str, *inputs: str) -> str:
        """The output of one more node."""
        return self._put(helper.make_node(kind, inputs, [self.graph.fresh()]))

    def reduce(self, kind: str, x: str, *, keepdims: int = 0, **along: Any) -> str:
        """One number for the whole tensor, or for all along some axes."""
        name = self.graph.fresh()
        return self._put(
            helper.make_node(kind, [x], [name], keepdims=keepdims, **dict[str, Any](along))
        )

    def _put(self, node: NodeProto) -> str:
        self.graph.nodes.insert(self.place, node)
        self.place += 1
        return str(node.output[0])

    def number(self, value: float) -> str:
        """A constant."""
        name = self.graph.fresh()
        self.graph.constants[name] = np.array(value, np.float32)
        return name
