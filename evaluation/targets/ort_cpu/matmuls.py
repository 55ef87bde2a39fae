"""Linear layers in the forms of ONNX Runtime's own operators.

MatMulNBits multiplies float inputs with weights of 4 or 8 bits as they lie in the file.
MatMulIntegerToFloat multiplies integers: the input's, found by DynamicQuantizeLinear for the
tensor as a whole, and 8-bit weights with a scale an output channel. Writes nodes; chooses nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, helper

from evaluation.lowering.graph import Array, Graph
from evaluation.targets.ort_cpu.codes import Codes

DOMAIN = "com.microsoft"
BLOCKS = (16, 32, 64, 128, 256)  # weights of a row that MatMulNBits gives a scale
CHANNEL_BLOCK = 128  # where a whole row has one


def write_weight_only(graph: Graph, node: NodeProto, weight: Codes, *, round_inputs: bool) -> None:
    """Put MatMulNBits in a node's place; it may round inputs to 8 bits, in blocks, if told."""
    block = _block(weight)
    blocks = -(-weight.columns // block)
    middle = 2 ** (weight.bits - 1)
    codes = weight.codes + np.uint8(middle - weight.zeros[0, 0] if weight.symmetric else 0)
    inputs = [
        node.input[0],
        _constant(graph, _packed(codes, blocks, block, weight.bits)),
        _for_every_block(graph, node, weight.scales, (weight.rows, blocks)),
    ]
    facts = {"K": weight.columns, "N": weight.rows, "bits": weight.bits, "block_size": block}
    if not weight.symmetric:
        inputs.append(_zeros(graph, node, weight, blocks))
    bias = take_bias(graph, node, weight.rows)
    if bias:
        inputs += [""] * (5 - len(inputs)) + [bias]
    facts["accuracy_level"] = 4 if round_inputs else 1
    _replace(graph, node, "MatMulNBits", inputs, **facts)


def write_dynamic(
    graph: Graph, node: NodeProto, weight: Codes, known: dict[str, list[str]]
) -> None:
    """Put MatMulIntegerToFloat in a node's place; `known` are inputs in integers already."""
    source = node.input[0]
    if source not in known:
        known[source] = [graph.fresh() for _ in range(3)]
        made = helper.make_node("DynamicQuantizeLinear", [source], known[source])
        graph.nodes.insert(graph.nodes.index(node), made)
    integers, scale, zero = known[source]
    codes = weight.codes.astype(np.int16) - weight.zeros
    values = _constant(graph, np.ascontiguousarray(codes.astype(np.int8).T))
    scales = _constant(graph, np.broadcast_to(weight.scales[:, 0], weight.rows).copy())
    inputs = [integers, values, scale, scales, zero]
    bias = take_bias(graph, node, weight.rows)
    if bias:
        inputs += ["", bias]
    _replace(graph, node, "MatMulIntegerToFloat", inputs)


def take_bias(graph: Graph, node: NodeProto, rows: int) -> str | None:
    """The bias that a node or the addition after it adds; the addition is taken out."""
    if len(node.input) > 2:
        return str(node.input[2])
    after = graph.sole_consumer(node.output[0])
    if after is None or after.op_type != "Add":
        return None
    other = after.input[1] if after.input[0] == node.output[0] else after.input[0]
    if other not in graph.constants or graph.constants[other].shape != (rows,):
        return None
    node.output[0] = after.output[0]
    graph.nodes.remove(after)
    return str(other)


def _replace(graph: Graph, node: NodeProto, kind: str, inputs: list[str], **facts: Any) -> None:
    made = helper.make_node(kind, inputs, list(node.output), node.name, domain=DOMAIN, **facts)
    graph.nodes[graph.nodes.index(node)] = made


def _block(weight: Codes) -> int:
    """The smallest block that the kernel has for the weight's groups."""
    wanted = min(weight.group, CHANNEL_BLOCK) if weight.scales.shape[1] == 1 else weight.group
    return next(block for block in BLOCKS if block >= wanted)


def _packed(codes: Array, blocks: int, block: int, bits: int) -> Array:
    """Rows in blocks, their codes bit by bit, the lowest first; the last block is filled up."""
    rows, columns = codes.shape
    filled = np.zeros((rows, blocks * block), np.uint8)
    filled[:, :columns] = codes
    return pack_rows(filled, bits).reshape(rows, blocks, block * bits // 8)


def pack_rows(codes: Array, bits: int) -> Array:
    """Every row's codes in bytes of their own."""
    spread = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(spread.reshape(len(codes), -1), axis=-1, bitorder="little")


def _zeros(graph: Graph, node: NodeProto, weight: Codes, blocks: int) -> str:
    """Zero points, packed as the codes are; of a row that has one, a byte in all."""
    zeros = weight.zeros.astype(np.uint8)
    alike = zeros.shape[1] == 1
    packed = pack_rows(np.repeat(zeros, 8 // weight.bits, axis=1) if alike else zeros, weight.bits)
    return _for_every_block(graph, node, packed, (weight.rows, -(-blocks * weight.bits // 8)))


def _for_every_block(graph: Graph, node: NodeProto, values: Array, shape: tuple[int, int]) -> str:
    """One value a block, stored once where many are equal and repeated as the session is made."""
    name = _constant(graph, values)
    if values.shape == shape:
        return name
    wide = graph.fresh()
    size = _constant(graph, np.array(shape, np.int64))
    made = helper.make_node("Expand", [name, size], [wide])
    graph.nodes.insert(graph.nodes.index(node), made)
    return wide


def _constant(graph: Graph, value: Array) -> str:
    name = graph.fresh()
    graph.constants[name] = value
    return name
