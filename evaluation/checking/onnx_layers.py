"""What the layers of an ONNX file read and write, computed as the file says, operator by operator.

A layer's node bears its module path. The runtime optimises nothing here, so that every operator is
computed in float by its definition: what is told is the file's meaning, not its kernels' rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import torch
from onnx import NodeProto
from torch import Tensor

from compressors.quantization.layers import LayerQuantization
from evaluation.checking.told import LayerTensors
from evaluation.lowering.graph import Graph
from evaluation.targets.ort_cpu.session import Session

ROUNDINGS = (  # of a layer's input, from the layer backwards
    ("DequantizeLinear", "QuantizeLinear"),
    ("DynamicQuantizeLinear",),
    ("Mul", "Clip", "Round", "Div"),
    ("Mul", "Mul", "Round", "Div", "Clip", "Div"),
)


@dataclass(frozen=True)
class _Place:
    layer: str
    source: str
    result: str
    with_bias: bool
    with_norm: bool


def layer_tensors(
    model: onnx.ModelProto, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
) -> list[LayerTensors]:
    """The tensors around every layer's node, for these inputs."""
    graph = Graph.of(model)
    places = [_place(graph, n, described.get(n.name)) for n in graph.nodes if n.name]
    values = _run(model, graph, args, [name for p in places for name in (p.source, p.result)])
    return [
        LayerTensors(p.layer, values[p.source], values[p.result], p.with_bias, p.with_norm)
        for p in places
    ]


def _place(graph: Graph, node: NodeProto, facts: LayerQuantization | None) -> _Place:
    source = str(node.input[0])
    if facts is not None and facts.activation_bits is not None:
        source = _before_rounding(graph, source)
    if facts is not None and facts.smoothing is not None:
        source = _read_by(graph, source, "Div")
    result = str(node.output[0])
    behind = [n.op_type for n in graph.consumers(_behind_pair(graph, result))]
    return _Place(
        node.name,
        source,
        result,
        node.op_type != "MatMul",
        "BatchNormalization" not in behind,
    )


def _before_rounding(graph: Graph, tensor: str) -> str:
    """The tensor before the operators that round a layer's input."""
    for kinds in ROUNDINGS:
        before = tensor
        for kind in kinds:
            node = graph.producer(before)
            if node is None or node.op_type != kind:
                break
            before = str(node.input[0])
        else:
            return before
    return tensor


def _read_by(graph: Graph, tensor: str, kind: str) -> str:
    node = graph.producer(tensor)
    return str(node.input[0]) if node is not None and node.op_type == kind else tensor


def _behind_pair(graph: Graph, tensor: str) -> str:
    """The tensor behind the pair that rounds a layer's output, where it is all that reads it."""
    after = tensor
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        node = graph.sole_consumer(after)
        if node is None or node.op_type != kind:
            return tensor
        after = str(node.output[0])
    return after


def _run(
    model: onnx.ModelProto, graph: Graph, args: tuple[Tensor, ...], names: list[str]
) -> dict[str, Tensor]:
    """Tensors by name: inputs as they are, the others as further outputs of a copy."""
    values = {i.name: arg for i, arg in zip(graph.inputs, args, strict=True)}
    there = {output.name for output in model.graph.output}
    more = [name for name in dict.fromkeys(names) if name not in values and name not in there]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    session = Session(watched.SerializeToString(), threads=1, optimise=False)
    found = session.outputs(*args)
    return {**values, **{name: torch.from_numpy(value).float() for name, value in found.items()}}
