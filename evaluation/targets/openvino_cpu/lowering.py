"""From a compressed model to the ONNX graph that OpenVINO is given, and what its codes take.

Layers with rounded inputs become integer layers between QuantizeLinear/DequantizeLinear pairs;
layers with rounded weights alone keep their codes. Everything else is float.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import NodeProto

from compressors.data import Data
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel
from evaluation.lowering.export import Factors
from evaluation.lowering.graph import Graph, signature
from evaluation.lowering.lower import float_graph, quantized_layers, ranges
from evaluation.lowering.plan import plan, set_glue
from evaluation.lowering.qdq import write
from evaluation.targets.openvino_cpu.packed import spell_out
from evaluation.targets.openvino_cpu.workarounds import work_around


@dataclass(frozen=True)
class Lowered:
    """A graph, and of the casts in it that read codes, by name, the bits of a code."""

    graph: Graph
    bits: dict[str, int]

    def signature(self) -> str:
        """A hash of what its speed depends on."""
        facts = json.dumps([signature(self.graph), self.bits], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]


def lowered(compressed: CompressedModel, data: Data) -> Lowered:
    """The deployable graph."""
    graph, factors, described = float_graph(compressed)
    bits: dict[str, int] = {}
    integer = {}
    for name, facts in described.items():
        if facts.activation_bits is not None:
            integer[name] = facts
            continue
        bits |= spell_out(graph, _uses(graph, name), name, facts, factors.get(f"{name}.weight"))
    if integer:
        graph = _in_integers(graph, integer, factors, data)
    work_around(graph)
    return Lowered(graph, bits)


def _in_integers(
    graph: Graph, integer: Mapping[str, LayerQuantization], factors: Factors, data: Data
) -> Graph:
    planned = plan(graph, quantized_layers(graph, integer, factors))
    set_glue(planned, ranges(graph, planned, data))
    return write(graph, planned)


def _uses(graph: Graph, name: str) -> list[NodeProto]:
    """The nodes that compute a layer; a table's have no name of their own."""
    table = f"{name}.weight"
    uses = [
        node
        for node in graph.nodes
        if node.name == name or (node.op_type == "Gather" and node.input[0] == table)
    ]
    if not uses:
        raise RuntimeError(f"The exported graph lost the quantised layer '{name}'")
    return uses
