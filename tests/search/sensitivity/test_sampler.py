"""The sampler in studies that know nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest

from search.sensitivity import brain
from search.sensitivity.genetic import evolve
from search.sensitivity.past import EPOCHS
from search.sensitivity.plan import Phases
from search.sensitivity.sampler import SensitivitySampler
from search.study.ledger import EXPECTED, MEASUREMENT, PHASE, PREDICTED, RUNGS
from search.study.problem import stated
from tests.search.sensitivity.synthetic import (
    OBJECTIVES,
    Network,
    go_on,
    hypervolume,
    measured,
    problem,
    run,
)

optuna.logging.set_verbosity(optuna.logging.WARNING)
NETWORK = Network(10)
SHORT = Phases(hull=5, offline=3, explore=0.2)


@pytest.fixture(autouse=True)
def _few_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The genetic search has a test of its own."""
    monkeypatch.setattr(brain, "evolve", partial(evolve, generations=12))


def sampler(network: Network = NETWORK, seed: int = 0, **changes: Any) -> SensitivitySampler:
    arguments: dict[str, Any] = {"seed": seed, "phases": SHORT, "prober": network.prober()}
    given = {**arguments, **changes}
    return SensitivitySampler(network.space, given.pop("problem", problem()), **given)


def settings_of(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


def test_a_few_trials_beat_hundreds_drawn_at_random() -> None:
    _, mine = run(NETWORK, sampler(), 20)
    _, drawn = run(NETWORK, optuna.samplers.RandomSampler(seed=0), 300)
    assert hypervolume(NETWORK, mine) > hypervolume(NETWORK, drawn) + 0.03


def test_same_seed_same_trials_and_no_network_twice() -> None:
    studies = [run(NETWORK, sampler(seed=3), 16)[0] for _ in range(2)]
    assert settings_of(studies[0]) == settings_of(studies[1])
    assert len({tuple(params.values()) for params in settings_of(studies[0])}) == 16


def test_a_new_sampler_goes_on_where_another_stopped() -> None:
    through = run(NETWORK, sampler(), 14)[0]
    begun = run(NETWORK, sampler(), 9)[0]
    begun.sampler = sampler()
    go_on(NETWORK, begun, 5)
    assert settings_of(begun)[:9] == settings_of(through)[:9]
    assert [t.user_attrs[PHASE] for t in begun.trials] == [
        t.user_attrs[PHASE] for t in through.trials
    ]
    assert settings_of(begun) == settings_of(through)


def test_phases_follow_each_other_and_predictions_come_near() -> None:
    study, values = run(NETWORK, sampler(), 24)
    phases = [trial.user_attrs[PHASE] for trial in study.trials]
    assert phases[:5] == ["hull"] * 5
    assert phases[5:8] == ["offline"] * 3
    assert set(phases[8:]) == {"refine", "explore"}
    late = study.trials[8:]
    sizes = np.array([trial.user_attrs[PREDICTED]["size_bytes"] for trial in late])
    assert sizes == pytest.approx(values[8:, 1], rel=0.02)
    errors = np.array([trial.user_attrs[PREDICTED]["error"] for trial in late])
    assert np.median(np.abs(errors - values[8:, 0])) < 0.1


def test_a_study_that_says_nothing_of_the_uncompressed_model_will_do() -> None:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler())
    go_on(NETWORK, study, 20)
    values = measured(study)
    late = [trial.user_attrs[PREDICTED]["size_bytes"] for trial in study.trials[8:]]
    assert np.array(late) == pytest.approx(values[8:, 1], rel=0.05)
    _, drawn = run(NETWORK, optuna.samplers.RandomSampler(seed=0), 200)
    assert hypervolume(NETWORK, values) > hypervolume(NETWORK, drawn)


@pytest.mark.parametrize("workers", [4, 12])
def test_many_workers_are_given_different_settings(workers: int) -> None:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler())
    study.set_user_attr("reference", NETWORK.reference())
    for _ in range(3):
        trials = [study.ask(NETWORK.space.distributions()) for _ in range(workers)]
        assert len({tuple(trial.params.values()) for trial in trials}) == workers
        for trial in trials:
            study.tell(trial, NETWORK.values(trial.params))
    assert len({tuple(params.values()) for params in settings_of(study)}) == 3 * workers


def test_enqueued_and_failed_trials_are_lived_with() -> None:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler())
    first = {knob.name: knob.first for knob in NETWORK.space.knobs}
    study.enqueue_trial(first)
    for number in range(10):
        trial = study.ask(NETWORK.space.distributions())
        assert (trial.params == first) == (number == 0)
        if number == 3:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, NETWORK.values(trial.params))
    assert PHASE not in study.trials[0].user_attrs
    assert len({tuple(params.values()) for params in settings_of(study)}) == 10


