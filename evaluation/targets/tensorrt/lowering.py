"""From a compressed model to the ONNX graph that TensorRT builds its integer kernels from."""

from __future__ import annotations

from compressors.data import Data
from compressors.record import CompressedModel
from evaluation.lowering.graph import Graph
from evaluation.lowering.lower import float_graph, quantized_layers, ranges
from evaluation.lowering.plan import Plan
from evaluation.targets.tensorrt.placement import branches, place, scale_covering, unscaled


def lower(compressed: CompressedModel, data: Data) -> Graph:
    """Batch norms folded, integer weights as simulated, pairs by TensorRT's rules."""
    graph, factors, described = float_graph(compressed)
    if not described:
        return graph
    layers = quantized_layers(graph, described, factors)
    sides = branches(graph, layers)
    by_node = {id(node): layers[node.name] for node in graph.nodes if node.name in layers}
    seen = ranges(graph, Plan(by_node, glue=unscaled(graph, layers, sides)), data)
    return place(graph, layers, sides, {name: scale_covering(*ends) for name, ends in seen.items()})
