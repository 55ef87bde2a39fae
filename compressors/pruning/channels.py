"""Channel pruning: the least important channels of a group are physically removed.

Everything that has to go with them (batch norms, the next layers' inputs, the other layers of
the group) goes through Torch-Pruning's dependency graph. Importance is the group's mean norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn

from compressors.modules import channels
from compressors.policies.policy_rules import kept_channels
from compressors.policies.steps import Criterion, Prune
from compressors.structures.channel_groups import dependency_graph, group_of

_NORMS: dict[Criterion, int] = {"l1": 1, "l2": 2}


def prune_channels(
    model: nn.Module, example: tuple[Tensor, ...], roots: Mapping[str, Prune]
) -> tuple[str, ...]:
    """Remove channels of the groups named by their roots, in place; notes on what was not."""
    wanted = {name: prune for name, prune in roots.items() if prune.channels > 0}
    if not wanted:
        return ()
    notes = []
    with dependency_graph(model, example) as graph:
        for name, prune in wanted.items():
            layer = model.get_submodule(name)
            assert isinstance(layer, (nn.Conv2d, nn.Linear))
            count = channels(layer)[1]
            kept = kept_channels(count, prune)
            if kept == count:
                near = (
                    f"the nearest multiple of {prune.multiple} to {count * (1 - prune.channels):g}"
                )
                notes.append(f"{name}: all {count} channels kept, {near}")
                continue
            importance = tp.importance.GroupMagnitudeImportance(p=_NORMS[prune.criterion])
            scores = importance(group_of(graph, layer))
            least = torch.argsort(scores, stable=True)[: count - kept]
            group_of(graph, layer, sorted(least.tolist())).prune()
    return tuple(notes)
