"""Which tensors of a float graph are kept as 8-bit integers, so that its layers run as integers.

A quantised layer reads its input with the scale that the simulation gave it. What is computed
between two such layers (an activation, a residual addition, a pooling) stays in integers when
everything around it is; then its result needs a scale too: the next layer's, where there is one,
else one from ranges seen on the calibration split ("glue"). Knows nothing of how it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from evaluation.lowering.graph import Array, Graph

LEVELS = 255  # unsigned 8 bits
SAME_SCALE = {"MaxPool", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"}
OWN_SCALE = {"Add", "GlobalAveragePool", "AveragePool"}
FLOAT_OUT = {"Gemm", "MatMul"}  # whose integer kernels can answer in float


@dataclass(frozen=True)
class Scale:
    """real = scale * (integer - zero_point), integers 0 to 255."""

    scale: float
    zero_point: int

    @staticmethod
    def covering(low: float, high: float) -> Scale:
        """The finest scale whose range holds low, high and 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / LEVELS, 1e-8)
        return Scale(float(np.float32(scale)), round(-low / scale))

    @property
    def high(self) -> float:
        """The largest number that it can tell."""
        return self.scale * (LEVELS - self.zero_point)


@dataclass(frozen=True)
class QuantizedLayer:
    """What the simulation says of a layer: its small weights and scales, its input's scale."""

    weights: Array  # int8, or 8-bit floats; output channels first
    weight_scales: Array  # float32, one an output channel
    source: Scale


@dataclass
class Plan:
    """The integer nodes by identity, and the scales of what they write; the rest stays float."""

    layers: dict[int, QuantizedLayer]
    integer: set[int] = field(default_factory=set)
    results: dict[str, str] = field(default_factory=dict)  # tensor -> it, past an absorbed Relu
    scales: dict[str, Scale] = field(default_factory=dict)  # by result
    glue: set[str] = field(default_factory=set)  # results whose scale must be calibrated


def plan(graph: Graph, layers: Mapping[str, QuantizedLayer]) -> Plan:
    """Decide what is kept in integers; `layers` is by the name of the layer's node."""
    made = Plan({id(node): layers[node.name] for node in graph.nodes if node.name in layers})
    wanted = _wanted(graph, made)
    stored = {node.input[0] for node in graph.nodes if id(node) in made.layers}
    for node in graph.nodes:
        if not _runs_in_integers(graph, made, node, stored, wanted):
            continue
        made.integer.add(id(node))
        result = _past_relu(graph, node)
        if node.op_type in FLOAT_OUT and result not in wanted:
            continue
        made.results[node.output[0]] = result
        stored.add(result)
    _choose_scales(graph, made)
    return made


def set_glue(made: Plan, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Fill in the scales that had to be calibrated."""
    for tensor in made.glue:
        made.scales[tensor] = Scale.covering(*ranges[tensor])


def _runs_in_integers(
    graph: Graph, made: Plan, node: NodeProto, stored: set[str], wanted: set[str]
) -> bool:
    if id(node) in made.layers:
        return True
    if node.op_type not in SAME_SCALE | OWN_SCALE:
        return False
    read = [name for name in node.input if name not in graph.constants]
    sources = 2 if node.op_type == "Add" else 1
    if len(read) != sources or not all(name in stored for name in read):
        return False
    return _past_relu(graph, node) in wanted


def _past_relu(graph: Graph, node: NodeProto) -> str:
    """The tensor that a node's result is kept as: after a Relu, which unsigned integers hold."""
    tensor = node.output[0]
    after = None if node.op_type in SAME_SCALE else graph.sole_consumer(tensor)
    if after is not None and (after.op_type == "Relu" or _clip_high(graph, after) is not None):
        return str(after.output[0])
    return str(tensor)


def _clip_high(graph: Graph, node: NodeProto) -> float | None:
    """The upper bound of a Clip from 0."""
    if node.op_type != "Clip" or len(node.input) != 3:
        return None
    low, high = (graph.constants.get(name) for name in node.input[1:])
    return float(high) if high is not None and low is not None and float(low) == 0 else None


def _wanted(graph: Graph, made: Plan) -> set[str]:
    """Tensors that reach a quantised layer through nothing but what integers can do."""
    wanted: set[str] = set()
    through = SAME_SCALE | OWN_SCALE | {"Relu", "Clip"}
    for node in reversed(graph.nodes):
        read = [name for name in node.input if name not in graph.constants]
        if id(node) in made.layers:
            wanted.add(node.input[0])
        elif node.op_type == "Add" and len(read) == 1:
            continue  # a bias, which is added to floats
        elif node.op_type in through and wanted.intersection(node.output):
            wanted.update(read)
    return wanted


def _choose_scales(graph: Graph, made: Plan) -> None:
    """The scale of every integer node's result, from the layers that read it, or calibrated."""
    for node in reversed(graph.nodes):
        result = made.results.get(node.output[0])
        if result is None:
            continue
        scale = _widest(_readers(graph, made, result))
        rectified = result != node.output[0]
        if scale is None or (rectified and not _rectifies(graph, result, scale)):
            made.glue.add(result)
        else:
            made.scales[result] = scale
    for node in graph.nodes:  # what keeps its input's scale cannot have another
        if id(node) in made.integer and node.op_type in SAME_SCALE:
            made.glue.discard(made.results[node.output[0]])


def _rectifies(graph: Graph, result: str, scale: Scale) -> bool:
    relu = graph.producer(result)
    high = None if relu is None else _clip_high(graph, relu)
    return scale.zero_point == 0 and (high is None or scale.high <= high * (1 + 1 / LEVELS))


def _readers(graph: Graph, made: Plan, tensor: str) -> list[Scale]:
    """The scales with which quantised layers read a tensor, also through poolings and reshapes."""
    scales = []
    for node in graph.consumers(tensor):
        layer = made.layers.get(id(node))
        if layer is not None and node.input[0] == tensor:
            scales.append(layer.source)
        elif id(node) in made.integer and node.op_type in SAME_SCALE:
            scales += _readers(graph, made, made.results[node.output[0]])
    return scales


def _widest(scales: list[Scale]) -> Scale | None:
    return max(scales, key=lambda scale: scale.scale, default=None)
