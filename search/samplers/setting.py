"""What a sampler may be told when it is made, and what any sampler is made by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from optuna.samplers import BaseSampler

from compressors.errors import UserError
from evaluation.measurement import Metric
from search.space.space import Space
from search.study.ledger import Objective
from search.study.problem import Problem, stated


@dataclass(frozen=True)
class Setting:
    """A run of a search, as samplers see it.

    The seed is of one run, so that a resumed search draws anew yet repeatably.
    """

    seed: int
    space: Space
    objectives: tuple[Objective, ...]
    quality: Metric  # the task's own
    constraints: Mapping[str, float] = field(default_factory=dict)
    trials: int | None = None  # to be expected in all, where that is known

    def problem(self) -> Problem:
        """What the search by sensitivities is after."""
        own = Objective(self.quality.name, self.quality.unit, self.quality.direction)
        return stated(self.objectives, own, self.constraints)


class Sampler(Protocol):
    """Says how an Optuna sampler is made."""

    def build(self, setting: Setting) -> BaseSampler:
        """The sampler for a run of a search."""
        ...


def at_least(what: str, value: int, least: int) -> None:
    """Refuse a number that is too small."""
    if value < least:
        raise UserError(f"{what} cannot be {value}; valid: a whole number from {least}.")
