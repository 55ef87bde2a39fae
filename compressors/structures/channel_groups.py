"""Which layers' output channels live and die together, through Torch-Pruning's dependency graph.

A group is listed only when its channels can really be removed: all of its layers have as many as
its root, none of them is a model output, nothing that writes or reads them has tied weights, and a
trial removal on a copy leaves the outputs' shapes as they were. Where a convolution in groups
writes or reads them they go in bundles, and have to arrive where the graph says that they do.
Knows nothing of which channels matter.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn

from compressors.modules import (
    Layered,
    as_layer,
    channels,
    device_of,
    eval_mode,
    moved,
    own_parameters,
    tied_parameters,
)
from compressors.structures.bundles import Bundles, Side, bundles, in_groups, is_depthwise
from compressors.structures.channel_paths import astray
from compressors.structures.structure import ChannelGroup
from compressors.structures.tracing import BEYOND, output_shapes, tensors_in

Graph = Any  # torch_pruning.DependencyGraph, which has no types
Group = Any  # torch_pruning.Group


class _Graph(tp.DependencyGraph):  # type: ignore[misc]
    """Torch-Pruning takes any convolution of as many groups as outputs for a depthwise one."""

    def get_pruner_of_module(self, module: nn.Module) -> Any:
        """Whose functions remove the module's channels."""
        if in_groups(module) and not is_depthwise(module):
            return self.REGISTERED_PRUNERS[tp.ops.OPTYPE.CONV]
        return super().get_pruner_of_module(module)


@contextmanager
def dependency_graph(model: nn.Module, example_args: tuple[Tensor, ...]) -> Iterator[Graph]:
    """The model's dependency graph; parameters take gradients while it is in use."""
    frozen = {name for name, p in _every_parameter(model) if not p.requires_grad}
    args = moved(example_args, device_of(model))
    with eval_mode(model), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.requires_grad_(True)
        try:
            yield _Graph().build_dependency(
                model, args, output_transform=_differentiable, verbose=False
            )
        finally:
            for name, parameter in _every_parameter(model):
                parameter.requires_grad_(name not in frozen)


def _differentiable(outputs: Any) -> list[Tensor]:
    """Of what a model returns, the tensors that were computed with its weights."""
    return [tensor for tensor in tensors_in(outputs) if tensor.grad_fn is not None]


def _every_parameter(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters at every path that leads to them: cutting may part the tied ones."""
    return model.named_parameters(remove_duplicate=False)


def group_of(graph: Graph, layer: nn.Module, which: list[int] | None = None) -> Group:
    """Everything that has to go with some (or all) of a layer's output channels."""
    pruner = graph.get_pruner_of_module(layer)
    indices = list(range(pruner.get_out_channels(layer))) if which is None else which
    return graph.get_pruning_group(layer, pruner.prune_out_channels, indices)


def channel_groups(
    model: nn.Module, example_args: tuple[Tensor, ...], layers: list[str]
) -> tuple[ChannelGroup, ...]:
    """The groups among these layers, which are named in the order in which they run."""
    refused: set[str] = set()
    while True:
        copy = deepcopy(model)
        try:
            with dependency_graph(copy, example_args) as graph:
                groups = _candidates(copy, graph, layers, refused)
                broken = _astray(copy, graph, example_args, groups)
                broken = broken or _first_that_breaks(copy, graph, example_args, groups)
        except BEYOND:  # a model that Torch-Pruning cannot trace has no groups
            return ()
        if not broken:
            return groups
        refused |= broken


def _candidates(
    model: nn.Module, graph: Graph, layers: list[str], refused: set[str]
) -> tuple[ChannelGroup, ...]:
    listed = []
    tied = tied_parameters(model)
    seen: set[str] = set()
    for name in layers:
        module = model.get_submodule(name)
        if name in seen or module not in graph.module2node:
            continue
        found, readers = _members(model, graph, module)
        seen.update(found)
        members = tuple(layer for layer in layers if layer in found)
        if name in refused or set(members) != found:
            continue
        together = _bundles(graph, module)
        if len(together) > 1 and _prunable(model, graph, name, found, tied):
            count = channels(_layer(model, name))[1]
            listed.append(ChannelGroup(name, count, members, readers, len(together[0])))
    return tuple(listed)


def _layer(model: nn.Module, name: str) -> Layered:
    return as_layer(model.get_submodule(name))


def _outputs(graph: Graph, group: Group) -> Iterator[tuple[Any, list[int]]]:
    """The nodes of a group that lose output channels, with which."""
    for dependency, indices in group:
        if graph.is_out_channel_pruning_fn(dependency.handler):
            yield dependency.target, indices


def _members(model: nn.Module, graph: Graph, root: nn.Module) -> tuple[set[str], tuple[str, ...]]:
    """The layers whose outputs go with the root's, and those that lose inputs alone."""
    names = {module: name for name, module in model.named_modules() if _has_channels(module)}
    group = group_of(graph, root)
    writers = {names[node.module] for node, _ in _outputs(graph, group) if node.module in names}
    touched = [names[dep.target.module] for dep, _ in group if dep.target.module in names]
    readers = dict.fromkeys(name for name in touched if name not in writers)
    return writers, tuple(sorted(readers, key=list(names.values()).index))


def _has_channels(module: nn.Module) -> bool:
    """Whether a module makes channels of its own, so that a group that it is in must name it."""
    return isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding, nn.RNNBase))


