"""Norms that are not part of a layer, by their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from onnx import NodeProto

from evaluation.lowering.graph import Array, attributes
from evaluation.targets.litert.refusal import parameters, refuse
from evaluation.targets.litert.wires import Order, Wires


def batch_norm(wires: Wires, node: NodeProto) -> None:
    """A product and a sum for every channel."""
    gamma, beta, average, variance = (
        value.astype(np.float64) for value in parameters(wires.graph, node)
    )
    factor = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    source, target = node.input[0], node.output[0]
    order = wires.order(source)
    middle = wires.extra(tuple(wires.shape(source)[d] for d in order), source)
    index = wires.read(source, order)
    factors = _along_channels(factor, order)
    wires.file.operator("MUL", [index, wires.constant(factors)], [middle], schema.MulOptionsT())
    shift = wires.constant(_along_channels(beta - average * factor, order))
    result = wires.write(target, order)
    wires.file.operator("ADD", [middle, shift], [result], schema.AddOptionsT())


def _along_channels(values: Array, order: Order) -> Array:
    shape = [1] * len(order)
    shape[order.index(1)] = len(values)
    return values.astype(np.float32).reshape(shape)


def layer_norm(wires: Wires, node: NodeProto) -> None:
    """Its formula, over the last dimension."""
    source, target = node.input[0], node.output[0]
    shape, facts = wires.shape(source), attributes(node)
    if facts.get("axis", -1) % len(shape) != len(shape) - 1:
        refuse(node, "over several dimensions")
    one = (*shape[:-1], 1)
    last = wires.constant(np.array([len(shape) - 1], np.int32))
    keep = schema.ReducerOptionsT(keepDims=True)
    weight, *bias = parameters(wires.graph, node)
    epsilon = np.array(facts.get("epsilon", 1e-5), np.float32)
    x = wires.read(source)

    def step(code: str, inputs: list[int], size: tuple[int, ...], options: Any = None) -> int:
        made = wires.extra(size, source)
        wires.file.operator(code, inputs, [made], options)
        return made

    average = step("MEAN", [x, last], one, keep)
    centred = step("SUB", [x, average], shape, schema.SubOptionsT())
    squares = step("MUL", [centred, centred], shape, schema.MulOptionsT())
    variance = step("MEAN", [squares, last], one, keep)
    safe = step("ADD", [variance, wires.constant(epsilon)], one, schema.AddOptionsT())
    inverse = step("RSQRT", [safe], one)
    normal = step("MUL", [centred, inverse], shape, schema.MulOptionsT())
    if not bias:
        end = wires.write(target)
        wires.file.operator("MUL", [normal, wires.constant(weight)], [end], schema.MulOptionsT())
        return
    scaled = step("MUL", [normal, wires.constant(weight)], shape, schema.MulOptionsT())
    end = wires.write(target)
    wires.file.operator("ADD", [scaled, wires.constant(bias[0])], [end], schema.AddOptionsT())
