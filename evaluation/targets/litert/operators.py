"""Operators on numbers and their neighbours: arithmetic, pools, means, activations, softmax.

What works number by number keeps the order of dimensions in which its input is there, so that
between convolutions nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from onnx import NodeProto

from evaluation.lowering.graph import attributes
from evaluation.lowering.plan import Scale
from evaluation.targets.litert.integers import clip_bounds, past_rectifier
from evaluation.targets.litert.layers import activation, pad, same_padding
from evaluation.targets.litert.refusal import refuse
from evaluation.targets.litert.wires import CHANNELS_LAST, Order, Wires, plain

Handler = Callable[[Wires, NodeProto], None]
NHWC = CHANNELS_LAST[4]


def in_integers(wires: Wires, node: NodeProto) -> bool:
    """Whether the plan keeps a node in integers."""
    return id(node) in wires.integers.nodes


def scale_of(wires: Wires, node: NodeProto, name: str) -> Scale | None:
    """The scale in which a node reads or writes a tensor."""
    return wires.scale(name) if in_integers(wires, node) else None


def unary(code: str, options: Any = None) -> Handler:
    """An operator on every number alone."""

    def write(wires: Wires, node: NodeProto) -> None:
        source, target = node.input[0], node.output[0]
        order, scale = wires.order(source), scale_of(wires, node, source)
        index = wires.read(source, order, scale)
        wires.file.operator(code, [index], [wires.write(target, order, scale)], options)

    return write


def binary(code: str, options: Callable[..., Any] | None = None) -> Handler:
    """An operator on two tensors, of which one may be repeated along the other."""

    def write(wires: Wires, node: NodeProto) -> None:
        result, rectifier = node.output[0], None
        if node.op_type == "Add":
            result, rectifier = past_rectifier(wires.graph, node)
        order = _common_order(wires, node, wires.rank(result))
        inputs = [_spread(wires, node, name, order) for name in node.input]
        target = wires.write(result, order, scale_of(wires, node, result))
        made = options(fusedActivationFunction=activation(rectifier)) if options else None
        wires.file.operator(code, inputs, [target], made)

    return write


def _common_order(wires: Wires, node: NodeProto, rank: int) -> Order:
    """The order of an input that has the result's rank, a tensor's rather than a constant's."""
    for name in node.input:
        if name not in wires.graph.constants and wires.rank(name) == rank:
            return wires.order(name)
    return plain(rank)


def _spread(wires: Wires, node: NodeProto, name: str, order: Order) -> int:
    """An input of a binary operator, with as many dimensions as the result where it is turned."""
    missing = len(order) - wires.rank(name)
    value = wires.fixed(name)
    if value is not None:
        if value.size == 1:
            return wires.constant(value.reshape(()))
        return wires.constant(value.reshape((1,) * missing + value.shape).transpose(order))
    if not missing:
        return wires.read(name, order, scale_of(wires, node, name))
    index = wires.read(name)
    if order == plain(len(order)):
        return index
    sizes = [1] * missing + wires.varying_shape(name)
    shape = (1,) * missing + wires.shape(name)
    target = wires.extra(tuple(shape[d] for d in order), name)
    if missing < len(order) - 1:
        refuse(node, "of tensors with different ranks")
    wires.reshape(index, target, [sizes[d] for d in order])
    return target


def clip(wires: Wires, node: NodeProto) -> None:
    """RELU6, or a maximum of a minimum."""
    low, high = clip_bounds(wires.graph, node)
    if (low, high) == (0.0, 6.0):
        return unary("RELU6")(wires, node)
    source, target = node.input[0], node.output[0]
    order = wires.order(source)
    index = wires.read(source, order)
    bounds = [(c, v) for c, v in (("MAXIMUM", low), ("MINIMUM", high)) if v is not None]
    if not bounds:
        refuse(node, "without constant bounds")
    for place, (code, value) in enumerate(bounds):
        last = place == len(bounds) - 1
        shape = tuple(wires.shape(source)[d] for d in order)
        after = wires.write(target, order) if last else wires.extra(shape, source)
        bound = wires.constant(np.array(value, np.float32))
        wires.file.operator(code, [index, bound], [after], schema.MaximumMinimumOptionsT())
        index = after
    return None