Values = dict[str, float]


def off_by(epochs: int, **kept: Callable[[Values, Values], object]) -> float:
    """How far predictions after so many epochs are off where others were stopped untrained.

    `kept` are attributes of theirs, from what they had measured and would have measured in the end.
    """
    network = Network(10, epochs=(0, 8))
    mine = sampler(network)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=mine)
    study.set_user_attr("reference", network.reference())
    go_on(network, study, 6)
    random = optuna.samplers.RandomSampler(seed=1)
    study.sampler = random
    names = ("error", "size_bytes")
    for _ in range(20):
        trial = study.ask(network.space.distributions())
        settings = ({**trial.params, EPOCHS: 0}, trial.params)
        untrained, ended = (dict(zip(names, network.values(s), strict=True)) for s in settings)
        for key, made in kept.items():
            trial.set_user_attr(key, made(untrained, ended))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    view = mine.view(study)
    fresh = np.unique(mine._coding.draw(np.random.default_rng(2), 60), axis=0)
    settings = mine._coding.settings(fresh)
    priced = view.forecast.priced(settings)
    trained = np.full(len(fresh), float(epochs))
    expected = view.forecast.losses(settings, trained, priced)[:, 2, 0]
    found = [network.values({**mine._coding.params(row), EPOCHS: epochs})[0] for row in fresh]
    return float(np.abs(expected - np.array(found)).mean())


def then(untrained: Values, ended: Values) -> list[dict[str, object]]:
    del ended
    return [{"name": name, "value": value} for name, value in untrained.items()]


def rungs(untrained: Values, ended: Values) -> list[dict[str, object]]:
    return [{"epochs": 0, "measurement": then(untrained, ended)}]


def in_the_end(untrained: Values, ended: Values) -> list[float]:
    del untrained
    return list(ended.values())


def test_of_stopped_trials_it_learns_what_they_measured_as_far_as_they_were_trained() -> None:
    without = off_by(0, **{MEASUREMENT: then})
    assert off_by(0, **{MEASUREMENT: then, RUNGS: rungs}) < 0.7 * without


def test_of_stopped_trials_it_learns_what_they_were_expected_to_end_with() -> None:
    assert off_by(8, **{EXPECTED: in_the_end}) < 0.7 * off_by(8)


def test_without_findings_it_searches_all_the_same() -> None:
    lost = sampler(prober=None)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=lost)
    study.set_user_attr("reference", NETWORK.reference())
    while probes := lost.wants(study):
        for probe in probes:
            lost.learn(probe, None)
    go_on(NETWORK, study, 14)
    _, drawn = run(NETWORK, optuna.samplers.RandomSampler(seed=0), 14)
    assert hypervolume(NETWORK, measured(study)) > hypervolume(NETWORK, drawn)


def test_bounds_draw_the_search_to_themselves() -> None:
    bound = {"error_drop": 0.03}
    bounded = sampler(problem=problem(constraints=bound, reference_point=None))
    _, values = run(NETWORK, bounded, 30)
    allowed = values[values[:, 0] <= 0.04]
    genetic = optuna.samplers.NSGAIISampler(seed=0, population_size=20)
    _, drawn = run(NETWORK, genetic, 200)
    best_drawn = drawn[drawn[:, 0] <= 0.04, 1].min(initial=np.inf)
    assert len(allowed) >= 8
    assert allowed[:, 1].min() < best_drawn


def test_what_breaks_the_bound_of_quality_tells_where_the_front_ends() -> None:
    """A trial beyond it is told as one that breaks a constraint, and bisection goes on."""
    bounded = sampler(problem=problem(constraints={"error_drop": 0.03}, reference_point=None))
    study = optuna.create_study(directions=["minimize"] * 2, sampler=bounded)
    study.set_user_attr("reference", NETWORK.reference())
    for _ in range(16):
        trial = study.ask(NETWORK.space.distributions())
        values = NETWORK.values(trial.params)
        trial.set_constraint("error_drop", values[0] - 0.04)
        study.tell(trial, values)
    phases = [trial.user_attrs[PHASE] for trial in study.trials]
    assert phases[:5] == ["hull"] * 5
    assert phases[5:8] == ["offline"] * 3
    values = measured(study)[:8]
    allowed = values[values[:, 0] <= 0.04]
    assert allowed[:, 1].min() < 0.2 * NETWORK.float_bytes  # and not the dearest of all


