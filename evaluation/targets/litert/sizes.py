"""The shapes of a graph's tensors, and what of it depends on nothing but constants and shapes.

Found by running the graph on one sample and on two: a dimension that differs follows the batch.
What is computed from shapes alone (and differs or not) is then known, and its operators are gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor

from evaluation.lowering.graph import IR_VERSION, OPSET, Array, Graph
from evaluation.targets.ort_cpu.session import Session


@dataclass(frozen=True)
class Sizes:
    """Of every tensor its shape for one sample, and which dimensions follow the batch."""

    shapes: dict[str, tuple[int, ...]]
    varying: dict[str, tuple[bool, ...]]
    types: dict[str, str]
    growing: frozenset[str]  # constants that are others for another batch size


def resolve(graph: Graph, example: tuple[Tensor, ...]) -> tuple[Graph, Sizes]:
    """The graph without its arithmetic on shapes, and the sizes of what is left."""
    first, second = (_run(graph, _samples(example, count)) for count in (1, 2))
    known = _known(graph, first, second)
    constants = dict(graph.constants)
    constants.update((name, first[name]) for name in known if name in first)
    nodes = [node for node in graph.nodes if not set(node.output) <= known]
    resolved = Graph(nodes, constants, graph.inputs, graph.outputs, graph._numbers)
    shapes = {name: value.shape for name, value in {**first, **constants}.items()}
    varying = {
        name: tuple(a != b for a, b in zip(value.shape, second[name].shape, strict=True))
        for name, value in first.items()
    }
    for name, value in constants.items():
        varying.setdefault(name, (False,) * value.ndim)
    types = {name: str(value.dtype) for name, value in {**first, **constants}.items()}
    growing = {n for n in known & first.keys() if not np.array_equal(first[n], second[n])}
    return resolved, Sizes(shapes, varying, types, frozenset(growing))


def _samples(example: tuple[Tensor, ...], count: int) -> list[Array]:
    ones = [tensor.detach().cpu()[:1] for tensor in example]
    floats = [one.float() if one.is_floating_point() else one for one in ones]
    return [torch.cat([one] * count).numpy() for one in floats]


def _run(graph: Graph, args: list[Array]) -> dict[str, Array]:
    """The value of every tensor for these inputs."""
    names = [name for node in graph.nodes for name in node.output if name]
    inputs = [value.name for value in graph.inputs]
    constants = [numpy_helper.from_array(np.array(v), k) for k, v in graph.constants.items()]
    nodes = [_unnamed(node) for node in graph.nodes]
    made = helper.make_graph(
        nodes, "g", graph.inputs, [onnx.ValueInfoProto(name=n) for n in names], constants
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    session = Session(model.SerializeToString(), threads=1, optimise=False)
    values = session.outputs(*(torch.from_numpy(arg) for arg in args))
    return {**dict(zip(inputs, args, strict=True)), **values}


def _unnamed(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = ""
    return copy


def _known(graph: Graph, first: dict[str, Array], second: dict[str, Array]) -> set[str]:
    """Tensors that are the same whatever the inputs hold; of those that grow, whole numbers."""
    known = set(graph.constants)
    for node in graph.nodes:
        fixed = node.op_type == "Shape" or all(name in known for name in node.input if name)
        known.update(name for name in node.output if fixed and _usable(first[name], second[name]))
    return known


def _usable(one: Array, two: Array) -> bool:
    return one.dtype.kind in "ib" or np.array_equal(one, two)
