"""Stopped trials reach a sampler with what they were expected to end with."""

from __future__ import annotations

import optuna
import pytest
from optuna import Study
from optuna.distributions import FloatDistribution
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.samplers.expecting import ExpectingSampler
from search.study import ledger

SPACE = {"x": FloatDistribution(0, 1)}


class Watching(RandomSampler):
    """Remembers which finished trials it was shown."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.shown: list[FrozenTrial] = []

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict) -> dict:
        self.shown = study.get_trials(states=(TrialState.COMPLETE,))
        assert study.trials == study.get_trials()
        assert study.directions  # all else is the study's own
        return super().sample_relative(study, trial, search_space)


def told(sampler: optuna.samplers.BaseSampler) -> Study:
    """A study of three trials: complete, stopped with an expectation, stopped without."""
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    for values, expected in (([0.5, 0.5], None), (None, [0.1, 0.2]), (None, None)):
        trial = study.ask(SPACE)
        if expected:
            trial.set_user_attr(ledger.EXPECTED, expected)
        study.tell(trial, values, TrialState.COMPLETE if values else TrialState.PRUNED)
    return study


def test_a_stopped_trial_is_shown_as_complete_where_anything_is_expected_of_it() -> None:
    inner = Watching()
    study = told(ExpectingSampler(inner))
    study.ask(SPACE)
    assert [(trial.number, trial.values) for trial in inner.shown] == [
        (0, [0.5, 0.5]),
        (1, [0.1, 0.2]),
    ]
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    assert states[:3] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]


@pytest.mark.parametrize("inner", [TPESampler, NSGAIISampler])
def test_without_stopped_trials_a_sampler_asks_what_it_always_asks(
    inner: type[optuna.samplers.BaseSampler],
) -> None:
    def asked(sampler: optuna.samplers.BaseSampler) -> list[float]:
        study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
        study.optimize(lambda t: (t.suggest_float("x", 0, 1), 1 - t.params["x"] ** 2), 25)
        return [trial.params["x"] for trial in study.trials]

    plain, wrapped = (inner(seed=1, **_few(inner)) for _ in range(2))
    assert asked(ExpectingSampler(wrapped)) == asked(plain)


def test_tpe_asks_near_what_promised_to_be_good() -> None:
    sampler = ExpectingSampler(TPESampler(seed=0, n_startup_trials=5))
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    for number in range(40):
        trial = study.ask(SPACE)
        x = trial.params["x"]
        if number % 4:
            trial.set_user_attr(ledger.EXPECTED, [abs(x - 0.2), abs(x - 0.2)])
            study.tell(trial, None, TrialState.PRUNED)
        else:
            study.tell(trial, [abs(x - 0.2), abs(x - 0.2)])
    late = [trial.params["x"] for trial in study.trials[-15:]]
    assert sum(abs(x - 0.2) < 0.15 for x in late) > 10


def _few(inner: type[optuna.samplers.BaseSampler]) -> dict[str, int]:
    return {"population_size": 5} if inner is NSGAIISampler else {"n_startup_trials": 5}
