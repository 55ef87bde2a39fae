"""Channel pruning: the least important channels of a group are physically removed.

Everything that has to go with them (batch norms, the next layers' inputs, the other layers of
the group) is in the groups' plan. Every group is scored, and every repair computed, before
anything is cut; so the statistics are of the model as it stands before, and worth nothing after.
Where convolutions in groups demand it channels go in bundles, judged by the sum of their scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from compressors.calibration.statistics import Statistics
from compressors.errors import PolicyError
from compressors.modules import channels
from compressors.policies.policy_rules import kept_channels
from compressors.policies.steps import Prune
from compressors.pruning.criteria import importance, prepare
from compressors.pruning.members import sides
from compressors.pruning.plan import Plan, channel_plan, cut
from compressors.pruning.repair import fitted, put
from compressors.structures.bundles import Bundles, bundles


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
    wanted = {root: prune for root, prune in roots.items() if prune.channels > 0}
    if not wanted:
        return ()
    plan = channel_plan(model, example, wanted) if plan is None else plan
    together = {root: _bundles(model, plan, root) for root in wanted}
    surplus, notes = _surplus(model, wanted, together, original_counts or {}, done)
    if not surplus:
        return notes
    prepare(model, [(roots[root].criterion, plan[root]) for root in surplus], statistics)
    removed: dict[str, list[int]] = {}
    for root, count in surplus.items():
        criterion, total = roots[root].criterion, _count(model, root)
        scores, doubt = importance(model, plan[root], total, criterion, statistics)
        removed[root] = _least(scores, together[root], count)
        notes += (f"{root}: {doubt}",) if doubt else ()
    repaired = [root for root in surplus if roots[root].repair]
    fits, left = fitted(model, plan, removed, repaired, statistics)
    put(model, fits)
    cut(model, plan, removed)
    return (*notes, *left)


def _bundles(model: nn.Module, plan: Plan, root: str) -> Bundles:
    found = bundles(_count(model, root), sides(model, plan[root]))
    if found is None:
        raise PolicyError(
            f"prune cannot be given to '{root}': convolutions in groups that its channels pass"
            " cannot lose them alike once the policy's blocks and heads are gone; valid: one or"
            " the other."
        )
    return found


def _least(scores: Tensor, together: Bundles, count: int) -> list[int]:
    """So many channels, in whole bundles: those whose scores add up to the least."""
    sums = scores[torch.tensor(together)].sum(1)
    chosen = torch.argsort(sums, stable=True)[: count // len(together[0])].tolist()
    return sorted(channel for place in chosen for channel in together[place])


def _surplus(
    model: nn.Module,
    roots: Mapping[str, Prune],
    together: Mapping[str, Bundles],
    originals: Mapping[str, int],
    done: float,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many channels each group has to lose now, and notes on counts that were not asked for."""
    surplus, notes = {}, []
    for root, prune in roots.items():
        now, bundle = _count(model, root), len(together[root][0])
        original = originals.get(root, now)
        so_far = replace(prune, channels=prune.channels * done)
        kept = kept_channels(original, so_far, bundle)
        if kept < now:
            surplus[root] = now - kept
        as_asked = kept == kept_channels(original, so_far) < original
        if done == 1 and not as_asked:
            notes.append(f"{root}: {_instead(original, kept, prune, bundle)}")
    return surplus, tuple(notes)


def _instead(original: int, kept: int, prune: Prune, bundle: int) -> str:
    """What was done about a share that does not come to a count that can be."""
    count = f"all {original}" if kept == original else f"{kept} of {original}"
    wanted = f"{original * (1 - prune.channels):g}"
    if bundle == 1:
        return f"{count} channels kept, the nearest multiple of {prune.multiple} to {wanted}"
    multiple = lcm(prune.multiple, bundle)
    why = f"a convolution in groups loses {bundle} at once"
    return f"{count} channels kept, the nearest multiple of {multiple} to {wanted}, as {why}"


def _count(model: nn.Module, root: str) -> int:
    layer: Any = model.get_submodule(root)
    return channels(layer)[1]
