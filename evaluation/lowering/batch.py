"""Numbers in a traced graph that are really the batch size, made to follow it.

Tracing writes down what `len(x)` and `int(x.shape[0])` were, as constants. A second trace of two
samples shows which constants grow with the batch; each is then computed from the first input.
"""

from __future__ import annotations

import numpy as np
from onnx import helper

from evaluation.lowering.graph import Graph


def follow_batch(one: Graph, two: Graph) -> None:
    """Make the constants of a graph traced with one sample grow as they do with two, in place.

    Graphs that differ in more than whole numbers are left: the model takes another way then.
    """
    if [n.op_type for n in one.nodes] != [n.op_type for n in two.nodes]:
        return
    if one.constants.keys() != two.constants.keys():
        return
    grown = [name for name, value in one.constants.items() if _grows(value, two.constants[name])]
    if not grown:
        return
    beyond = _samples_beyond_one(one)
    for name in grown:
        step = _constant(one, two.constants[name] - one.constants[name])
        base = _constant(one, one.constants.pop(name))
        product = one.fresh()
        one.nodes.insert(3, helper.make_node("Mul", [beyond, step], [product]))
        one.nodes.insert(4, helper.make_node("Add", [product, base], [name]))


def _grows(first: np.ndarray, second: np.ndarray) -> bool:
    whole = first.dtype == second.dtype == np.int64
    return whole and first.shape == second.shape and not np.array_equal(first, second)


def _samples_beyond_one(graph: Graph) -> str:
    """The batch size less one, found before anything else."""
    shape, batch, beyond = (graph.fresh() for _ in range(3))
    first, one = _constant(graph, np.array(0)), _constant(graph, np.array(1))
    graph.nodes[:0] = [
        helper.make_node("Shape", [graph.inputs[0].name], [shape]),
        helper.make_node("Gather", [shape, first], [batch]),
        helper.make_node("Sub", [batch, one], [beyond]),
    ]
    return beyond


def _constant(graph: Graph, value: np.ndarray) -> str:
    name = graph.fresh()
    graph.constants[name] = value.astype(np.int64)
    return name
