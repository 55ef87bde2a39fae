"""Convolutions and linear layers in LiteRT's form: channels last, rectifier and bias inside.

A layer is written in float, in integers (its input, weights and result), or with 8-bit weights
beside float inputs: then the kernel finds the range of every input itself (`dynamic`), or the
weights are expanded as the file is opened.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from onnx import NodeProto

from evaluation.lowering.graph import Array, attributes
from evaluation.lowering.plan import Scale
from evaluation.targets.litert.file import Scales
from evaluation.targets.litert.integers import past_rectifier
from evaluation.targets.litert.refusal import parameters, refuse
from evaluation.targets.litert.wires import CHANNELS_LAST, Wires

NHWC = CHANNELS_LAST[4]
NLC = CHANNELS_LAST[3]
LARGEST = 2.0**31 - 1


def activation(kind: str | None) -> int:
    """The schema's number of a fused rectifier."""
    return int(getattr(schema.ActivationFunctionType, kind or "NONE"))


def linear(wires: Wires, node: NodeProto) -> None:
    """FULLY_CONNECTED over the last dimension."""
    facts = attributes(node)
    if facts.get("alpha", 1.0) != 1.0 or facts.get("beta", 1.0) != 1.0 or facts.get("transA"):
        refuse(node, "with factors or a transposed input")
    weight = parameters(wires.graph, node)[0]
    weight = weight if facts.get("transB") else weight.T
    source, result, rectifier, scale = _ends(wires, node)
    rank = wires.rank(node.input[0])
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=activation(rectifier), keepNumDims=rank != 2
    )
    inputs = [wires.read(node.input[0], scale=source), *_weights(wires, node, weight, 0)]
    target = wires.write(result, scale=scale, label=node.name)
    wires.file.operator("FULLY_CONNECTED", inputs, [target], options)


def convolution(wires: Wires, node: NodeProto) -> None:
    """CONV_2D or DEPTHWISE_CONV_2D; one of one dimension is one of height 1."""
    facts = attributes(node)
    weight = parameters(wires.graph, node)[0]
    flat = weight.ndim == 3
    if weight.ndim not in (3, 4):
        refuse(node, f"with {weight.ndim - 2} dimensions")
    source, result, rectifier, scale = _ends(wires, node)
    name = node.input[0]
    index = wires.read(name, NLC if flat else NHWC, source)
    shape = [wires.shape(name)[d] for d in (NLC if flat else NHWC)]
    strides, dilations, pads = (
        list(facts.get(key, default))
        for key, default in (
            ("strides", [1] * (weight.ndim - 2)),
            ("dilations", [1] * (weight.ndim - 2)),
            ("pads", [0] * 2 * (weight.ndim - 2)),
        )
    )
    if flat:
        weight = weight[:, :, None]
        strides, dilations = [1, *strides], [1, *dilations]
        pads = [0, pads[0], 0, pads[1]]
        index, shape = _raise(wires, name, index, shape, source)
    index, padding = _pad(wires, name, index, shape, source, weight, strides, dilations, pads)
    common: dict[str, Any] = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": activation(rectifier),
    }
    groups = facts.get("group", 1)
    if groups > 1 and weight.shape[1] == 1:
        code = "DEPTHWISE_CONV_2D"
        options = schema.DepthwiseConv2DOptionsT(
            **common, depthMultiplier=weight.shape[0] // groups
        )
        weights = _weights(wires, node, weight.transpose(1, 2, 3, 0), 3)
    else:
        code, options = "CONV_2D", schema.Conv2DOptionsT(**common)
        weights = _weights(wires, node, weight.transpose(0, 2, 3, 1), 0)
    if not flat:
        target = wires.write(result, NHWC, scale, node.name)
        wires.file.operator(code, [index, *weights], [target], options)
        return
    sizes = [wires.shape(result)[d] for d in NLC]
    high = wires.extra((sizes[0], 1, *sizes[1:]), result, scale)
    wires.file.operator(code, [index, *weights], [high], options)
    target = wires.write(result, NLC, scale, node.name)
    wires.reshape(high, target, wires.varying_shape(result, NLC))


