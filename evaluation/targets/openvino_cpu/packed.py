"""Weights in integers for layers that compute in float, spelt out as a runtime reads them.

codes -> Cast -> Sub (zero points) -> Mul (scales) -> the weight. A runtime that knows this form
keeps the codes and multiplies as it goes. Knows nothing of files, nor how many bits a code takes
there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from compressors.quantization.layers import LayerQuantization, StoredWeight
from evaluation.lowering.graph import Array, Graph


def spell_out(
    graph: Graph, nodes: list[NodeProto], name: str, facts: LayerQuantization, factors: Array | None
) -> dict[str, int]:
    """Let a layer's nodes read its codes; the bits of a code, by the name of their cast."""
    assert facts.stored is not None
    bits: dict[str, int] = {}
    for turned in (False, True):
        uses = [node for node in nodes if (node.op_type == "MatMul") == turned]
        if not uses:
            continue
        writer = _Writer(graph, graph.nodes.index(uses[0]))
        named = f"{name}:{'turned' if turned else 'codes'}"
        bits[named] = _stored_bits(facts.stored)
        weight = writer.weight(facts, factors, named, turned)
        for node in uses:
            node.input[0 if node.op_type == "Gather" else 1] = weight
    return bits


def _stored_bits(stored: StoredWeight) -> int:
    """How many bits a code takes: the simulation's, or 8.

    OpenVINO's kernels read rows of 4 bits wrongly that do not end with a byte, and none of its
    types has 7.
    """
    cut = stored.bits == 4 and stored.codes.shape[1] % 2 != 0
    return 8 if cut or stored.bits == 7 else stored.bits


class _Writer:
    """Puts nodes before a place in a graph."""

    def __init__(self, graph: Graph, place: int) -> None:
        self.graph, self.place = graph, place

    def weight(
        self, facts: LayerQuantization, factors: Array | None, name: str, turned: bool
    ) -> str:
        stored, symmetric = facts.stored, facts.function == "symmetric"
        assert stored is not None
        rows, columns = stored.codes.shape
        whole = stored.group >= columns
        inner = (columns,) if whole else (columns // stored.group, stored.group)
        codes, zeros = _integers(stored, symmetric)
        result = self._cast(codes.reshape(rows, *inner), name)
        if zeros is not None:
            spread = zeros if whole else zeros[..., None]
            result = self._node("Sub", result, self._cast(spread, f"{name}:zero"))
        scales = _scales(stored, factors)
        result = self._node("Mul", result, self._constant(scales if whole else scales[..., None]))
        shape = tuple(stored.shape)
        laid = (shape[stored.axis], *shape[: stored.axis], *shape[stored.axis + 1 :])
        if laid != (rows, *inner):
            result = self._node("Reshape", result, self._constant(np.array(laid, np.int64)))
        order = [*range(1, stored.axis + 1), 0, *range(stored.axis + 1, len(laid))]
        if turned:
            order = [1, 0]
        return result if order == sorted(order) else self._node("Transpose", result, perm=order)

    def _cast(self, values: Array, name: str) -> str:
        return self._node("Cast", self._constant(values), named=name, to=TensorProto.FLOAT)

    def _node(self, operator: str, *inputs: str, named: str = "", **facts: Any) -> str:
        output = self.graph.fresh()
        node = helper.make_node(operator, list(inputs), [output], name=named, **facts)
        self.graph.nodes.insert(self.place, node)
        self.place += 1
        return output

    def _constant(self, value: Array) -> str:
        name = self.graph.fresh()
        self.graph.constants[name] = value
        return name


def _integers(stored: StoredWeight, symmetric: bool) -> tuple[Array, Array | None]:
    """Signed codes around 0, or unsigned ones and their zero points, a row of them a row."""
    assert stored.zeros is not None
    codes, zeros = stored.codes.numpy(), stored.zeros.numpy()
    spread = zeros[:, np.arange(codes.shape[1]) // stored.group]
    if stored.alive is not None:
        codes = np.where(stored.alive.numpy(), codes, spread)
    if symmetric:
        return (codes - spread).astype(np.int8), None
    return codes.astype(np.uint8), zeros.astype(np.uint8)


def _scales(stored: StoredWeight, factors: Array | None) -> Array:
    scales = stored.scales.double().numpy()
    if factors is not None:
        scales = scales * factors[:, None]
    return np.ascontiguousarray(scales.astype(np.float32))