def sides(group: Group) -> list[Side]:
    """The modules of a group, with what each of them loses and with which of the root's."""
    return [
        Side(
            item.dep.target.module,
            item.dep.handler.__name__ == "prune_in_channels",
            item.idxs,
            item.root_idxs,
        )
        for item in group
        if isinstance(item.dep.target.module, nn.Module)
    ]


def _bundles(graph: Graph, root: nn.Module) -> Bundles:
    """The root's channels by what has to go together; none where they cannot go."""
    count = channels(as_layer(root))[1]
    return bundles(count, sides(group_of(graph, root))) or ()


def _prunable(model: nn.Module, graph: Graph, root: str, members: set[str], tied: set[int]) -> bool:
    count = channels(_layer(model, root))[1]
    group = group_of(graph, _layer(model, root))
    if count < 2 or any(not node.outputs for node, _ in _outputs(graph, group)):
        return False
    if any(own_parameters(dependency.target.module) & tied for dependency, _ in group):
        return False
    for name in members:
        if channels(_layer(model, name))[1] != count:
            return False
    by_module = {node.module: indices for node, indices in _outputs(graph, group)}
    return all(len(by_module[_layer(model, name)]) == count for name in members)


def _astray(
    model: nn.Module,
    graph: Graph,
    example_args: tuple[Tensor, ...],
    groups: tuple[ChannelGroup, ...],
) -> set[str]:
    """The roots of bundles whose channels do not arrive where the graph says."""
    roots = [group.root for group in groups if group.bundle > 1]
    found = {root: sides(group_of(graph, model.get_submodule(root))) for root in roots}
    return astray(model, moved(example_args, device_of(model)), found)


def _first_that_breaks(
    model: nn.Module,
    graph: Graph,
    example_args: tuple[Tensor, ...],
    groups: tuple[ChannelGroup, ...],
) -> set[str]:
    """Remove one bundle of each group in turn; the root of the first that cannot lose one."""
    args = moved(example_args, device_of(model))
    expected = output_shapes(model, args)
    for group in groups:
        root = model.get_submodule(group.root)
        try:
            bundle = _bundles(graph, root)[0] if group.bundle > 1 else [0]
            group_of(graph, root, list(bundle)).prune()
            if output_shapes(model, args) != expected:
                return {group.root}
        except BEYOND:
            return {group.root}
    return set()
