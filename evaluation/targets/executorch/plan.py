"""Which results of a float fx graph are kept as 8-bit integers, so that XNNPACK runs in integers.

The same idea as `evaluation.lowering.plan`, by XNNPACK's rules: an integer layer reads integers and
always writes integers (a ReLU behind it is part of it), and an addition, a pooling or a reshape
between integer tensors runs in integers when a quantised layer reads what comes of it. A result's
scale is that of the layer that reads it; else it is calibrated ("glue").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from evaluation.lowering.plan import Scale
from evaluation.targets.executorch.dynamic import DynamicLayer
from evaluation.targets.executorch.traced import operator, sole_user

RECTIFIERS = {"aten.relu.default", "aten.hardtanh.default"}
ADD, MEAN = "aten.add.Tensor", "aten.mean.dim"
SAME_SCALE = {"aten.max_pool2d.default", "aten.view_copy.default", "aten.permute_copy.default"}
OWN_SCALE = {ADD, MEAN}


@dataclass(frozen=True)
class IntegerLayer:
    """What a static integer layer computes with; the input's scale is the simulation's."""

    name: str
    weights: Tensor  # int8
    weight_scales: Tensor  # float32, one an output channel
    source: Scale


@dataclass
class Plan:
    """The integer layers and what lies between them, and the scales of what they write."""

    layers: Mapping[fx.Node, IntegerLayer]
    dynamic: Mapping[fx.Node, DynamicLayer] = field(default_factory=dict)  # between floats
    results: dict[fx.Node, fx.Node] = field(default_factory=dict)  # -> past an absorbed ReLU
    scales: dict[fx.Node, Scale] = field(default_factory=dict)  # by result
    glue: set[fx.Node] = field(default_factory=set)  # results whose scale must be calibrated


def plan(graph: fx.Graph, found: Mapping[fx.Node, IntegerLayer | DynamicLayer]) -> Plan:
    """Decide what is kept in integers."""
    layers = {node: layer for node, layer in found.items() if isinstance(layer, IntegerLayer)}
    dynamic = {node: layer for node, layer in found.items() if isinstance(layer, DynamicLayer)}
    made = Plan(layers, dynamic)
    wanted = _wanted(graph, layers)
    stored: set[object] = {node.args[0] for node in layers}
    for node in graph.nodes:
        if node in layers or _follows(node, stored, wanted):
            result = _past_rectifier(node)
            made.results[node] = result
            stored.add(result)
    for node, result in made.results.items():
        if operator(node) not in SAME_SCALE:
            _choose_scale(made, result)
    return made


def follow_scales(made: Plan) -> None:
    """Once glue is calibrated: what moves integers alone has its input's scale."""
    for node, result in made.results.items():
        if operator(node) in SAME_SCALE:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            made.scales[result] = stored_scale(made, source)


def stored_scale(made: Plan, tensor: fx.Node) -> Scale:
    """The scale of the integers that a tensor is kept in, or will be for the layer ahead."""
    if tensor in made.scales:
        return made.scales[tensor]
    found = [s for reader in tensor.users for s in _read_scales(made, reader, tensor)]
    return max(found, key=lambda scale: scale.scale)


def sources(node: fx.Node) -> list[fx.Node]:
    """The tensors that a node of ours computes with, constants left out."""
    args = node.args[: 2 if operator(node) == ADD else 1]
    return [arg for arg in args if isinstance(arg, fx.Node)]


def _follows(node: fx.Node, stored: set[object], wanted: set[fx.Node]) -> bool:
    if operator(node) not in SAME_SCALE | OWN_SCALE or not _float_result(node):
        return False
    if operator(node) == ADD and (len(sources(node)) != 2 or node.kwargs):
        return False
    return all(arg in stored for arg in sources(node)) and _past_rectifier(node) in wanted


def _float_result(node: fx.Node) -> bool:
    result = node.meta.get("val")
    return isinstance(result, Tensor) and result.dtype == torch.float32


def _past_rectifier(node: fx.Node) -> fx.Node:
    after = sole_user(node)
    absorbs = operator(node) not in SAME_SCALE and operator(node) != MEAN
    return after if absorbs and after is not None and operator(after) in RECTIFIERS else node


def _wanted(graph: fx.Graph, layers: Mapping[fx.Node, IntegerLayer]) -> set[fx.Node]:
    """Tensors that reach an integer layer through nothing but what integers can do."""
    wanted: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node in layers:
            wanted.update(arg for arg in node.args[:1] if isinstance(arg, fx.Node))
        elif operator(node) in SAME_SCALE | OWN_SCALE | RECTIFIERS and node in wanted:
            wanted.update(sources(node))
    return wanted


def _choose_scale(made: Plan, result: fx.Node) -> None:
    found = [s for reader in result.users for s in _read_scales(made, reader, result)]
    if found:
        made.scales[result] = max(found, key=lambda scale: scale.scale)
    else:
        made.glue.add(result)


def _read_scales(made: Plan, reader: fx.Node, tensor: fx.Node) -> list[Scale]:
    """The scales with which integer layers read a tensor, also through poolings and reshapes."""
    if reader in made.layers and reader.args[0] is tensor:
        return [made.layers[reader].source]
    if reader in made.results and operator(reader) in SAME_SCALE:
        after = made.results[reader]
        return [s for user in after.users for s in _read_scales(made, user, after)]
    return []
