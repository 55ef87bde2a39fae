"""Optuna's own samplers: plain arguments in, an Optuna sampler out.

Constraints reach those that know them (tpe, nsga2, nsga3, gp) through the trials themselves, and
what stopped trials were expected to end with.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial

from compressors.errors import UserError
from search.samplers.expecting import ExpectingSampler
from search.samplers.seeding import check_seeds, seeded
from search.samplers.setting import Setting, at_least


@dataclass(frozen=True)
class Random:
    """Independent uniform draws."""

    def build(self, setting: Setting) -> BaseSampler:
        """Optuna's random sampler."""
        return RandomSampler(seed=setting.seed)


@dataclass(frozen=True)
class Tpe:
    """Tree-structured Parzen estimators.

    Multivariate by default: knobs are drawn together around one good trial, and sixty of them cost
    one model an ask instead of sixty.
    """

    startup_trials: int = 10
    multivariate: bool = True
    candidates: int = 24
    seed_from: str | None = None  # sensitivity: the first trials are that sampler's
    seeds: int = 20

    def __post_init__(self) -> None:
        at_least("sampler.startup_trials", self.startup_trials, 0)
        at_least("sampler.candidates", self.candidates, 1)
        check_seeds(self.seed_from, self.seeds)

    def build(self, setting: Setting) -> BaseSampler:
        """Optuna's TPE; trials in flight count as poor ones, so that workers spread out."""
        with _quiet():
            sampler = TPESampler(
                seed=setting.seed,
                n_startup_trials=self.startup_trials,
                n_ei_candidates=self.candidates,
                multivariate=self.multivariate,
                constant_liar=True,
            )
        return seeded(ExpectingSampler(sampler), setting, self.seed_from, self.seeds)


@dataclass(frozen=True)
class Nsga2:
    """The genetic algorithm with non-dominated sorting and crowding."""

    population: int = 20
    seed_from: str | None = None  # sensitivity: the first trials are that sampler's
    seeds: int = 20

    def __post_init__(self) -> None:
        at_least("sampler.population", self.population, 2)
        check_seeds(self.seed_from, self.seeds)

    def build(self, setting: Setting) -> BaseSampler:
        """Optuna's NSGA-II, into whose first generation enqueued trials and seeds count."""
        sampler = _SeededNsga2(population_size=self.population, seed=setting.seed)
        return seeded(ExpectingSampler(sampler), setting, self.seed_from, self.seeds)


@dataclass(frozen=True)
class Nsga3:
    """The genetic algorithm with reference directions, for many objectives."""

    population: int = 20

    def __post_init__(self) -> None:
        at_least("sampler.population", self.population, 2)

    def build(self, setting: Setting) -> BaseSampler:
        """Optuna's NSGA-III, into whose first generation enqueued trials count."""
        with _quiet():
            sampler = _SeededNsga3(population_size=self.population, seed=setting.seed)
        return ExpectingSampler(sampler)


@dataclass(frozen=True)
class Gp:
    """Gaussian processes: fewest trials, dearest asks."""

    startup_trials: int = 10

    def __post_init__(self) -> None:
        at_least("sampler.startup_trials", self.startup_trials, 1)

    def build(self, setting: Setting) -> BaseSampler:
        """Optuna's Gaussian-process sampler."""
        with _quiet():
            sampler = GPSampler(
                seed=setting.seed,
                n_startup_trials=self.startup_trials,
                warn_independent_sampling=False,
            )
        return ExpectingSampler(sampler)


@dataclass(frozen=True)
class Qmc:
    """A scrambled quasi-random sequence: as blind as random, more even."""

    sequence: Literal["sobol", "halton"] = "sobol"

    def __post_init__(self) -> None:
        if self.sequence not in ("sobol", "halton"):
            raise UserError(f"sampler.sequence cannot be '{self.sequence}'; valid: sobol, halton.")

    def build(self, setting: Setting) -> BaseSampler:
        """Optuna's quasi-random sampler."""
        with _quiet():
            return QMCSampler(
                seed=setting.seed,
                qmc_type=self.sequence,
                scramble=True,
                warn_independent_sampling=False,
            )


class _SeededNsga2(NSGAIISampler):
    """Gives enqueued trials, which Optuna leaves out, their place in a generation."""

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)


class _SeededNsga3(NSGAIIISampler):
    """Gives enqueued trials, which Optuna leaves out, their place in a generation."""

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna calls what we rely on experimental; our users did not choose it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
