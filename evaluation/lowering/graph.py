"""An ONNX graph that is easy to rewrite: a list of nodes, and constants as arrays by name.

Reads one from a model and writes the smallest model that says the same: dead nodes and constants
left out, equal constants shared, tensors under the shortest names, no descriptions. Knows nothing
of quantisation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, product
from string import ascii_letters
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
IR_VERSION = 8
OPSET = 17


@dataclass
class Graph:
    """Nodes in order of execution; constants; inputs and outputs with their types."""

    nodes: list[NodeProto]
    constants: dict[str, Array]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    @staticmethod
    def of(model: onnx.ModelProto) -> Graph:
        """The graph of a model; its constants become arrays."""
        graph = model.graph
        constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        nodes = []
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                nodes.append(node)
        inputs = [i for i in graph.input if i.name not in constants]
        return Graph(nodes, constants, inputs, list(graph.output))

    def fresh(self) -> str:
        """A tensor name that nothing has yet."""
        return f"#{next(self._numbers)}"

    def consumers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def sole_consumer(self, tensor: str) -> NodeProto | None:
        """The one node that reads a tensor which is no output of the graph."""
        nodes = self.consumers(tensor)
        is_output = any(output.name == tensor for output in self.outputs)
        return nodes[0] if len(nodes) == 1 and not is_output else None

    def producer(self, tensor: str) -> NodeProto | None:
        """The node that writes a tensor."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def bypass(self, node: NodeProto) -> None:
        """Take a node of one input out: who read its output reads its input, or the other way."""
        source, gone = node.input[0], node.output[0]
        self.nodes.remove(node)
        if any(output.name == gone for output in self.outputs):
            before = self.producer(source)
            if before is None:  # an output that is an input, or a constant
                self.nodes.append(node)
                return
            source, gone = gone, source
            before.output[:] = [source if name == gone else name for name in before.output]
        for other in self.nodes:
            other.input[:] = [source if name == gone else name for name in other.input]


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes as plain values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def to_model(graph: Graph, opset: int = OPSET) -> onnx.ModelProto:
    """The smallest model of a graph, whose operators are of an opset."""
    nodes = alive(graph)
    shared = _shared(graph, nodes)
    names = _names(graph, nodes, shared)
    initializers = [
        numpy_helper.from_array(np.array(graph.constants[tensor], order="C"), names[tensor])
        for tensor in dict.fromkeys(shared.values())
    ]
    written = [_renamed(node, names, shared) for node in nodes]
    _name_once(written)
    made = helper.make_graph(
        written, "g", _typed(graph.inputs, names), _typed(graph.outputs, names), initializers
    )
    others = sorted({node.domain for node in written} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in others)]
    ir_version = IR_VERSION if opset == OPSET else helper.find_min_ir_version_for(opsets)
    return helper.make_model(made, opset_imports=opsets, ir_version=ir_version)


def signature(graph: Graph) -> str:
    """A hash of what a graph's speed depends on: operators, shapes, types, wiring; no weights."""
    nodes = alive(graph)
    known: dict[str, Any] = {i.name: f"in{n}" for n, i in enumerate(graph.inputs)}
    facts: list[Any] = [_type(i) for i in graph.inputs]
    for number, node in enumerate(nodes):
        for place, name in enumerate(node.output):
            known[name] = [number, place]
        read = [_seen(graph, known, name) for name in node.input]
        extra = {name: str(value) for name, value in sorted(attributes(node).items())}
        facts.append([node.op_type, node.domain, read, extra])
    facts.append([known.get(o.name) for o in graph.outputs])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _seen(graph: Graph, known: dict[str, Any], name: str) -> Any:
    if name not in graph.constants:
        return known.get(name, "")
    value = graph.constants[name]
    small = value.dtype == np.int64 and value.size <= 8  # axes and shapes, which are no weights
    return [str(value.dtype), value.shape, value.tolist() if small else None]


def alive(graph: Graph) -> list[NodeProto]:
    """The nodes that an output needs, in order of execution."""
    needed = {output.name for output in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _shared(graph: Graph, nodes: list[NodeProto]) -> dict[str, str]:
    """For every constant in use, the one of equal content that stands for it."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    shared = {}
    used = [name for node in nodes for name in node.input]
    for name in [*used, *(output.name for output in graph.outputs)]:
        if name in graph.constants:
            value = graph.constants[name]
            shared[name] = first.setdefault((str(value.dtype), value.shape, value.tobytes()), name)
    return shared


def _names(graph: Graph, nodes: list[NodeProto], shared: dict[str, str]) -> dict[str, str]:
    """Inputs and outputs say what they are; everything else is named as shortly as can be."""
    names = {"": ""}
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        for number, value in enumerate(values):
            names[value.name] = kind if number == 0 else f"{kind}{number}"
    letters = ("".join(word) for size in count(1) for word in product(ascii_letters, repeat=size))
    for node in nodes:
        for name in [*(shared.get(name, name) for name in node.input), *node.output]:
            if name not in names:
                names[name] = next(letters)
    return names


def _renamed(node: NodeProto, names: dict[str, str], shared: dict[str, str]) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names[shared.get(name, name)] for name in node.input]
    copy.output[:] = [names[name] for name in node.output]
    copy.ClearField("doc_string")
    del copy.metadata_props[:]
    return copy


def _name_once(nodes: list[NodeProto]) -> None:
    """Of the nodes of a layer that runs more than once, the first alone may bear its name."""
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen:
            node.name = ""
        seen.add(node.name)


def _type(value: onnx.ValueInfoProto) -> list[Any]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return [tensor.elem_type, None]
    return [tensor.elem_type, [d.dim_value or d.dim_param for d in tensor.shape.dim]]


def _typed(values: list[onnx.ValueInfoProto], names: dict[str, str]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(names[v.name], *_type(v)) for v in values]
