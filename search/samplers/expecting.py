"""Stopped trials as samplers learn from them: with what they would have ended with.

A sampler of Optuna's takes a trial that was stopped for a poor one, though of proposals that are
all good most are stopped. What each was expected to end with is kept with it, and that is what the
sampler is shown.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any, cast

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.study import ledger


class ExpectingSampler(BaseSampler):
    """Another sampler, to whom stopped trials are complete."""

    def __init__(self, inner: BaseSampler) -> None:
        self._inner = inner
        self._known: dict[int, FrozenTrial] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The other's."""
        return self._inner.infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The other's choice."""
        return dict(self._inner.sample_relative(self._seen(study), trial, search_space))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The other's draw."""
        seen = self._seen(study)
        return self._inner.sample_independent(seen, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Let the other prepare."""
        self._inner.before_trial(self._seen(study), trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the other know."""
        self._inner.after_trial(self._seen(study), trial, state, values)

    def reseed_rng(self) -> None:
        """Draw otherwise."""
        self._inner.reseed_rng()

    def _seen(self, study: Study) -> Study:
        return cast("Study", _Expected(study, self._known))


class _Expected:
    """A study whose stopped trials are complete where it is known what was expected of them."""

    def __init__(self, study: Study, known: dict[int, FrozenTrial]) -> None:
        self._study = study
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy=False, use_cache=use_cache)
        seen = [self._as_complete(trial) for trial in trials]
        found = [trial for trial in seen if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _as_complete(self, trial: FrozenTrial) -> FrozenTrial:
        expected = trial.user_attrs.get(ledger.EXPECTED)
        if trial.state is not TrialState.PRUNED or expected is None:
            return trial
        if trial.number not in self._known:
            found = copy.copy(trial)
            found.state, found.values = TrialState.COMPLETE, list(expected)
            self._known[trial.number] = found
        return self._known[trial.number]
