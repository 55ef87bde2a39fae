"""The ranges of tensors of an edge program, as it is simulated, on the calibration split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.exported_program import ExportedProgram

from compressors.data import Data
from evaluation.targets.executorch.plan import IntegerLayer, Plan
from evaluation.targets.executorch.traced import Traced, as_float32, constants, to_size


def ranges(
    program: ExportedProgram, planned: Plan, traced: Traced, data: Data
) -> dict[fx.Node, tuple[float, float]]:
    """The least and the largest value of every glue tensor."""
    if not planned.glue:
        return {}
    seen = _Ranges(program, planned)
    known = constants(program)
    holders = [n for n in program.graph_module.graph.nodes if n.op == "placeholder"]
    with torch.no_grad():
        for args in _pieces(traced, data):
            given = iter(args)
            seen.run(*(known[node] if node in known else next(given) for node in holders))
    return seen.found


def _pieces(traced: Traced, data: Data) -> Iterator[tuple[Tensor, ...]]:
    for batch in data.batches("calibration"):
        args = [as_float32(arg.cpu()) for arg in batch.args]
        if traced.any_batch:
            yield tuple(args)
            continue
        for piece in zip(*(torch.split(arg, traced.largest) for arg in args), strict=True):
            yield tuple(to_size(tensor, traced.largest) for tensor in piece)


class _Ranges(fx.Interpreter):
    def __init__(self, program: ExportedProgram, planned: Plan) -> None:
        super().__init__(program.graph_module)
        self.layers, self.dynamic = planned.layers, planned.dynamic
        self.found = dict.fromkeys(planned.glue, (0.0, 0.0))

    def run_node(self, n: fx.Node) -> Any:
        if n in self.layers or n in self.dynamic:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            result = n.target(*self._read(n, args[0]), *args[2:], **kwargs)  # type: ignore
        else:
            result = super().run_node(n)
        if n in self.found:
            low, high = self.found[n]
            self.found[n] = (min(low, float(result.min())), max(high, float(result.max())))
        return result

    def _read(self, n: fx.Node, x: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's input and weight; the input of a dynamic layer keeps its own range."""
        layer = self.layers.get(n)
        return (x, self.dynamic[n].values()) if layer is None else _simulated(layer, x)


def _simulated(layer: IntegerLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's input and weight as the simulation rounds them."""
    scale, zero = layer.source.scale, layer.source.zero_point
    rounded = ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale
    shape = (-1, *(1 for _ in layer.weights.shape[1:]))
    return rounded, layer.weights.float() * layer.weight_scales.view(shape)
