"""Weights of a few bits, packed in the file and spread out by operators that run once.

All codes of one width lie in a row in as few bytes as they need: planes of 4, 2 and 1 bits, of
which each byte holds several codes. Shifts and remainders take them apart; ONNX Runtime computes
what depends on constants alone when a session is made, so that kernels see plain weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from evaluation.lowering.graph import Array, Graph

PLANES = (4, 2, 1)
EIGHT = 8  # codes whose bytes are whole in every plane


@dataclass(frozen=True)
class Sort:
    """What codes of one sort have in common: their width, the type wanted, what is taken off."""

    bits: int
    type: int = TensorProto.UINT8
    zero: int = 0

    def finish(self, steps: Steps, codes: str) -> str:
        """The tensor that is wanted, from codes."""
        if self.type != TensorProto.UINT8:
            codes = steps.make("Cast", codes, to=self.type)
        if self.zero:
            kind = helper.tensor_dtype_to_np_dtype(self.type)
            codes = steps.make("Sub", codes, steps.constant(np.array(self.zero, kind)))
        return codes


@dataclass
class Pool:
    """The codes of one sort, and the tensors that they are for."""

    graph: Graph
    sort: Sort
    _known: dict[bytes, str] = field(default_factory=dict)
    _codes: list[Array] = field(default_factory=list)

    def add(self, codes: Array) -> str:
        """The tensor of one dimension that will hold what these codes stand for."""
        key = codes.astype(np.uint8).tobytes()
        if key not in self._known:
            self._known[key] = self.graph.fresh()
            self._codes.append(codes.reshape(-1).astype(np.uint8))
        return self._known[key]

    def write(self) -> list[NodeProto]:
        """The nodes that take the codes apart, to be put before all others."""
        codes = np.concatenate(self._codes)
        missing = -len(codes) % EIGHT if self.sort.bits < EIGHT else 0
        steps = Steps(self.graph)
        whole = spread(steps, np.pad(codes, (0, missing)), self.sort.bits)
        whole = self.sort.finish(steps, whole)
        sizes = [*(len(part) for part in self._codes), *([missing] if missing else [])]
        names = [*self._known.values(), *([self.graph.fresh()] if missing else [])]
        wanted = steps.constant(np.array(sizes, np.int64))
        steps.nodes.append(helper.make_node("Split", [whole, wanted], names))
        return steps.nodes


@dataclass
class Steps:
    """Nodes put down one after another; what is there already is not made again."""

    graph: Graph
    nodes: list[NodeProto] = field(default_factory=list)
    _known: dict[tuple[object, ...], str] = field(default_factory=dict)

    def make(self, kind: str, *inputs: str, **facts: Any) -> str:
        """The output of a node."""
        key = (kind, inputs, str(facts))
        if key not in self._known:
            self._known[key] = self.graph.fresh()
            self.nodes.append(helper.make_node(kind, inputs, [self._known[key]], **facts))
        return self._known[key]

    def constant(self, value: Array) -> str:
        """A constant's name."""
        key = (value.dtype, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = self.graph.fresh()
            self.graph.constants[self._known[key]] = value
        return self._known[key]


def spread(steps: Steps, codes: Array, bits: int) -> str:
    """Codes, a multiple of eight of them, as a tensor of one a byte that is stored packed."""
    flat = steps.constant(np.array([-1], np.int64))
    if bits == EIGHT:
        return steps.constant(codes)
    parts, low = [], 0
    for width in PLANES:
        if not bits & width:
            continue
        part = steps.make("Reshape", _plane(steps, codes >> low, width), flat)
        if low:
            part = steps.make("BitShift", part, steps.constant(_byte(low)), direction="LEFT")
        parts.append(part)
        low += width
    whole = parts[0]
    for part in parts[1:]:
        whole = steps.make("Add", whole, part)
    return whole


def _plane(steps: Steps, codes: Array, width: int) -> str:
    """The lowest bits of every code; a byte holds codes that lie far apart."""
    count = 8 // width
    shifts = (np.arange(count) * width).astype(np.uint8)[:, None]
    table = (codes & (2**width - 1)).reshape(count, -1)
    packed = np.bitwise_or.reduce(table << shifts, axis=0).astype(np.uint8)
    moved = steps.make(
        "BitShift", steps.constant(packed), steps.constant(shifts), direction="RIGHT"
    )
    return steps.make("Mod", moved, steps.constant(_byte(2**width)))


def _byte(value: int) -> Array:
    return np.array(value, np.uint8)
