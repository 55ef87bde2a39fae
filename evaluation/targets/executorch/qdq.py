"""Writes a plan into an edge program as quantize/dequantize pairs, which XNNPACK recognises.

Our integers are unsigned, XNNPACK's signed: both the integers and their zero point are shifted by
128, which changes no number. Every reader has a dequantize of its own, as XNNPACK wants it.
"""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
from executorch.backends.transforms.utils import (  # type: ignore[import-untyped]
    create_constant_placeholder,
    delete_constant_placeholder,
)
from executorch.exir.dialects._ops import ops  # type: ignore[import-untyped]
from torch import Tensor, fx
from torch.export.exported_program import ExportedProgram
from torch.export.graph_signature import InputKind

from evaluation.lowering.plan import Scale
from evaluation.targets.executorch.dynamic import DynamicLayer
from evaluation.targets.executorch.plan import IntegerLayer, Plan, sources, stored_scale

decomposed = ops.edge.quantized_decomposed
SHIFT = 128
RANGE = (-128, 127, torch.int8)
WEIGHT_RANGE = (-127, 127, torch.int8)
HALVES_RANGE = (-8, 7, torch.int8)  # which XNNPACK keeps two a byte


def write(program: ExportedProgram, plan: Plan) -> None:
    """Rewrite the graph so that the plan's layers, and what lies between them, are integers."""
    if plan.layers or plan.dynamic:
        _Writer(program, plan).write()


class _Writer:
    """Knows of every tensor its integers, by scale."""

    def __init__(self, program: ExportedProgram, plan: Plan) -> None:
        self.program, self.graph, self.plan = program, program.graph_module.graph, plan
        self.stored: dict[fx.Node, dict[Scale, fx.Node]] = {}
        self.owners = {result: node for node, result in plan.results.items()}
        users = program.graph_signature.user_inputs
        self.first_input = next(node for node in self.graph.nodes if node.name in users)

    def write(self) -> None:
        for node in list(self.graph.nodes):
            if node in self.plan.layers:
                self._read_in_layer(node)
            elif node in self.plan.results:
                for source in dict.fromkeys(sources(node)):
                    scale = self._kept_as(source)
                    node.replace_input_with(source, self._integers(source, scale, node))
            elif node not in self.owners:
                self._read_as_float(node)
            if node in self.plan.dynamic:
                self._find_range(node, self.plan.dynamic[node])
            if node in self.owners:
                self._store(node, self.plan.scales[node])
        self.program.graph_module.recompile()

    def _read_in_layer(self, node: fx.Node) -> None:
        layer = self.plan.layers[node]
        source: Any = node.args[0]
        node.replace_input_with(source, self._integers(source, layer.source, node))
        self._read_weights(node, layer)

    def _find_range(self, node: fx.Node, layer: DynamicLayer) -> None:
        source: Any = node.args[0]
        chosen = (source, *RANGE[:2], torch.finfo(torch.float32).eps, RANGE[2])
        found = self._call(decomposed.choose_qparams.tensor, chosen, source, node)
        numbers = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
        mode = source.meta["val"].fake_mode
        found.meta["val"] = tuple(mode.from_tensor(number) for number in numbers)
        facts = [self._call(getitem, (found, place), source, node) for place in range(2)]
        for fact, value in zip(facts, found.meta["val"], strict=True):
            fact.meta["val"] = value
        args = (*facts, *RANGE)
        kept = self._call(decomposed.quantize_per_tensor.tensor, (source, *args), source, node)
        kept.meta["val"] = source.meta["val"].to(torch.int8)
        back = self._call(decomposed.dequantize_per_tensor.tensor, (kept, *args), source, node)
        node.args = (back, *node.args[1:])
        self._read_weights(node, layer)

    def _read_weights(self, node: fx.Node, layer: IntegerLayer | DynamicLayer) -> None:
        weight: Any = node.args[1]
        facts = [
            self._constant(f"{node.name}_integers", layer.weights),
            self._constant(f"{node.name}_scales", layer.weight_scales),
            self._constant(f"{node.name}_zeros", torch.zeros_like(layer.weight_scales).long()),
        ]
        halves = isinstance(layer, DynamicLayer) and layer.bits == 4
        range_ = HALVES_RANGE if halves else WEIGHT_RANGE
        operator: Any = decomposed.dequantize_per_channel.default
        beside: tuple[Any, ...] = (0, *range_)
        if isinstance(layer, DynamicLayer) and layer.group:
            operator = decomposed.dequantize_per_channel_group.default
            beside = (*range_, layer.group, torch.float32)
        weights = self._call(operator, (*facts, *beside), weight, node)
        node.args = (node.args[0], weights, *node.args[2:])
        if not weight.users:
            delete_constant_placeholder(self.program, weight)

    def _kept_as(self, tensor: fx.Node) -> Scale:
        there = self.stored.get(tensor)
        return next(iter(there)) if there else stored_scale(self.plan, tensor)

    def _read_as_float(self, node: fx.Node) -> None:
        for source in list(node.all_input_nodes):
            if source in self.owners and isinstance(source.meta["val"], Tensor):
                (scale, integers) = next(iter(self.stored[source].items()))
                back = self._back(integers, scale, source, node)
                node.replace_input_with(source, back)
                if node.op == "output":
                    self.program.graph_signature.replace_all_uses(source.name, back.name)

    def _integers(self, tensor: fx.Node, scale: Scale, reader: fx.Node) -> fx.Node:
        """The tensor, dequantised for one reader from the integers of a scale."""
        there = self.stored.setdefault(tensor, {})
        if scale not in there:
            source = tensor
            if there:
                known, integers = next(iter(there.items()))
                source = self._back(integers, known, tensor, reader)
            there[scale] = self._quantised(source, scale, tensor, reader)
        return self._back(there[scale], scale, tensor, reader)

    def _store(self, node: fx.Node, scale: Scale) -> None:
        self.stored[node] = {scale: self._quantised(node, scale, node, node.next)}

    def _quantised(self, source: fx.Node, scale: Scale, like: fx.Node, before: fx.Node) -> fx.Node:
        made = self._call(
            decomposed.quantize_per_tensor.default, (source, *_facts(scale)), like, before
        )
        made.meta["val"] = like.meta["val"].to(torch.int8)
        return made

    def _back(self, integers: fx.Node, scale: Scale, like: fx.Node, before: fx.Node) -> fx.Node:
        args = (integers, *_facts(scale))
        return self._call(decomposed.dequantize_per_tensor.default, args, like, before)

    def _call(self, target: Any, args: Any, like: fx.Node, before: fx.Node) -> fx.Node:
        with self.graph.inserting_before(before):
            made: fx.Node = self.graph.call_function(target, args)
        made.meta["val"] = like.meta["val"]
        return made

    def _constant(self, name: str, tensor: Tensor) -> fx.Node:
        with self.graph.inserting_before(self.first_input):
            made: fx.Node = create_constant_placeholder(
                self.program, self.graph, name, InputKind.BUFFER, tensor.contiguous(), True
            )
        return made


def _facts(scale: Scale) -> tuple[object, ...]:
    return (scale.scale, scale.zero_point - SHIFT, *RANGE)
