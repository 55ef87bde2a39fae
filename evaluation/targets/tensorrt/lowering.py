"""From a compressed model to the ONNX graph that TensorRT builds its 8-bit kernels from."""

from __future__ import annotations

from compressors.data import Data
from compressors.policies.steps import FLOAT_INPUTS
from compressors.record import CompressedModel
from evaluation.lowering.graph import Graph
from evaluation.lowering.lower import float_graph, quantized_layers, seen_in
from evaluation.targets.tensorrt.floats import float_layers
from evaluation.targets.tensorrt.opset import to_newest
from evaluation.targets.tensorrt.placement import branches, place, scale_covering, unscaled


def lower(compressed: CompressedModel, data: Data) -> Graph:
    """Batch norms folded, small weights as simulated, pairs by TensorRT's rules."""
    graph, factors, described = float_graph(compressed)
    if not described:
        return graph
    floats = {name: facts for name, facts in described.items() if facts.inputs in FLOAT_INPUTS}
    integers = {name: facts for name, facts in described.items() if name not in floats}
    layers = {
        **quantized_layers(graph, integers, factors),
        **float_layers(graph, floats, factors),
    }
    sides = branches(graph, layers)
    missing, simulated = unscaled(graph, layers, sides), place(graph, layers, {}, {})
    seen = seen_in(simulated, missing, data, to_newest) if missing else {}
    return place(graph, layers, sides, {name: scale_covering(*ends) for name, ends in seen.items()})
