"""Operators that move numbers and change none: reshapes, transposes, slices, lookups."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from onnx import NodeProto

from evaluation.lowering.graph import Array, attributes
from evaluation.targets.litert.operators import scale_of
from evaluation.targets.litert.refusal import refuse
from evaluation.targets.litert.wires import Order, Wires, plain

END = 2**31 - 1


def reshape(wires: Wires, node: NodeProto) -> None:
    """RESHAPE, also for whatever else gives the same numbers in the same order another shape."""
    source, target = node.input[0], node.output[0]
    scale = scale_of(wires, node, source)
    order = wires.order(source)
    if not wires.in_memory(source, order):
        order = plain(wires.rank(source))
    index = wires.read(source, order, scale)
    wires.reshape(index, wires.write(target, scale=scale), wires.varying_shape(target))


def transpose(wires: Wires, node: NodeProto) -> None:
    """No operator: the same numbers, of which the order is told otherwise."""
    source, target = node.input[0], node.output[0]
    turn = attributes(node).get("perm") or list(plain(wires.rank(source)))[::-1]
    scale = scale_of(wires, node, source)
    order = wires.order(source)
    index = wires.read(source, order, scale)
    after = tuple(turn.index(d) for d in order)
    wires.alias(target, index, after, scale)


def concat(wires: Wires, node: NodeProto) -> None:
    """CONCATENATION, in the order of the first input."""
    tensors = [name for name in node.input if name not in wires.graph.constants]
    order = wires.order(tensors[0])
    axis = order.index(attributes(node)["axis"] % len(order))
    inputs = [wires.read(name, order) for name in node.input]
    target = wires.write(node.output[0], order)
    wires.file.operator("CONCATENATION", inputs, [target], schema.ConcatenationOptionsT(axis=axis))


def slices(wires: Wires, node: NodeProto) -> None:
    """STRIDED_SLICE with steps forward."""
    values = [wires.fixed(name) for name in node.input[1:]]
    if any(value is None for value in values):
        refuse(node, "with bounds that are computed")
    starts, ends, axes, steps = _bounds(values)
    source = node.input[0]
    order = wires.order(source)
    begin, stop, stride = [0] * len(order), [END] * len(order), [1] * len(order)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1 or any(wires.sizes.varying[source][d] for d in [axis % len(order)]):
            refuse(node, "backwards, or of the batch")
        place, size = order.index(axis % len(order)), wires.shape(source)[axis % len(order)]
        begin[place] = _within(start, size)
        stop[place], stride[place] = _within(end, size), step
    strided(
        wires, wires.read(source, order), wires.write(node.output[0], order), begin, stop, stride
    )


def _bounds(values: list[Array | None]) -> list[list[int]]:
    given = [[int(v) for v in np.ravel(value)] for value in values if value is not None]
    count = len(given[0])
    return [*given, *([list(range(count)), [1] * count][len(given) - 2 :])]


def _within(place: int, size: int) -> int:
    return max(0, min(place + size if place < 0 else place, size))


def strided(
    wires: Wires, source: int, target: int, begin: list[int], stop: list[int], stride: list[int]
) -> None:
    """STRIDED_SLICE; what reaches to the end is told so, whatever the batch."""
    whole = sum(1 << place for place, end in enumerate(stop) if end == END)
    tables = [
        wires.constant(np.array(row, np.int32))
        for row in (begin, [0 if end == END else end for end in stop], stride)
    ]
    options: Any = schema.StridedSliceOptionsT(endMask=whole)
    wires.file.operator("STRIDED_SLICE", [source, *tables], [target], options)


def split(wires: Wires, node: NodeProto) -> None:
    """A slice for every part."""
    source = node.input[0]
    order = wires.order(source)
    axis = attributes(node).get("axis", 0) % len(order)
    index, start = wires.read(source, order), 0
    for name in node.output:
        begin, stop = [0] * len(order), [END] * len(order)
        place, size = order.index(axis), wires.shape(name)[axis]
        begin[place], stop[place] = start, start + size
        strided(wires, index, wires.write(name, order), begin, stop, [1] * len(order))
        start += size


def gather(wires: Wires, node: NodeProto) -> None:
    """GATHER along one dimension; of one place, a slice."""
    source, indices = node.input
    axis = attributes(node).get("axis", 0) % wires.rank(source)
    places = wires.fixed(indices)
    if places is not None and places.ndim == 0 and source not in wires.graph.constants:
        return _pick(wires, node, axis, int(places) % wires.shape(source)[axis])
    if places is not None:
        size = wires.shape(source)[axis]
        index = wires.constant(np.where(places < 0, places + size, places).astype(np.int32))
    else:
        index = wires.read(indices)
    options = schema.GatherOptionsT(axis=axis)
    target = wires.write(node.output[0])
    wires.file.operator("GATHER", [wires.read(source), index], [target], options)
    return None


def _pick(wires: Wires, node: NodeProto, axis: int, place: int) -> None:
    source, target = node.input[0], node.output[0]
    if wires.sizes.varying[source][axis]:
        refuse(node, "of one sample of a batch")
    sizes = list(wires.shape(source))
    begin, stop = [0] * len(sizes), [END] * len(sizes)
    begin[axis], stop[axis], sizes[axis] = place, place + 1, 1
    one = wires.extra(tuple(sizes), source)
    strided(wires, wires.read(source), one, begin, stop, [1] * len(sizes))
    wires.reshape(one, wires.write(target), wires.varying_shape(target))


def expand(wires: Wires, node: NodeProto) -> None:
    """Repeated along single dimensions: a constant here and now, or by adding zeros.

    Where the batch is repeated, the zeros are made from the first input, one a sample.
    """
    source, target = node.input[0], node.output[0]
    facts = wires.sizes.varying[target]
    if any(facts[1:]) or wires.sizes.types[source] != "float32":
        refuse(node, "along other dimensions than the batch")
    shape = wires.shape(target)
    zeros = wires.constant(np.zeros((1, *shape[1:]), np.float32))
    if facts[0] and not _follows(wires, source):
        zero = _zero_a_sample(wires, len(shape))
        grown = wires.extra(shape, target)
        wires.file.operator("ADD", [zero, zeros], [grown], schema.AddOptionsT())
        zeros = grown
    index = wires.read(source)
    wires.file.operator("ADD", [index, zeros], [wires.write(target)], schema.AddOptionsT())


def _follows(wires: Wires, name: str) -> bool:
    return any(wires.sizes.varying[name])


def _zero_a_sample(wires: Wires, rank: int) -> int:
    """As many zeros as samples: a number of each, times 0."""
    name = wires.graph.inputs[0].name
    size = wires.rank(name)
    one = wires.extra((1,) * size, name)
    strided(wires, wires.read(name), one, [0] * size, [END, *[1] * (size - 1)], [1] * size)
    if wires.sizes.types[name] != "float32":
        cast = wires.file.tensor((1,) * size)
        wires.file.operator("CAST", [one], [cast], schema.CastOptionsT())
        one = cast
    narrow = wires.file.tensor((1,) * rank)
    wires.reshape(one, narrow, [-1, *[1] * (rank - 1)])
    zero = wires.file.tensor((1,) * rank)
    nothing = wires.constant(np.array(0, np.float32))
    wires.file.operator("MUL", [narrow, nothing], [zero], schema.MulOptionsT())
    return zero


def cast(wires: Wires, node: NodeProto) -> None:
    """CAST."""
    source, target = node.input[0], node.output[0]
    order: Order = wires.order(source)
    index = wires.read(source, order)
    wires.file.operator("CAST", [index], [wires.write(target, order)], schema.CastOptionsT())
