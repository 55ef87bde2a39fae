"""What every sampler must do, held against all of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from compressors.errors import UserError
from evaluation.measurement import ERROR
from search.samplers import SAMPLERS, Gp, Nsga2, Nsga3, Qmc, Sampler, Sensitivity, Setting, Tpe
from search.space.baselines import baselines
from search.space.building import build_space
from search.space.options import SpaceOptions
from search.space.space import Space
from search.study.objectives import objectives_of
from search.study.storage import open_storage
from search.study.study import Study
from tests.search.spaces import CAPABILITY, STRUCTURE

SPACE: Space = build_space(STRUCTURE, CAPABILITY, SpaceOptions())
IDENTITY: dict[str, Any] = {
    "space": SPACE.signature(),
    "objectives": [vars(found) for found in objectives_of(("error", "size_bytes"), ERROR)],
    "task": {"name": "task"},
    "target": {"name": "target"},
}
ALL: dict[str, Sampler] = {
    **{name: kind() for name, kind in SAMPLERS.items() if name not in ("gp", "nsga2", "nsga3")},
    "tpe without start": Tpe(startup_trials=2, multivariate=False),
    "gp": Gp(startup_trials=5),
    "nsga2": Nsga2(population=4),
    "nsga3": Nsga3(population=4),
    "halton": Qmc("halton"),
    "tpe after sensitivity": Tpe(startup_trials=2, seed_from="sensitivity", seeds=2),
    "nsga2 after sensitivity": Nsga2(population=4, seed_from="sensitivity", seeds=2),
}


def cost(params: dict[str, Any]) -> list[float]:
    """Two objectives that pull apart, from the policy itself."""
    policy = SPACE.policy(params)
    steps = len(policy.layers) + 3 * len(policy.remove)
    return [steps + policy.recovery.learning_rate, math.exp(-steps / 4)]


def run(sampler: Sampler, trials: int, seed: int = 0, url: str = "sqlite://") -> Study:
    study = Study.open(url, "study", IDENTITY)  # in memory
    objectives = objectives_of(("error", "size_bytes"), ERROR)
    study.use(sampler.build(Setting(seed, SPACE, objectives, ERROR)))
    for baseline in baselines(SPACE)[:3]:
        study.enqueue(baseline.params, baseline.name)
    for index in range(trials):
        trial = study.ask(SPACE.distributions())
        if index == 3:
            study.tell(trial.number, None, {}, {})
        else:
            values = cost(trial.params)
            study.tell(trial.number, values, {}, {"size_bytes": values[0] - 8})
    return study


@pytest.mark.filterwarnings("error::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", ALL)
def test_stays_in_the_space_repeats_itself_and_lives_with_failures(
    name: str,
) -> None:
    found = [run(ALL[name], trials=7).rows() for _ in range(2)]
    for row in found[0].trials:
        assert set(row.params) == {knob.name for knob in SPACE.knobs}
        assert all(row.params[knob.name] in knob.domain for knob in SPACE.knobs)
    assert [row.state for row in found[0].trials].count("failed") == 1
    assert [row.params for row in found[0].trials] == [row.params for row in found[1].trials]
    sampled = {tuple(row.params.values()) for row in found[0].trials[3:]}
    assert len(sampled) == 4


@pytest.mark.parametrize("name", ["random", "qmc", "tpe"])
def test_another_seed_draws_something_else(name: str) -> None:
    rows = [run(ALL[name], trials=5, seed=seed).rows() for seed in (1, 2)]
    assert [row.params for row in rows[0].trials] != [row.params for row in rows[1].trials]


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "nsga2 after sensitivity"])
def test_enqueued_baselines_become_parents(name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    run(ALL[name], trials=7, url=url)
    study = optuna.load_study(study_name="study", storage=open_storage(url))
    generations = [
        [value for key, value in trial.system_attrs.items() if key.endswith("generation")]
        for trial in study.trials
    ]
    assert generations[:3] == [[0], [0], [0]]
    assert generations[-1] == [1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Tpe(startup_trials=-1), "sampler.startup_trials cannot be -1"),
        (lambda: Nsga2(population=1), "sampler.population cannot be 1"),
        (lambda: Nsga3(population=0), "valid: a whole number from 2"),
        (lambda: Gp(startup_trials=0), "sampler.startup_trials cannot be 0"),
        (lambda: Qmc("sobel"), "valid: sobol, halton"),
        (lambda: Tpe(seed_from="prayer"), "valid: sensitivity, null"),
        (lambda: Nsga2(seed_from="sensitivity", seeds=0), "sampler.seeds cannot be 0"),
        (lambda: Sensitivity(hull=-1), "sampler.hull cannot be -1"),
        (lambda: Sensitivity(explore=2.0), "valid: a share, 0 to 1"),
    ],
)
def test_refuses_in_one_sentence(make: Any, says: str) -> None:
    with pytest.raises(UserError) as refused:
        make()
    assert says in str(refused.value)
