"""Puts Q/DQ pairs into a float graph where TensorRT's explicit quantisation wants them.

Its rules: signed 8-bit integers whose zero point is 0, or 8-bit floats; a pair before every input
of a layer that is to run in them, weights as they are with one DequantizeLinear a layer, a scale
for each output channel; biases in float; nothing between a layer and what its kernel takes in
(bias, addition, Relu). The addition of a residual block is taken into the layer that computes one
of its sides, and runs in integers if the other side is rounded too; that side has the scale with
which some layer reads it, else one from ranges seen on the calibration split. Layers in 8-bit
floats leave additions in float. Poolings and reshapes need no pair, as TensorRT moves pairs past
them. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from evaluation.lowering.graph import Graph
from evaluation.lowering.plan import QuantizedLayer

LARGEST = 127  # of signed 8 bits, on the side where it matters
SMALLEST_SCALE = 1e-8
PASSED_BY = {"MaxPool", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Relu", "Clip"}

Layers = Mapping[str, QuantizedLayer]
Kind = np.dtype[Any]
INTEGERS: Kind = np.dtype(np.int8)


def branches(graph: Graph, layers: Layers) -> dict[int, str]:
    """The additions to be taken into a layer, by identity, with the side that must be rounded."""
    wanted = _read_as_integers(graph, layers)
    found = {}
    for node in graph.nodes:
        if node.op_type != "Add" or node.output[0] not in wanted:
            continue
        sides = [name for name in node.input if name not in graph.constants]
        fused = [name for name in sides if _by_layer(graph, layers, name)]
        if len(sides) == 2 and fused:
            found[id(node)] = next((n for n in sides if n not in fused), sides[1])
    return found


def unscaled(graph: Graph, layers: Layers, sides: Mapping[int, str]) -> set[str]:
    """Sides that no layer reads as integers, so that their scale must be seen."""
    return {name for name in sides.values() if _scale_of_readers(graph, layers, name) is None}


def scale_covering(low: float, high: float) -> float:
    """The finest scale at which signed integers hold both ends."""
    return float(np.float32(max(-low, high, SMALLEST_SCALE * LARGEST) / LARGEST))


def place(
    graph: Graph, layers: Layers, sides: Mapping[int, str], seen: Mapping[str, float]
) -> Graph:
    """The graph with its pairs; `seen` has the scales of sides that no layer reads."""
    new = Graph([], dict(graph.constants), graph.inputs, graph.outputs, graph._numbers)
    pairs = _Pairs(new)
    for node in graph.nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        layer, side = layers.get(node.name), sides.get(id(node))
        if layer is not None:
            kind = layer.weights.dtype
            copy.input[0] = pairs.of(node.input[0], layer.source.scale, kind)
            copy.input[1] = pairs.weights(node, layer)
        elif side is not None:
            scale = _scale_of_readers(graph, layers, side)
            rounded = pairs.of(side, seen[side] if scale is None else scale)
            copy.input[list(node.input).index(side)] = rounded
        new.nodes.append(copy)
    return new


def _read_as_integers(graph: Graph, layers: Layers) -> set[str]:
    """Tensors that reach a quantised layer through nothing but what rounding can move past."""
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        passed = node.op_type in PASSED_BY and wanted & set(node.output)
        if _in_integers(layers, node) or passed:
            wanted.add(node.input[0])
    return wanted


def _by_layer(graph: Graph, layers: Layers, tensor: str) -> bool:
    """Whether a layer in integers computes a tensor for the addition alone."""
    node = graph.producer(tensor)
    if node is None or not _in_integers(layers, node):
        return False
    return graph.sole_consumer(tensor) is not None


def _in_integers(layers: Layers, node: NodeProto) -> bool:
    layer = layers.get(node.name)
    return layer is not None and layer.weights.dtype == INTEGERS


def _scale_of_readers(graph: Graph, layers: Layers, tensor: str) -> float | None:
    """The largest scale with which layers read a tensor as integers."""
    read = [node for node in graph.consumers(tensor) if node.input[0] == tensor]
    scales = [layers[node.name].source.scale for node in read if _in_integers(layers, node)]
    return max(scales, default=None)


@dataclass
class _Pairs:
    """Writes pairs into a graph; readers of one scale and kind share one."""

    graph: Graph
    _known: dict[tuple[str, float, Kind], str] = field(default_factory=dict)

    def of(self, tensor: str, scale: float, kind: Kind = INTEGERS) -> str:
        """The tensor after Q and DQ, with small numbers of a kind in between."""
        if (tensor, scale, kind) not in self._known:
            small = self.graph.fresh()
            facts = [self._constant(np.float32(scale)), self._constant(np.zeros((), kind))]
            node = helper.make_node("QuantizeLinear", [tensor, *facts], [small])
            self.graph.nodes.append(node)
            self._known[tensor, scale, kind] = self._read(small, facts)
        return self._known[tensor, scale, kind]

    def weights(self, node: NodeProto, layer: QuantizedLayer) -> str:
        """A layer's small weights, by output channel, laid out as the node reads them."""
        turned = node.op_type == "MatMul"
        values = layer.weights.T if turned else layer.weights
        facts = [
            self._constant(layer.weight_scales),
            self._constant(np.zeros(len(layer.weight_scales), values.dtype)),
        ]
        return self._read(self._constant(values), facts, axis=1 if turned else 0)

    def _read(self, small: str, facts: list[str], axis: int | None = None) -> str:
        back = self.graph.fresh()
        node = helper.make_node("DequantizeLinear", [small, *facts], [back], axis=axis)
        self.graph.nodes.append(node)
        return back

    def _constant(self, value: np.ndarray | np.generic) -> str:
        name = self.graph.fresh()
        self.graph.constants[name] = np.asarray(value)
        return name