def leaky(wires: Wires, node: NodeProto) -> None:
    """LEAKY_RELU."""
    slope = attributes(node).get("alpha", 0.01)
    unary("LEAKY_RELU", schema.LeakyReluOptionsT(alpha=slope))(wires, node)


def softmax(wires: Wires, node: NodeProto) -> None:
    """SOFTMAX over the last dimension."""
    axis = attributes(node).get("axis", -1) % wires.rank(node.input[0])
    rest = tuple(d for d in plain(wires.rank(node.input[0])) if d != axis)
    order = (*rest, axis)
    index, target = wires.read(node.input[0], order), wires.write(node.output[0], order)
    wires.file.operator("SOFTMAX", [index], [target], schema.SoftmaxOptionsT(beta=1.0))


def pool(wires: Wires, node: NodeProto) -> None:
    """MAX_POOL_2D or AVERAGE_POOL_2D."""
    facts = attributes(node)
    source, target = node.input[0], node.output[0]
    if wires.rank(source) != 4 or facts.get("ceil_mode") or set(facts.get("dilations", [1])) != {1}:
        refuse(node, "of one dimension, dilated, or rounded up")
    scale = scale_of(wires, node, source)
    index = wires.read(source, NHWC, scale)
    kernel, strides = list(facts["kernel_shape"]), list(facts.get("strides", [1, 1]))
    pads = list(facts.get("pads", [0] * 4))
    shape = [wires.shape(source)[d] for d in NHWC]
    padding = schema.Padding.VALID
    average = node.op_type == "AveragePool"
    if any(pads):
        counted = average and facts.get("count_include_pad", 0)
        if not counted and pads == same_padding(shape[1:3], kernel, strides):
            padding = schema.Padding.SAME
        elif counted or (not average and _not_negative(wires, source)):
            index = pad(wires, source, index, shape, scale, pads)
        else:
            refuse(node, f"padded by {pads}")
    options = schema.Pool2DOptionsT(
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
    )
    code = "AVERAGE_POOL_2D" if average else "MAX_POOL_2D"
    wires.file.operator(code, [index], [wires.write(target, NHWC, scale)], options)


def _not_negative(wires: Wires, name: str) -> bool:
    """Whether a rectifier writes a tensor, so that zeros around it are never the largest."""
    before = wires.graph.producer(name)
    if before is None:
        return False
    return before.op_type == "Relu" or (
        before.op_type == "Clip" and clip_bounds(wires.graph, before)[0] == 0
    )


def mean(wires: Wires, node: NodeProto) -> None:
    """MEAN over some dimensions."""
    facts = attributes(node)
    source, target = node.input[0], node.output[0]
    if node.op_type == "GlobalAveragePool":
        axes, keep = list(range(2, wires.rank(source))), True
    else:
        axes = list(facts.get("axes") or plain(wires.rank(source)))
        keep = bool(facts.get("keepdims", 1))
    reduce(wires, node, "MEAN", [a % wires.rank(source) for a in axes], keep, source, target)


def reduce(
    wires: Wires,
    node: NodeProto,
    code: str,
    axes: list[int],
    keep: bool,
    source: str,
    target: str,
) -> None:
    """A reduction over axes, as the graph numbers them."""
    order = wires.order(source)
    left = tuple(d for d in order if keep or d not in axes)
    ranked = {d: place for place, d in enumerate(sorted(left))}
    index = wires.read(source, order, scale_of(wires, node, source))
    places = wires.constant(np.array([order.index(a) for a in sorted(axes)], np.int32))
    result = wires.write(target, tuple(ranked[d] for d in left), scale_of(wires, node, target))
    wires.file.operator(code, [index, places], [result], schema.ReducerOptionsT(keepDims=keep))


def matmul(wires: Wires, node: NodeProto) -> None:
    """BATCH_MATMUL of two tensors."""
    if min(wires.rank(name) for name in node.input) < 2:
        refuse(node, "with a vector")
    inputs = [wires.read(name) for name in node.input]
    target = wires.write(node.output[0])
    wires.file.operator("BATCH_MATMUL", inputs, [target], schema.BatchMatMulOptionsT())
