"""Transposed convolutions: zeros between the inputs, then a convolution with the turned kernel.

LiteRT's own operator has its output's size in the file, the number of samples in it, and would
run one number of samples alone.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from onnx import NodeProto

from evaluation.lowering.graph import attributes
from evaluation.targets.litert.layers import NHWC, pad
from evaluation.targets.litert.refusal import parameters, refuse
from evaluation.targets.litert.wires import Wires


def transposed_convolution(wires: Wires, node: NodeProto) -> None:
    """CONV_2D over the spread input."""
    facts = attributes(node)
    weight, *bias = parameters(wires.graph, node)
    if weight.ndim != 4 or facts.get("group", 1) != 1 or set(facts.get("dilations", [1])) != {1}:
        refuse(node, "of one dimension, in groups, or dilated")
    name, result = node.input[0], node.output[0]
    sizes = [wires.shape(name)[d] for d in NHWC]
    index = wires.read(name, NHWC)
    for axis, stride in enumerate(facts.get("strides", [1, 1])):
        index, sizes = _spread(wires, name, index, sizes, axis + 1, stride)
    pads = list(facts.get("pads", [0] * 4))
    kernel, extra = weight.shape[2:], facts.get("output_padding", [0, 0])
    around = [k - 1 - p for k, p in zip((*kernel, *kernel), pads, strict=True)]
    # Spreading leaves stride - 1 zeros after the last input, of which only `extra` belong there.
    strides = facts.get("strides", [1, 1])
    around[2:] = [a + e - (s - 1) for a, e, s in zip(around[2:], extra, strides, strict=True)]
    index, sizes = _fit(wires, name, index, sizes, around)
    turned = weight[:, :, ::-1, ::-1].transpose(1, 2, 3, 0)
    zeros = np.zeros(len(turned), np.float32)
    inputs = [index, wires.constant(turned), wires.constant(bias[0] if bias else zeros)]
    options = schema.Conv2DOptionsT(padding=schema.Padding.VALID, strideH=1, strideW=1)
    target = wires.write(result, NHWC, label=node.name)
    wires.file.operator("CONV_2D", inputs, [target], options)


def _spread(
    wires: Wires, name: str, index: int, sizes: list[int], axis: int, stride: int
) -> tuple[int, list[int]]:
    """The tensor with stride - 1 zeros after each place along height (1) or width (2)."""
    if stride == 1:
        return index, sizes
    _, height, width, channels = sizes
    apart = (height, 1, width * channels) if axis == 1 else (height * width, 1, channels)
    wide = (apart[0], stride, apart[2])
    table = np.array([[0, 0], [0, 0], [0, stride - 1], [0, 0]], np.int32)
    lifted = wires.extra((1, *apart), name)
    wires.reshape(index, lifted, [-1, *apart])
    padded = wires.extra((1, *wide), name)
    wires.file.operator("PAD", [lifted, wires.constant(table)], [padded], schema.PadOptionsT())
    after = list(sizes)
    after[axis] *= stride
    spread = wires.extra(tuple(after), name)
    wires.reshape(padded, spread, [-1, *after[1:]])
    return spread, after


def _fit(
    wires: Wires, name: str, index: int, sizes: list[int], around: list[int]
) -> tuple[int, list[int]]:
    """The tensor with so much around height and width; less than none is cut off."""
    cut, grow = [max(-a, 0) for a in around], [max(a, 0) for a in around]
    if any(cut):
        after = [sizes[0], sizes[1] - cut[0] - cut[2], sizes[2] - cut[1] - cut[3], sizes[3]]
        sliced = wires.extra(tuple(after), name)
        begin = wires.constant(np.array([0, cut[0], cut[1], 0], np.int32))
        size = wires.constant(np.array([-1, *after[1:]], np.int32))
        wires.file.operator("SLICE", [index, begin, size], [sliced], schema.SliceOptionsT())
        index, sizes = sliced, after
    if any(grow):
        index = pad(wires, name, index, sizes, None, grow)
        sizes = [sizes[0], sizes[1] + grow[0] + grow[2], sizes[2] + grow[1] + grow[3], sizes[3]]
    return index, sizes
