"""The tensors of a graph as the file has them: in which order of dimensions, in which integers.

One tensor may be there in several forms. A form that is asked for and not there is made from
another: transposed (reshaped, where nothing moves in memory), quantised, dequantised. An order
says for each dimension in the file which one of the graph it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]

from compressors.errors import UserError
from evaluation.lowering.graph import Array, Graph
from evaluation.lowering.plan import Scale
from evaluation.targets.litert.file import File, Scales
from evaluation.targets.litert.integers import Integers
from evaluation.targets.litert.sizes import Sizes
from evaluation.targets.litert.weights import Beside

Order = tuple[int, ...]
CHANNELS_LAST: dict[int, Order] = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
OFFSET = 128  # unsigned integers to signed ones


@dataclass(frozen=True)
class Form:
    """How a tensor is held."""

    order: Order
    scale: Scale | None = None  # None: not in 8-bit integers


def plain(rank: int) -> Order:
    """The graph's own order."""
    return tuple(range(rank))


@dataclass
class Wires:
    """What is in the file so far."""

    graph: Graph
    sizes: Sizes
    integers: Integers
    beside: Mapping[str, Beside] = field(default_factory=dict)  # by the layer's name
    bits: Mapping[str, int] = field(default_factory=dict)  # of integer weights, by the layer's name
    file: File = field(default_factory=File)
    forms: dict[str, dict[Form, int]] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one sample, in the graph's order."""
        return self.sizes.shapes[name]

    def rank(self, name: str) -> int:
        """The number of dimensions."""
        return len(self.sizes.shapes[name])

    def order(self, name: str) -> Order:
        """The order in which a tensor is there already."""
        if name in self.graph.constants:
            return plain(self.rank(name))
        return next(iter(self.forms[name])).order

    def fixed(self, name: str) -> Array | None:
        """A constant of the graph; None: it is none. It must be one for all batch sizes."""
        if name in self.sizes.growing:
            raise UserError("litert cannot compute with numbers made from the batch size.")
        return self.graph.constants.get(name)

    def scale(self, name: str) -> Scale | None:
        """The scale of the integers in which a tensor is kept between integer operators."""
        return self.integers.scales.get(name)

    def constant(self, value: Array) -> int:
        """A constant that the graph does not have."""
        return self.file.constant(value)

    def read(self, name: str, order: Order | None = None, scale: Scale | None = None) -> int:
        """The tensor in a form; without an order, the graph's."""
        want = Form(plain(self.rank(name)) if order is None else order, scale)
        constant = self.fixed(name)
        if constant is not None:
            return self.file.constant(constant.transpose(want.order))
        forms = self.forms[name]
        if want not in forms:
            source = self._nearest(name, want)
            if want.scale is None:  # integers are smaller to move
                moved = self._move(name, source, want.order)
                self._convert(name, moved, want.scale)
            else:
                converted = self._convert(name, source, want.scale)
                self._move(name, converted, want.order)
        return forms[want]

    def write(
        self, name: str, order: Order | None = None, scale: Scale | None = None, label: str = ""
    ) -> int:
        """A tensor in a form, to be filled by the operator that comes next."""
        form = Form(plain(self.rank(name)) if order is None else order, scale)
        shape = [self.shape(name)[d] for d in form.order]
        index = self.file.tensor(shape, self._type(name, scale), scales_of(scale), label)
        self.forms.setdefault(name, {})[form] = index
        return index

    def alias(self, name: str, index: int, order: Order, scale: Scale | None) -> None:
        """A tensor that is there already, as another of the graph in some order."""
        self.forms.setdefault(name, {})[Form(order, scale)] = index

    def extra(self, shape: tuple[int, ...], like: str, scale: Scale | None = None) -> int:
        """A tensor that the graph does not have, of the type of one that it has."""
        return self.file.tensor(shape, self._type(like, scale), scales_of(scale))

    def varying_shape(self, name: str, order: Order | None = None) -> list[int]:
        """The shape with -1 for what follows the batch."""
        facts = self.sizes.varying[name]
        if sum(facts) > 1:
            raise UserError(
                "litert cannot write a shape in which several dimensions follow the batch size."
            )
        order = plain(self.rank(name)) if order is None else order
        return [-1 if facts[d] else self.shape(name)[d] for d in order]

    def in_memory(self, name: str, order: Order) -> bool:
        """Whether numbers in that order lie as in the graph's own: only single ones moved."""
        facts = self.sizes.varying[name]
        moved = [d for d in order if self.shape(name)[d] != 1 or facts[d]]
        return moved == sorted(moved)

    def reshape(self, source: int, target: int, shape: list[int]) -> None:
        """Tell a tensor's shape anew."""
        options = schema.ReshapeOptionsT(newShape=shape)
        sizes = self.constant(np.array(shape, np.int32))
        self.file.operator("RESHAPE", [source, sizes], [target], options)

    def _type(self, name: str, scale: Scale | None) -> str:
        return self.sizes.types[name] if scale is None else "int8"

    def _nearest(self, name: str, want: Form) -> Form:
        """The form from which the wanted one is made: of its scale, or exact, or any."""
        forms = list(self.forms[name])
        same = [form for form in forms if form.scale == want.scale]
        exact = [form for form in forms if form.scale is None]
        return next(iter([*same, *exact, *forms]))

    def _convert(self, name: str, source: Form, scale: Scale | None) -> Form:
        form = Form(source.order, scale)
        if form not in self.forms[name]:
            index = self.forms[name][source]
            code = "DEQUANTIZE" if scale is None else "QUANTIZE"
            self.file.operator(code, [index], [self.write(name, source.order, scale)])
        return form

    def _move(self, name: str, source: Form, order: Order) -> Form:
        form = Form(order, source.scale)
        if form in self.forms[name]:
            return form
        index, target = self.forms[name][source], self.write(name, order, source.scale)
        if self._stays(name, source.order, order):
            self.reshape(index, target, self.varying_shape(name, order))
        else:
            turn = np.array([source.order.index(d) for d in order], np.int32)
            options: Any = schema.TransposeOptionsT()
            self.file.operator("TRANSPOSE", [index, self.constant(turn)], [target], options)
        return form

    def _stays(self, name: str, before: Order, after: Order) -> bool:
        """Whether only dimensions of one element change places."""
        facts = self.sizes.varying[name]
        many = [d for d in range(self.rank(name)) if self.shape(name)[d] != 1 or facts[d]]
        return [d for d in before if d in many] == [d for d in after if d in many]


def scales_of(scale: Scale | None) -> Scales | None:
    """A scale of unsigned integers as one of signed ones."""
    return None if scale is None else Scales((scale.scale,), scale.zero_point - OFFSET)
