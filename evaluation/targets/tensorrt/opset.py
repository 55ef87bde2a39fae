"""Which operators a file is written in: opset 19 where its pairs need it, else an older one.

Opset 19 is the first whose pairs take halves and 8-bit floats; older TensorRTs read the older.
"""

from __future__ import annotations

import onnx
from onnx import version_converter

from evaluation.lowering.graph import Graph, to_model
from evaluation.targets.tensorrt.floats import TYPES

NEWEST = 19


def to_newest(graph: Graph) -> onnx.ModelProto:
    """The model of a graph, in newer operators where it has 8-bit floats."""
    model = to_model(graph)
    if any(value.dtype in TYPES.values() for value in graph.constants.values()):
        model = version_converter.convert_version(model, NEWEST)
    return model


def newer(graph: Graph) -> Graph:
    """The same computation in newer operators."""
    return Graph.of(version_converter.convert_version(to_model(graph), NEWEST))
