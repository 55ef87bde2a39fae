"""From what a policy asks for to a rank: a share, kept energy, or a number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compressors.policies.policy_rules import rank_of
from compressors.policies.steps import LowRank

ROUNDING = 1e-12  # relative; what sums of squares may be off


def needs_values(step: LowRank) -> bool:
    """Whether the rank depends on the singular values."""
    return step.energy is not None


def chosen_rank(step: LowRank, full: int, values: Callable[[], Tensor]) -> int:
    """The rank that a step comes to, between 1 and the full one."""
    if step.energy is not None:
        return rank_with_energy(values(), step.energy)
    if step.rank is not None:
        return min(step.rank, full)
    return rank_of(full, 1.0 if step.ratio is None else step.ratio)


def rank_with_energy(values: Tensor, energy: float) -> int:
    """The smallest rank whose squared singular values sum to that share of all of them."""
    sums = values.double().square().cumsum(0)
    enough = sums >= energy * sums[-1] * (1 - ROUNDING)
    return int(torch.nonzero(enough)[0]) + 1
