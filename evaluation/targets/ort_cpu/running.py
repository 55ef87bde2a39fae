"""Which operator of ONNX Runtime's optimised graph runs which layer of a file.

Optimised nodes keep a layer's name, with what the optimiser hangs on to it, or are named after a
tensor that comes out of the layer, perhaps past what was fused into it. A layer that is found
twice runs twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import NodeProto

from evaluation.targets.ort_cpu.session import open_file

INTEGER = {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
FLOAT = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
WEIGHT_ONLY = {"MatMulNBits"}
KERNELS = INTEGER | FLOAT | WEIGHT_ONLY
_ADDED = re.compile(r"(_token_\d+|_nchwc)+$")
_FUSED = ("Add", "BatchNormalization", "Clip", "LeakyRelu", "Relu", "Sigmoid", "Tanh")


def kernels(path: Path) -> dict[str, list[str]]:
    """Of every layer with a kernel, the operators that run it, one for each time that it runs."""
    written = list(onnx.load(path).graph.node)
    names = dict(_names(written))
    with TemporaryDirectory() as folder:
        dump = Path(folder) / "optimised.onnx"
        open_file(path, 1, dump=dump)
        optimised = onnx.load(dump).graph.node
    found: dict[str, list[str]] = {}
    for node in optimised:
        if node.op_type in KERNELS:
            said = (_ADDED.sub("", node.name), *(_ADDED.sub("", name) for name in node.output))
            layer = next((names[name] for name in said if name in names), None)
            if layer is not None:
                found.setdefault(layer, []).append(node.op_type)
    return found


def _names(nodes: list[NodeProto]) -> Iterator[tuple[str, str]]:
    """What may tell a layer: its own name, the tensors that it and what follows it write."""
    stored = {n.output[0]: n.input[0] for n in nodes if n.op_type == "DequantizeLinear"}
    runs = [node for node in nodes if node.op_type in KERNELS]
    weights = [stored.get(node.input[1], node.input[1]) for node in runs]
    layers = {weight: node.name for weight, node in zip(weights, runs, strict=True) if node.name}
    for weight, node in zip(weights, runs, strict=True):
        layer = node.name or layers.get(weight)  # of a layer that runs again
        if layer:
            yield layer, layer
            for tensor in _written(nodes, node):
                yield tensor, layer


def _written(nodes: list[NodeProto], node: NodeProto) -> Iterator[str]:
    """A node's output, and what it becomes on the way to the next kernel."""
    while True:
        yield node.output[0]
        readers = [other for other in nodes if node.output[0] in other.input]
        if len(readers) != 1 or readers[0].op_type not in _FUSED:
            return
        node = readers[0]
