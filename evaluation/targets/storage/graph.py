"""From a compressed model to the float graph that does what its simulation does.

Weights are those that the codes stand for; the rounding of a layer's input is spelt out in plain
float operators, so that no runtime takes it for integers. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from onnx import NodeProto
from torch import nn

from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel, LayerKind
from evaluation.lowering.graph import Array, Graph
from evaluation.lowering.lower import float_graph
from evaluation.targets.storage.described import coded_weight
from evaluation.targets.storage.file import Weight
from evaluation.targets.storage.rounding import Rounding

OPERATORS: dict[LayerKind, tuple[str, ...]] = {
    "linear": ("Gemm", "MatMul"),
    "conv1d": ("Conv",),
    "conv2d": ("Conv",),
    "conv_transpose2d": ("ConvTranspose",),
    "embedding": ("Gather",),
}


def unpacked(compressed: CompressedModel) -> tuple[Graph, list[Weight]]:
    """The graph with the decoded weights as constants, and how each of them is stored."""
    graph, factors, described = float_graph(compressed, fold=not _is_half(compressed.module))
    kinds = {layer.name: layer.kind for layer in compressed.record.layers}
    weights = list(_turned(graph))
    rounding = Rounding(graph)
    for name, facts in described.items():
        uses = _uses(graph, name, OPERATORS[kinds[name]])
        if not uses:
            raise RuntimeError(f"The exported graph lost the quantised layer '{name}'")
        if facts.weight_bits is not None:
            weights += _replace(graph, uses, facts, factors.get(f"{name}.weight"))
        if facts.activation_bits is not None:
            for node in uses:
                node.input[0] = rounding.of(node, facts)
    return graph, weights


def _is_half(module: nn.Module) -> bool:
    """Whether weights have 16 bits, which a batch norm folded into them would make 32."""
    return any(p.dtype in (torch.bfloat16, torch.float16) for p in module.parameters())


def _uses(graph: Graph, name: str, operators: tuple[str, ...]) -> list[NodeProto]:
    """The nodes that compute a layer; a table's have no name of their own."""
    if operators == ("Gather",):
        read = f"{name}.weight"
        return [node for node in graph.nodes if node.op_type == "Gather" and node.input[0] == read]
    return [node for node in graph.nodes if node.op_type in operators and node.name == name]


def _turned(graph: Graph) -> Iterator[Weight]:
    """Float weights that the graph has transposed."""
    for node in graph.nodes:
        if node.op_type == "MatMul" and node.name and node.input[1] in graph.constants:
            yield Weight(None, values=graph.constants[node.input[1]].T, turned=True)


def _replace(
    graph: Graph, uses: list[NodeProto], facts: LayerQuantization, factors: Array | None
) -> Iterator[Weight]:
    """Let a layer's nodes alone read the decoded weight; others that read it see the float one."""
    coded, function = coded_weight(facts, factors)
    for turned in (False, True):
        nodes = [node for node in uses if (node.op_type == "MatMul") == turned]
        if not nodes:
            continue
        weight = Weight(coded, function, turned=turned)
        fresh = graph.fresh()
        graph.constants[fresh] = weight.decoded()
        for node in nodes:
            node.input[0 if node.op_type == "Gather" else 1] = fresh
        yield weight
