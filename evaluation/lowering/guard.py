"""Keeps layers float that ONNX Runtime would make integers unasked.

From 1.21, where a float Conv or Gemm stands between a DequantizeLinear and a QuantizeLinear
(perhaps with Relu or Clip before the latter), it rounds the float weights to 8 bits, per tensor.
It looks through Relu and Clip, not through LeakyRelu: one with slope 0 is a Relu, one with slope 1
changes nothing, and both are fused into the layer's kernel, where they cost nothing.
"""

from __future__ import annotations

from onnx import NodeProto, helper

from evaluation.lowering.graph import Graph

LAYERS = {"Conv", "ConvTranspose", "Gemm"}


def keep_float(graph: Graph) -> None:
    """Guard every float layer between integers, in place."""
    for layer in [node for node in graph.nodes if node.op_type in LAYERS]:
        if _is_integers(graph, layer.input[0]) and not _is_integers(graph, layer.input[1]):
            _guard(graph, layer)


def _is_integers(graph: Graph, tensor: str) -> bool:
    before = graph.producer(tensor)
    return before is not None and before.op_type == "DequantizeLinear"


def _guard(graph: Graph, layer: NodeProto) -> None:
    after = graph.sole_consumer(layer.output[0])
    if after is None or after.op_type not in ("Relu", "Clip", "QuantizeLinear"):
        return
    if after.op_type == "Relu":
        after.op_type = "LeakyRelu"
        after.attribute.append(helper.make_attribute("alpha", 0.0))
        return
    passed = graph.fresh()
    same = helper.make_node("LeakyRelu", [layer.output[0]], [passed], alpha=1.0)
    graph.nodes.insert(graph.nodes.index(layer) + 1, same)
    after.input[0] = passed
