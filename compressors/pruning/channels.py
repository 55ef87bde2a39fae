"""Channel pruning: the least important channels of a group are physically removed.

Everything that has to go with them (batch norms, the next layers' inputs, the other layers of
the group) is in the groups' plan. Every group is scored, and every repair computed, before
anything is cut; so the statistics are of the model as it stands before, and worth nothing after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from compressors.calibration.statistics import Statistics
from compressors.modules import channels
from compressors.policies.policy_rules import kept_channels
from compressors.policies.steps import Prune
from compressors.pruning.criteria import importance, prepare
from compressors.pruning.plan import Plan, channel_plan, cut
from compressors.pruning.repair import fitted, put


def prune_channels(
    model: nn.Module,
    example: tuple[Tensor, ...],
    roots: Mapping[str, Prune],
    statistics: Statistics,
    original_counts: Mapping[str, int] | None = None,
    *,
    done: float = 1.0,
    plan: Plan | None = None,
) -> tuple[str, ...]:
    """Remove channels of the groups named by their roots, in place; notes on what was not.

    In rounds, shares are of the original counts and `done` is the part of the way to go by now.
    A plan made of an equal model saves finding out again what goes with what.
    """
    surplus, notes = _surplus(model, roots, original_counts or {}, done)
    if not surplus:
        return notes
    plan = channel_plan(model, example, surplus) if plan is None else plan
    prepare(model, [(roots[root].criterion, plan[root]) for root in surplus], statistics)
    removed: dict[str, list[int]] = {}
    for root, count in surplus.items():
        criterion, total = roots[root].criterion, _count(model, root)
        scores, doubt = importance(model, plan[root], total, criterion, statistics)
        removed[root] = sorted(torch.argsort(scores, stable=True)[:count].tolist())
        notes += (f"{root}: {doubt}",) if doubt else ()
    repaired = [root for root in surplus if roots[root].repair]
    fits, left = fitted(model, plan, removed, repaired, statistics)
    put(model, fits)
    cut(model, plan, removed)
    return (*notes, *left)


def _surplus(
    model: nn.Module, roots: Mapping[str, Prune], originals: Mapping[str, int], done: float
) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many channels each group has to lose now, and notes on groups that never lose any."""
    surplus, notes = {}, []
    for root, prune in roots.items():
        if prune.channels == 0:
            continue
        now = _count(model, root)
        original = originals.get(root, now)
        kept = kept_channels(original, replace(prune, channels=prune.channels * done))
        if kept < now:
            surplus[root] = now - kept
        elif kept == original and done == 1:
            wanted = f"{original * (1 - prune.channels):g}"
            nearest = f"the nearest multiple of {prune.multiple} to {wanted}"
            notes.append(f"{root}: all {original} channels kept, {nearest}")
    return surplus, tuple(notes)


def _count(model: nn.Module, root: str) -> int:
    layer: Any = model.get_submodule(root)
    return channels(layer)[1]