def _raise(
    wires: Wires, name: str, index: int, shape: list[int], scale: Scale | None
) -> tuple[int, list[int]]:
    raised = [shape[0], 1, *shape[1:]]
    high = wires.extra(tuple(raised), name, scale)
    sizes = wires.varying_shape(name, NLC)
    wires.reshape(index, high, [sizes[0], 1, *sizes[1:]])
    return high, raised


def _pad(
    wires: Wires,
    name: str,
    index: int,
    shape: list[int],
    scale: Scale | None,
    weight: Array,
    strides: list[int],
    dilations: list[int],
    pads: list[int],
) -> tuple[int, int]:
    """The input, padded where the kernel's own ways of padding are others, and the kernel's way."""
    if not any(pads):
        return index, schema.Padding.VALID
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    if pads == same_padding(shape[1:3], spans, strides):
        return index, schema.Padding.SAME
    return pad(wires, name, index, shape, scale, pads), schema.Padding.VALID


def same_padding(sizes: list[int], spans: list[int], strides: list[int]) -> list[int]:
    """What SAME pads, as ONNX says it: before, then after."""
    totals = [
        max((-(-size // stride) - 1) * stride + span - size, 0)
        for size, span, stride in zip(sizes, spans, strides, strict=True)
    ]
    return [*(t // 2 for t in totals), *(t - t // 2 for t in totals)]


def pad(
    wires: Wires, name: str, index: int, shape: list[int], scale: Scale | None, pads: list[int]
) -> int:
    """Zeros around height and width."""
    table = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
    sizes = tuple(size + sum(row) for size, row in zip(shape, table.tolist(), strict=True))
    padded = wires.extra(sizes, name, scale)
    wires.file.operator("PAD", [index, wires.constant(table)], [padded], schema.PadOptionsT())
    return padded


def _ends(wires: Wires, node: NodeProto) -> tuple[Scale | None, str, str | None, Scale | None]:
    """The scale of a layer's input, what it writes, the rectifier in it, the scale of that."""
    result, rectifier = past_rectifier(wires.graph, node)
    layer = wires.integers.layers.get(node.name)
    if layer is None:
        return None, result, rectifier, None
    return layer.source, result, rectifier, wires.integers.scales[result]


def _weights(wires: Wires, node: NodeProto, weight: Array, axis: int) -> list[int]:
    """The weights, laid out as the kernel reads them, and the bias."""
    layer = wires.integers.layers.get(node.name)
    bias = next(iter(parameters(wires.graph, node)[1:]), None)
    if layer is None:
        zeros = np.zeros(weight.shape[axis], np.float32)
        matrix = _float_weights(wires, node, weight, axis)
        return [matrix, wires.constant(zeros if bias is None else bias)]
    turn = _turn(layer.weights, axis)
    # XNNPACK's kernel of fixed scales takes two integers a byte where rows fill whole bytes.
    bits = wires.bits[node.name] if weight.shape[-1] % 2 == 0 else 8
    scales = Scales(tuple(layer.weight_scales.tolist()), axis=axis, bits=bits)
    units = layer.weight_scales.astype(np.float64) * np.float32(layer.source.scale)
    sums = np.zeros(len(units)) if bias is None else np.round(bias.astype(np.float64) / units)
    integers = np.clip(sums, -LARGEST, LARGEST).astype(np.int32)
    return [
        wires.file.constant(turn, scales),
        wires.file.constant(integers, Scales(tuple(np.float32(units).tolist()))),
    ]


def _float_weights(wires: Wires, node: NodeProto, weight: Array, axis: int) -> int:
    """The weights of a layer whose input is float."""
    beside = wires.beside.get(node.name)
    if beside is None:
        return wires.constant(weight)
    scales = Scales(tuple(beside.scales.tolist()), axis=axis, bits=wires.bits[node.name])
    integers = wires.file.constant(_turn(beside.weights, axis), scales)
    if beside.dynamic:
        return integers
    expanded = wires.file.tensor(weight.shape)
    wires.file.operator("DEQUANTIZE", [integers], [expanded])
    return expanded


def _turn(integers: Array, axis: int) -> Array:
    """Integers with output channels first, laid out as the weight is."""
    if integers.ndim == 2:
        return integers
    wide = integers[:, :, None] if integers.ndim == 3 else integers
    return np.asarray(wide.transpose((1, 2, 3, 0) if axis == 3 else (0, 2, 3, 1)))
