"""Operators that OpenVINO 2026.4 computes wrongly or not at all on a CPU, in a form that it can.

Changes what a graph says in nothing. Knows nothing of quantisation.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from evaluation.lowering.graph import Graph, attributes


def work_around(graph: Graph) -> None:
    """Rewrite in place."""
    _expand_without_choice(graph)
    _drop_plain_leaks(graph)


def _expand_without_choice(graph: Graph) -> None:
    """Expand(x, Where(shape == -1, 1, shape)), torch's own, as Expand(x, Max(shape, 1)).

    Where the batch is not fixed, the former ends the process.
    """
    for expand in [node for node in graph.nodes if node.op_type == "Expand"]:
        choice = graph.producer(expand.input[1])
        if choice is None or not _keeps_positive(graph, choice):
            continue
        one, shape = graph.fresh(), graph.fresh()
        graph.constants[one] = np.ones(1, np.int64)
        most = helper.make_node("Max", [choice.input[2], one], [shape])
        graph.nodes.insert(graph.nodes.index(expand), most)
        expand.input[1] = shape


def _keeps_positive(graph: Graph, choice: NodeProto) -> bool:
    """Whether a node is Where(Equal(shape, ones * -1), ones, shape)."""
    if choice.op_type != "Where":
        return False
    equal, ones = graph.producer(choice.input[0]), graph.producer(choice.input[1])
    if equal is None or equal.op_type != "Equal" or ones is None:
        return False
    product = graph.producer(equal.input[1])
    if ones.op_type != "ConstantOfShape" or product is None or product.op_type != "Mul":
        return False
    factor = graph.constants.get(product.input[1])
    return factor is not None and factor.size == 1 and int(factor.item()) == -1


def _drop_plain_leaks(graph: Graph) -> None:
    """Steps that change nothing, which keep ONNX Runtime alone from mistakes."""
    for node in [node for node in graph.nodes if node.op_type == "LeakyRelu"]:
        if attributes(node).get("alpha") == 1.0:
            graph.bypass(node)
