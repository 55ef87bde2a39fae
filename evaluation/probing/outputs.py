"""Damage as it is: the outputs of compressed models beside those of the one they differ from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.data import Batch
from compressors.errors import PolicyError
from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.stack import Stack
from evaluation.probing.distances import distances
from evaluation.probing.probe import Finding, Probe
from evaluation.probing.samples import Answers, answers
from evaluation.task import OffersDistance, Task

UNCOMPRESSED = ("", policy_yaml.dump(Policy()))  # as probes write it
MOST_ROWS = 512  # whose changes are kept, of outputs with many positions; all are compared


def changes_of_outputs(
    stack: Stack,
    task: Task,
    policies: Sequence[Policy],
    around: Policy,
    batches: list[Batch],
    splits: float,
    on_step: Callable[[], None],
) -> Finding:
    """What each policy adds to the outputs, and how far they are then from the uncompressed ones.

    NaN where a policy cannot be taken by this model. `splits` is how much of the validation
    split the batches are.
    """
    reference = answers(_module(stack, Policy()), batches)
    base = reference if around == Policy() else answers(_module(stack, around), batches)
    shown = _shown(len(base.rows), max(MOST_ROWS, sum(len(b.targets) for b in batches)))
    damage = np.full(len(policies), np.nan)
    changes = np.full((len(policies), *base.rows[shown].shape), np.nan, dtype=base.rows.dtype)
    passes = 1 + (base is not reference)
    for index, policy in enumerate(policies):
        on_step()
        found = reference if policy == Policy() else _tried(stack, policy, batches)
        if found is None:
            continue
        passes += found is not reference
        damage[index] = distance(found, reference, task).mean()
        changes[index] = (found.rows - base.rows)[shown]
    return Finding(
        damage=damage,
        evaluations=passes * splits,
        changes=_narrow(changes),
        outputs=base.rows[shown],
        reference=reference.rows[shown],
        scores=base.scores,
    )


def most_passes(probe: Probe) -> int:
    """Forward passes that a probe of changes takes at most: of the uncompressed model one."""
    others = (probe.around, *probe.policies)
    return 1 + sum(text not in UNCOMPRESSED for text in others)


def distance(found: Answers, reference: Answers, task: Task) -> NDArray[np.float64]:
    """How far outputs are from the uncompressed model's: by the task's own measure, or by rows."""
    if isinstance(task, OffersDistance):
        pairs = zip(found.outputs, reference.outputs, strict=True)
        told = torch.cat([task.distance(ours, theirs).reshape(-1) for ours, theirs in pairs])
        return np.asarray(told.double().numpy())
    return distances(found.rows, reference.rows, scores=reference.scores)


def _tried(stack: Stack, policy: Policy, batches: list[Batch]) -> Answers | None:
    try:
        return answers(_module(stack, policy), batches)
    except PolicyError:
        return None


def _module(stack: Stack, policy: Policy) -> nn.Module:
    return stack.apply(policy).module.eval()


def _shown(rows: int, most: int) -> NDArray[np.intp]:
    """So many rows at most, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.intp))


def _narrow(changes: NDArray[Any]) -> NDArray[Any]:
    """In half precision where all of it fits."""
    largest = np.abs(changes[np.isfinite(changes)]).max(initial=0.0)
    fits = largest < np.finfo(np.float16).max
    return changes.astype(np.float16) if fits else changes
