"""Another sampler's start: the first trials are the sensitivities', then it goes on by itself.

Its own hooks run on every trial, seeds too, so that they count as its own: NSGA-II's generations,
TPE's start-up trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from compressors.errors import UserError
from evaluation.probing.probe import Finding, Probe
from search.samplers.setting import Setting, at_least
from search.sensitivity.sampler import SensitivitySampler
from search.study import ledger

SENSITIVITY = "sensitivity"


def check_seeds(seed_from: str | None, seeds: int) -> None:
    """Refuse a start that there is not."""
    if seed_from not in (None, SENSITIVITY):
        raise UserError(f"sampler.seed_from cannot be '{seed_from}'; valid: {SENSITIVITY}, null.")
    at_least("sampler.seeds", seeds, 1)


def seeded(
    sampler: BaseSampler, setting: Setting, seed_from: str | None, seeds: int
) -> BaseSampler:
    """The sampler, after so many trials of another where one is named."""
    if seed_from is None:
        return sampler
    problem = setting.problem()
    first = SensitivitySampler(setting.space, problem, seed=setting.seed)
    return SeededSampler(first, sampler, seeds)


class SeededSampler(BaseSampler):
    """The first sampler's trials up to a number of them, then the second's."""

    def __init__(self, first: SensitivitySampler, then: BaseSampler, seeds: int) -> None:
        self._first = first
        self._then = then
        self._seeds = seeds

    def wants(self, study: Study) -> Sequence[Probe]:
        """What the first wants to know, while it is its turn."""
        return self._first.wants(study) if self._seeding(study) else ()

    def learn(self, probe: Probe, finding: Finding | None) -> None:
        """Tell the first."""
        self._first.learn(probe, finding)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """That of the sampler whose turn it is."""
        return self._turn(study).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the sampler whose turn it is asks for."""
        return dict(self._turn(study).sample_relative(study, trial, search_space))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The second's draw."""
        return self._then.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Let the second count the trial as its own."""
        self._then.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the second know of every trial."""
        self._then.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Both draw otherwise."""
        self._first.reseed_rng()
        self._then.reseed_rng()

    def _turn(self, study: Study) -> BaseSampler:
        return self._first if self._seeding(study) else self._then

    def _seeding(self, study: Study) -> bool:
        trials = study.get_trials(deepcopy=False)
        return sum(ledger.PHASE in trial.user_attrs for trial in trials) < self._seeds
