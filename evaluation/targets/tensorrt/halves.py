"""A graph whose floats are half precision, as a strongly typed TensorRT computes them.

Inputs and outputs stay single, for whoever calls. Scales of pairs are halves too; weights whose
scale would vanish get the least normal one, and fewer levels. Numbers beyond the largest half
become that. Written in newer operators, whose pairs take halves. Knows no layers.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from evaluation.lowering.graph import Array, Graph
from evaluation.targets.tensorrt import opset
from evaluation.targets.tensorrt.floats import TYPES

LEAST = float(np.finfo(np.float16).tiny)
LARGEST = float(np.finfo(np.float16).max)
SIZES = {"Resize": (2,)}  # inputs that are single whatever the data


def in_halves(graph: Graph) -> Graph:
    """The same computation in halves, in operators of the newer opset."""
    newer = opset.newer(graph)
    _widen_scales(newer)
    single = _apart(newer)
    for name, value in newer.constants.items():
        if value.dtype == np.float32 and name not in single:
            newer.constants[name] = half(value)
    for node in newer.nodes:
        _retype(node)
    _cast_ends(newer)
    return newer


def half(values: Array) -> Array:
    """The numbers as halves; infinite ones alone stay infinite."""
    inside = np.where(np.isinf(values), values, values.clip(-LARGEST, LARGEST))
    return inside.astype(np.float16)


def _widen_scales(graph: Graph) -> None:
    """No scale below the least normal half; weights follow, 8-bit floats by powers of two."""
    for node in graph.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        name = node.input[1]
        scales = graph.constants[name]
        floats = graph.constants[node.input[2]].dtype in TYPES.values()
        wide = _by_powers(scales) if floats else np.maximum(scales, np.float32(LEAST))
        weights = graph.constants.get(node.input[0])
        if weights is not None and (wide != scales).any():
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            shape = [-1 if place == axis else 1 for place in range(weights.ndim)]
            fewer = weights.astype(np.float64) * (scales / wide).reshape(shape)
            node.input[0] = graph.fresh()
            kept = fewer if floats else np.round(fewer)
            graph.constants[node.input[0]] = kept.astype(weights.dtype)
        node.input[1] = graph.fresh()
        graph.constants[node.input[1]] = wide


def _by_powers(scales: Array) -> Array:
    """The scales, those below the least normal half times a power of two."""
    powers = np.ceil(np.log2(LEAST / np.asarray(scales, np.float64))).clip(min=0)
    return np.asarray(scales * 2**powers, np.float32)


def _apart(graph: Graph) -> set[str]:
    """Constants that stay single, under names of their own."""
    single = set()
    for node in graph.nodes:
        for place in SIZES.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] in graph.constants:
                value = graph.constants[node.input[place]]
                node.input[place] = graph.fresh()
                graph.constants[node.input[place]] = value
                single.add(node.input[place])
    return single


def _retype(node: NodeProto) -> None:
    """What a node's attributes say of single floats, said of halves."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            value = half(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(value))


def _cast_ends(graph: Graph) -> None:
    for value in graph.inputs:
        if _is_single(value):
            inner = graph.fresh()
            _rename(graph.nodes, value.name, inner, read=True)
            graph.nodes.insert(0, _cast(value.name, inner, TensorProto.FLOAT16))
    for value in graph.outputs:
        if _is_single(value) and graph.producer(value.name) is not None:
            inner = graph.fresh()
            _rename(graph.nodes, value.name, inner, read=True)
            _rename(graph.nodes, value.name, inner, read=False)
            graph.nodes.append(_cast(inner, value.name, TensorProto.FLOAT))


def _is_single(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _rename(nodes: list[NodeProto], old: str, new: str, *, read: bool) -> None:
    for node in nodes:
        names = node.input if read else node.output
        names[:] = [new if name == old else name for name in names]


def _cast(source: str, result: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], to=kind)
