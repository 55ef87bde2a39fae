"""Which tensors of a graph are kept as 8-bit integers, by the rules of LiteRT's kernels.

A quantised layer reads and writes 8-bit integers, with the scale of its simulated input and, for
what it writes, the scale with which the next layers read it or one from ranges that were seen on
the calibration split ("glue"). Rectifiers are part of the kernel before them, whatever its scale.
What joins two integer layers stays in integers; pools and reshapes keep their input's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import NodeProto

from evaluation.lowering.graph import Graph
from evaluation.lowering.plan import QuantizedLayer, Scale

SAME_SCALE = {
    "AveragePool",
    "Flatten",
    "MaxPool",
    "Relu",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
NARROWING = {"AveragePool"}  # what it writes has a smaller range than what it reads
OWN_SCALE = {"Add", "GlobalAveragePool"}
FUSING = {"Conv", "Gemm", "Add"}  # whose kernels rectify what they write
ROOM = 0.125  # of the calibrated range, at each end, so that larger answers are not cut off
RECTIFIERS = {"Relu": "RELU", "Clip": "RELU6"}


@dataclass
class Integers:
    """The layers by name, the nodes that run in integers by identity, the scales by tensor."""

    layers: Mapping[str, QuantizedLayer]
    nodes: set[int] = field(default_factory=set)
    scales: dict[str, Scale] = field(default_factory=dict)
    glue: set[str] = field(default_factory=set)  # tensors whose scale must be calibrated

    def set_glue(self, graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Fill in the scales that had to be calibrated."""
        for name in self.glue:
            low, high = ranges[name]
            room = ROOM * (high - low) * self._read_in_float(graph, name)
            self.scales[name] = Scale.covering(low - room * (low < 0), high + room * (high > 0))
        for node in graph.nodes:  # in order: what keeps its input's scale has it now
            if id(node) in self.nodes and node.op_type in SAME_SCALE:
                self.scales[node.output[0]] = self.scales[node.input[0]]

    def _read_in_float(self, graph: Graph, name: str) -> bool:
        """Whether nothing after a tensor has scales of its own, as of a model's answer."""
        return not any(id(node) in self.nodes for node in graph.consumers(name))


def plan(graph: Graph, layers: Mapping[str, QuantizedLayer]) -> Integers:
    """Decide what is kept in integers."""
    made = Integers(layers)
    wanted = _wanted(graph, layers)
    for node in graph.nodes:
        if node.name in layers:
            made.scales.setdefault(node.input[0], layers[node.name].source)
    stored = set(made.scales)
    for node in graph.nodes:
        if not _runs_in_integers(graph, layers, node, stored, wanted):
            continue
        made.nodes.add(id(node))
        stored.add(past_rectifier(graph, node)[0])
    _choose_scales(graph, made)
    return made


def past_rectifier(graph: Graph, node: NodeProto) -> tuple[str, str | None]:
    """The tensor that a node's kernel writes, and how it rectifies it."""
    tensor = node.output[0]
    after = graph.sole_consumer(tensor) if node.op_type in FUSING else None
    if after is None or after.op_type not in RECTIFIERS or after.input[0] != tensor:
        return tensor, None
    if after.op_type == "Clip" and clip_bounds(graph, after) != (0.0, 6.0):
        return tensor, None
    return after.output[0], RECTIFIERS[after.op_type]


def clip_bounds(graph: Graph, node: NodeProto) -> tuple[float | None, float | None]:
    """The least and the largest value that a Clip lets through."""
    names = [*node.input[1:3], "", ""][:2]
    low, high = (graph.constants.get(name) for name in names)
    return None if low is None else float(low), None if high is None else float(high)


def _runs_in_integers(
    graph: Graph,
    layers: Mapping[str, QuantizedLayer],
    node: NodeProto,
    stored: set[str],
    wanted: set[str],
) -> bool:
    if node.name in layers:
        return True
    if node.op_type not in SAME_SCALE | OWN_SCALE:
        return False
    read = [name for name in node.input if name not in graph.constants]
    if len(read) != (2 if node.op_type == "Add" else 1) or not stored.issuperset(read):
        return False
    return past_rectifier(graph, node)[0] in wanted


def _wanted(graph: Graph, layers: Mapping[str, QuantizedLayer]) -> set[str]:
    """Tensors that reach a quantised layer through nothing but what integers can do."""
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        read = [name for name in node.input if name not in graph.constants]
        through = node.op_type in SAME_SCALE | OWN_SCALE | set(RECTIFIERS)
        if node.name in layers:
            wanted.add(node.input[0])
        elif node.op_type == "Add" and len(read) == 1:
            continue  # a bias, which is added to floats
        elif through and wanted.intersection(node.output):
            wanted.update(read)
    return wanted


def _choose_scales(graph: Graph, made: Integers) -> None:
    """The scale of every integer node's result, from the layers that read it, or calibrated."""
    for node in reversed(graph.nodes):
        if id(node) not in made.nodes or (node.op_type in SAME_SCALE and not node.name):
            continue
        result, _ = past_rectifier(graph, node)
        readers = _readers(graph, made, result)
        made.scales.pop(result, None)
        if readers:
            made.scales[result] = max(readers, key=lambda scale: scale.scale)
        else:
            made.glue.add(result)


def _readers(graph: Graph, made: Integers, tensor: str) -> list[Scale]:
    """The scales with which quantised layers read a tensor, also through reshapes."""
    scales = []
    for node in graph.consumers(tensor):
        if node.name in made.layers and node.input[0] == tensor:
            scales.append(made.layers[node.name].source)
        elif id(node) in made.nodes and node.op_type in SAME_SCALE - NARROWING:
            scales += _readers(graph, made, node.output[0])
    return scales