def smallest_within(bound: float, asked: optuna.samplers.BaseSampler, trials: int) -> float:
    """The fewest bytes found where error is bounded and bytes are all that is sought."""
    study = optuna.create_study(direction="minimize", sampler=asked)
    study.set_user_attr("reference", NETWORK.reference())
    for _ in range(trials):
        trial = study.ask(NETWORK.space.distributions())
        error, size = NETWORK.values(trial.params)
        trial.set_user_attr(MEASUREMENT, [{"name": "error", "value": error}])
        trial.set_constraint("error_drop", error - 0.01 - bound)
        study.tell(trial, size)
    allowed = [t.value for t in study.trials if max(t.constraints.values()) <= 0]
    return min((value for value in allowed if value is not None), default=np.inf)


@pytest.mark.parametrize("bound", [0.005, 0.03])
def test_a_quality_that_is_only_bounded_is_kept_in_view(bound: float) -> None:
    size, error = OBJECTIVES[1], OBJECTIVES[0]
    found = smallest_within(
        bound, sampler(problem=stated([size], error, {"error_drop": bound})), 30
    )
    genetic = optuna.samplers.NSGAIISampler(seed=0, population_size=20)
    assert found < smallest_within(bound, genetic, 200)
    assert stated(OBJECTIVES, error, {"error_drop": bound}).names == ("error", "size_bytes")
    assert stated([size], error, {"size_bytes": 9.0}).names == ("size_bytes",)


@pytest.mark.parametrize("bound", [{}, {"size_bytes": 0.15 * NETWORK.float_bytes}])
def test_quality_alone_is_searched_too(bound: dict[str, float]) -> None:
    network = Network(10, epochs=(0, 4))
    alone = replace(problem(constraints=bound), objectives=OBJECTIVES[:1], reference_point=None)
    phases = Phases(hull=3, offline=2, explore=0.2, recover=0.4)
    study = optuna.create_study(
        direction="minimize", sampler=sampler(network, problem=alone, phases=phases)
    )
    study.set_user_attr("reference", network.reference())
    for _ in range(24):
        trial = study.ask(network.space.distributions())
        error, size = network.values(trial.params)
        trial.set_user_attr(MEASUREMENT, [{"name": "size_bytes", "value": size}])
        for name, most in bound.items():
            trial.set_constraint(name, size - most)
        study.tell(trial, error)
    assert len({tuple(params.values()) for params in settings_of(study)}) == 24
    allowed = [t.value for t in study.trials if max(t.constraints.values(), default=0) <= 0]
    assert len(allowed) >= 5
    assert min(value for value in allowed if value is not None) < 0.1


def test_training_that_cannot_be_left_out_is_counted_and_its_knobs_are_searched() -> None:
    network = Network(8, epochs=(6,))
    study, _ = run(network, sampler(network), 24)
    assert EPOCHS not in study.trials[0].params
    past = study.sampler.view(study).past  # type: ignore[attr-defined]
    assert (past.epochs == 6).all()
    rows = {row.tobytes() for row in past.rows}
    assert len(rows) == 24  # none twice with another learning rate
    rates = [trial.params["recovery/learning_rate"] for trial in study.trials]
    assert len(set(rates[:8])) == 1
    assert len(set(rates[8:])) > 4


def test_training_is_spent_late_and_pays() -> None:
    network = Network(8, epochs=(0, 2, 6))
    study, values = run(network, sampler(network), 30)
    epochs = np.array([trial.params["recovery/epochs"] for trial in study.trials])
    phases = [trial.user_attrs[PHASE] for trial in study.trials]
    assert (epochs[:8] == 0).all()
    assert [phase == "recovery" for phase in phases] == list(epochs > 0)
    assert hypervolume(network, values) > hypervolume(network, values[epochs == 0]) + 0.01
    learning = {
        t.params["recovery/learning_rate"] for t in study.trials if t.params["recovery/epochs"]
    }
    assert len(learning) > 1


def test_rankings_are_told_from_the_rows() -> None:
    from search.sensitivity.told import rankings
    from search.study.ledger import StudyRows
    from search.study.reading import trial_row

    curious = sampler(phases=Phases(hull=6, offline=4, explore=0.5))
    study, _ = run(NETWORK, curious, 40)
    trials = tuple(trial_row(trial) for trial in study.trials)
    rows = StudyRows("study", "task", "target", OBJECTIVES, None, trials)
    found = {ranking.surrogate: ranking for ranking in rankings(rows, "error")}
    assert found.keys() == {"gauss_newton", "logit_additive"}
    scores = found["gauss_newton"]
    assert scores.drawn + scores.near == 40
    assert scores.plain is not None
    assert scores.plain > 0.7
    assert scores.at_fixed_cost is not None
    assert 0 < scores.at_fixed_cost <= 1
    assert rankings(rows, "latency_ms") == []
