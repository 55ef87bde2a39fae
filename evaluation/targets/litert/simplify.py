"""Groups of operators that are one in LiteRT: a product with its bias, the exact GELU.

Works on a copy of the nodes; tensors keep their names.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from onnx import NodeProto, helper

from evaluation.lowering.graph import Graph

GELU = "Gelu"


def simplify(graph: Graph) -> Graph:
    """The graph with those groups as single nodes."""
    nodes = []
    for node in graph.nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
    made = Graph(nodes, dict(graph.constants), graph.inputs, graph.outputs, graph._numbers)
    for node in list(made.nodes):
        if node.op_type == "MatMul":
            _with_bias(made, node)
        elif node.op_type == "Erf":
            _gelu(made, node)
    return made


def _with_bias(graph: Graph, node: NodeProto) -> None:
    """A product with a constant matrix is a linear layer; the sum after it is its bias."""
    weight = graph.constants.get(node.input[1])
    if weight is None or weight.ndim != 2 or node.input[0] in graph.constants:
        return
    after = graph.sole_consumer(node.output[0])
    bias = None if after is None or after.op_type != "Add" else _other(after, node.output[0])
    value = graph.constants.get(bias or "")
    linear = helper.make_node("Gemm", node.input[:2], node.output, name=node.name, transB=1)
    turned = graph.fresh()
    graph.constants[turned] = weight.T
    linear.input[1] = turned
    if after is not None and bias is not None and value is not None and value.size == len(weight.T):
        flat = graph.fresh()
        graph.constants[flat] = value.reshape(-1)
        linear.input.append(flat)
        linear.output[0] = after.output[0]
        graph.nodes.remove(after)
    graph.nodes[graph.nodes.index(node)] = linear


def _other(node: NodeProto, tensor: str) -> str:
    return str(next(name for name in node.input if name != tensor))


def _gelu(graph: Graph, erf: NodeProto) -> None:
    """x / sqrt(2) -> Erf -> + 1 -> * x -> / 2, in any order of factors."""
    scaled = graph.producer(erf.input[0])
    chain = [erf]
    while len(chain) < 4:
        after = graph.sole_consumer(chain[-1].output[0])
        if after is None:
            return
        chain.append(after)
    plus, first, second = chain[1:]
    if scaled is None or [n.op_type for n in chain[1:]] != ["Add", "Mul", "Mul"]:
        return
    x = scaled.input[0]
    root = {"Div": sqrt(2), "Mul": sqrt(0.5)}.get(scaled.op_type)
    factors = {_other(first, plus.output[0]), _other(second, first.output[0])}
    halves = [name for name in factors if _is(graph, name, 0.5)]
    if root is None or not _is(graph, scaled.input[1], root):
        return
    if not _is(graph, _other(plus, erf.output[0]), 1.0) or factors != {x, *halves[:1]}:
        return
    made = helper.make_node(GELU, [x], [second.output[0]])
    graph.nodes[graph.nodes.index(second)] = made
    for node in (erf, plus, first):
        graph.nodes.remove(node)
    if not graph.consumers(scaled.output[0]):
        graph.nodes.remove(scaled)


def _is(graph: Graph, name: str, number: float) -> bool:
    value = graph.constants.get(name)
    return value is not None and value.size == 1 and bool(np.isclose(float(value), number))
