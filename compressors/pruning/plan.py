"""Everything that has to go with the channels of a group: which part of which module, by index.

Found once with Torch-Pruning's dependency graph and kept as names and index lists, so that a plan
serves every copy of the model that it was made of, as long as nothing else was cut from the copy.
Knows nothing of which channels matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressors.errors import PolicyError, choices
from compressors.structures.channel_groups import Graph, dependency_graph, group_of
from compressors.structures.tracing import BEYOND


@dataclass(frozen=True)
class Part:
    """One side of a module (or a bare parameter) that loses indices with channels of the root."""

    name: str
    handler: Any  # Torch-Pruning's function that removes them
    dimension: int
    bare: bool  # a parameter that no module of its own holds
    indices: tuple[int, ...]
    channels: tuple[int, ...]  # of the root, index by index

    @property
    def reads(self) -> bool:
        """Whether the indices are inputs alone: a layer that reads the channels."""
        return bool(self.handler.__name__ == "prune_in_channels")

    def by_channel(self) -> list[list[int]]:
        """The places among the indices that go together, channel by channel."""
        places: dict[int, list[int]] = {}
        for place, channel in enumerate(self.channels):
            places.setdefault(channel, []).append(place)
        return list(places.values())

    def of(self, channels: Iterable[int]) -> set[int]:
        """The indices that go with some of the root's channels."""
        gone = set(channels)
        pairs = zip(self.indices, self.channels, strict=True)
        return {index for index, channel in pairs if channel in gone}


Plan = Mapping[str, tuple[Part, ...]]  # by the group's root


def channel_plan(
    model: nn.Module, example: tuple[Tensor, ...], roots: Iterable[str]
) -> dict[str, tuple[Part, ...]]:
    """The parts of the groups that these layers are the roots of."""
    names: dict[Any, str] = {module: name for name, module in model.named_modules()}
    names.update({parameter: name for name, parameter in model.named_parameters()})
    wanted = list(roots)
    try:
        with dependency_graph(model, example) as graph:
            return {root: _parts(graph, model.get_submodule(root), names) for root in wanted}
    except BEYOND as error:
        raise PolicyError(
            f"prune cannot be given to {choices(wanted)}: what goes with their channels cannot be"
            " found once the policy's blocks and heads are gone; valid: one or the other."
        ) from error


def _parts(graph: Graph, root: nn.Module, names: Mapping[Any, str]) -> tuple[Part, ...]:
    parts = []
    for item in group_of(graph, root):
        target, handler = item.dep.target, item.dep.handler
        if target.module not in names:  # a function between modules
            continue
        if any(channel is None for channel in item.root_idxs):
            raise ValueError(f"{names[root]}: what goes with which channel is not known")
        parts.append(
            Part(
                name=names[target.module],
                handler=handler,
                dimension=target.pruning_dim,
                bare=isinstance(target.module, nn.Parameter),
                indices=tuple(item.idxs),
                channels=tuple(item.root_idxs),
            )
        )
    return tuple(parts)


@torch.no_grad()
def cut(model: nn.Module, plan: Plan, removed: Mapping[str, Iterable[int]]) -> None:
    """Remove channels of roots, and all that goes with them, in place."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    losses: dict[tuple[str, Any], tuple[Part, set[int]]] = {}
    for root, channels in removed.items():
        gone = set(channels)
        for part in plan[root]:
            _, indices = losses.setdefault((part.name, part.handler), (part, set()))
            indices |= part.of(gone)
    for part, indices in losses.values():
        _lose(model, part, sorted(indices))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def _lose(model: nn.Module, part: Part, indices: list[int]) -> None:
    parent, _, last = part.name.rpartition(".")
    owner = model.get_submodule(parent)
    target = getattr(owner, last)
    part.handler.__self__.pruning_dim = part.dimension
    result = part.handler(target, indices)
    if isinstance(target, nn.Parameter):
        setattr(owner, last, result)
