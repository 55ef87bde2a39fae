"""Samplers by name: plain arguments in, an Optuna sampler out.

Constraints reach those that know them (tpe, nsga2, nsga3, gp) through the trials themselves.
The seed given to `build` is of one run of the driver, so that a resumed search draws anew yet
repeatably.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

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


class Sampler(Protocol):
    """Says how an Optuna sampler is made."""

    def build(self, seed: int) -> BaseSampler:
        """The sampler, drawing from this seed."""
        ...


def _at_least(what: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{what} cannot be {value}; valid: a whole number from {least}.")


@dataclass(frozen=True)
class Random:
    """Independent uniform draws."""

    def build(self, seed: int) -> BaseSampler:
        """Optuna's random sampler."""
        return RandomSampler(seed=seed)


@dataclass(frozen=True)
class Tpe:
    """Tree-structured Parzen estimators.

    Multivariate by default: knobs are drawn together around one good trial, and sixty of them cost
    one model an ask instead of sixty.
    """

    startup_trials: int = 10
    multivariate: bool = True
    candidates: int = 24

    def __post_init__(self) -> None:
        _at_least("sampler.startup_trials", self.startup_trials, 0)
        _at_least("sampler.candidates", self.candidates, 1)

    def build(self, seed: int) -> BaseSampler:
        """Optuna's TPE; trials in flight count as poor ones, so that workers spread out."""
        with _quiet():
            return TPESampler(
                seed=seed,
                n_startup_trials=self.startup_trials,
                n_ei_candidates=self.candidates,
                multivariate=self.multivariate,
                constant_liar=True,
            )


@dataclass(frozen=True)
class Nsga2:
    """The genetic algorithm with non-dominated sorting and crowding."""

    population: int = 20

    def __post_init__(self) -> None:
        _at_least("sampler.population", self.population, 2)

    def build(self, seed: int) -> BaseSampler:
        """Optuna's NSGA-II, into whose first generation enqueued trials count."""
        return _SeededNsga2(population_size=self.population, seed=seed)


@dataclass(frozen=True)
class Nsga3:
    """The genetic algorithm with reference directions, for many objectives."""

    population: int = 20

    def __post_init__(self) -> None:
        _at_least("sampler.population", self.population, 2)

    def build(self, seed: int) -> BaseSampler:
        """Optuna's NSGA-III, into whose first generation enqueued trials count."""
        with _quiet():
            return _SeededNsga3(population_size=self.population, seed=seed)


@dataclass(frozen=True)
class Gp:
    """Gaussian processes: fewest trials, dearest asks."""

    startup_trials: int = 10

    def __post_init__(self) -> None:
        _at_least("sampler.startup_trials", self.startup_trials, 1)

    def build(self, seed: int) -> BaseSampler:
        """Optuna's Gaussian-process sampler."""
        with _quiet():
            return GPSampler(
                seed=seed, n_startup_trials=self.startup_trials, warn_independent_sampling=False
            )


@dataclass(frozen=True)
class Qmc:
    """A scrambled quasi-random sequence: as blind as random, more even."""

    sequence: Literal["sobol", "halton"] = "sobol"

    def __post_init__(self) -> None:
        if self.sequence not in ("sobol", "halton"):
            raise UserError(f"sampler.sequence cannot be '{self.sequence}'; valid: sobol, halton.")

    def build(self, seed: int) -> BaseSampler:
        """Optuna's quasi-random sampler."""
        with _quiet():
            return QMCSampler(
                seed=seed, qmc_type=self.sequence, scramble=True, warn_independent_sampling=False
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


SAMPLERS: dict[str, type[Sampler]] = {
    "random": Random,
    "tpe": Tpe,
    "nsga2": Nsga2,
    "nsga3": Nsga3,
    "gp": Gp,
    "qmc": Qmc,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna calls what we rely on experimental; our users did not choose it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
