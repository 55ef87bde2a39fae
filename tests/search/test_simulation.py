"""Searches on a virtual clock: recorded results given again, results of a formula."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressors.errors import UserError
from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import Prune, Quantize
from evaluation.fidelity import Fidelity
from evaluation.measurement import ERROR, Metric, Value
from evaluation.probing import finding_files
from evaluation.probing.probe import Finding, Probe
from search.driver.driver import run_search
from search.driver.trial_job import Job, JobOutcome, WorkerSpec
from search.engines.simulated import NOTE, SimulatedEngine
from search.samplers import Nsga2, Random
from search.simulation.formula import Formula
from search.simulation.recorded import Recorded
from search.simulation.table import Result, Unknown, on_a_share
from search.study.ledger import StudyRows
from tests.search.searches import tiny_search
from tests.search.spaces import STRUCTURE, TRANSFORMER

WHOLE = Fidelity()
FORMULA = Formula(STRUCTURE, ERROR)
LAYERS = [layer.name for layer in STRUCTURE.layers]


def bits(*widths: int) -> Policy:
    pairs = zip(LAYERS, widths, strict=False)
    return Policy(layers=tuple(LayerPolicy(n, quantize=Quantize(w, None)) for n, w in pairs))


def figures(rows: StudyRows) -> list[tuple[object, ...]]:
    return [(row.state, dict(row.params), row.values, row.seconds) for row in rows.trials]


class Jobs:
    """So many jobs of the uncompressed model; remembers who was in flight."""

    def __init__(self, count: int) -> None:
        self._left = iter(range(count))
        self._out: set[int] = set()
        self.most, self.unfinished = 0, count
        self.ends: list[float] = []

    def next_job(self) -> Job | None:
        number = next(self._left, None)
        if number is None:
            return None
        self._out.add(number)
        self.most = max(self.most, len(self._out))
        return Job(number, policy_yaml.dump(bits(*[2 + number % 7, 2 + number // 7 % 7] * 3)))

    def finish(self, outcome: JobOutcome) -> None:
        self._out.remove(outcome.number)
        self.unfinished -= 1
        self.ends.append(outcome.seconds)

    def remaining(self) -> int:
        return self.unfinished


def run(engine: SimulatedEngine, jobs: Jobs) -> Jobs:
    engine.simulate(STRUCTURE, ERROR)
    engine.run(WorkerSpec({}, {}, folder="."), jobs)
    return jobs


def test_the_clock_of_one_worker_is_the_sum_and_of_many_no_more_than_a_fair_share() -> None:
    alone, crew = SimulatedEngine(workers=1), SimulatedEngine(workers=7)
    total = math.fsum(run(alone, Jobs(40)).ends)
    assert alone.elapsed == pytest.approx(total)
    longest = max(run(crew, Jobs(40)).ends)
    assert total / 7 <= crew.elapsed + 1e-9
    assert crew.elapsed <= total / 7 + longest


class Twice:
    """The same trial's job twice, as two rungs would give it out."""

    def __init__(self, policy: Policy) -> None:
        self._text = policy_yaml.dump(policy)
        self._given = 0
        self.seconds: list[float] = []

    def next_job(self) -> Job | None:
        if self._given > len(self.seconds) or self._given == 2:
            return None
        self._given += 1
        return Job(0, self._text)

    def finish(self, outcome: JobOutcome) -> None:
        self.seconds.append(outcome.seconds)

    def remaining(self) -> int:
        return 2 - len(self.seconds)


def test_a_trial_that_goes_on_is_charged_for_new_training_alone() -> None:
    policy = replace(bits(3), recovery=Recovery(epochs=6))
    engine, source = SimulatedEngine(), Twice(policy)
    engine.simulate(STRUCTURE, ERROR)
    engine.run(WorkerSpec({}, {}, folder="."), source)
    expected = FORMULA.result(policy, WHOLE)
    assert expected.training > 0
    assert source.seconds == [expected.seconds + expected.training, expected.seconds]


def test_ten_thousand_jobs_on_a_thousand_workers_take_seconds() -> None:
    engine = SimulatedEngine(workers=1000)
    started = time.process_time()
    jobs = run(engine, Jobs(10_000))
    assert time.process_time() - started < 60
    assert (jobs.most, jobs.unfinished, len(jobs.ends)) == (1000, 0, 10_000)
    assert engine.elapsed < 2 * math.fsum(jobs.ends) / 1000


def test_an_engine_that_would_wait_for_ever_says_so() -> None:
    jobs = Jobs(3)
    jobs.unfinished = 4
    with pytest.raises(RuntimeError, match="none is running"):
        run(SimulatedEngine(), jobs)


def test_the_same_search_gives_the_same_trials_in_any_folder(tmp_path: Path) -> None:
    def once(name: str, workers: int) -> StudyRows:
        engine = SimulatedEngine(workers)
        return run_search(tiny_search(tmp_path / name, engine, Nsga2(6), trials=18))

    first, second, crowd = once("a", 4), once("b", 4), once("c", 20)
    assert figures(first) == figures(second) != figures(crowd)
    assert len({row.values for row in first.complete()}) > 8


def test_a_simulated_study_says_so_and_no_other_engine_goes_on_with_it(tmp_path: Path) -> None:
    rows = run_search(tiny_search(tmp_path, SimulatedEngine(), trials=5))
    assert rows.simulated == FORMULA.words
    assert all((row.record or {})[NOTE] == rows.simulated for row in rows.complete())
    with pytest.raises(UserError, match="simulated removed"):
        run_search(tiny_search(tmp_path, trials=6))
    with pytest.raises(UserError, match="simulated changed"):
        run_search(tiny_search(tmp_path, SimulatedEngine(seed=1), trials=6))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyRows]:
    """A folder of a study that was really evaluated, one trial of it in vain."""
    folder = tmp_path_factory.mktemp("evaluated")
    return folder, run_search(tiny_search(folder, target={"least_parameters": 1100}, trials=14))


def replayed(folder: Path, found: StudyRows, tmp_path: Path, unheld: str = "fail") -> StudyRows:
    class Replay(SimulatedEngine):
        def simulate(self, structure: object, quality: Metric) -> str:
            self._table = Recorded(found, folder, quality, unheld)  # type: ignore[arg-type]
            return self._table.words

    search = tiny_search(tmp_path, Replay(), target={"least_parameters": 1100}, trials=14)
    return run_search(search)


def test_a_record_gives_the_same_trials_again(
    evaluated: tuple[Path, StudyRows], tmp_path: Path
) -> None:
    folder, found = evaluated
    again = replayed(folder, found, tmp_path)
    pairs = list(zip(found.trials, again.trials, strict=True))
    assert {row.state for row in found.trials} == {"complete", "failed"}
    for before, now in pairs:
        assert (before.state, before.values, before.params) == (now.state, now.values, now.params)
        assert before.reason == now.reason
    assert again.simulated is not None
    assert found.name in again.simulated


def test_what_the_record_does_not_hold_fails_or_takes_the_nearest_ones(
    evaluated: tuple[Path, StudyRows],
) -> None:
    folder, found = evaluated
    held = next(row for row in found.complete() if row.baseline == "int8")
    policy = policy_yaml.load(held.policy or "")
    near = replace(policy, layers=policy.layers[1:])
    fails = Recorded(found, folder, ERROR)
    nearest = replace(fails, unheld="nearest")
    with pytest.raises(Unknown, match="does not hold this policy"):
        fails.result(near, WHOLE)
    result = nearest.result(near, WHOLE)
    assert result.measurement == held.measurement
    assert (result.record["nearest_trial"], result.record["differs_in"]) == (held.number, 1)
    trained = replace(policy, recovery=Recovery(epochs=7))
    with pytest.raises(Unknown, match="after 3 epochs"):
        nearest.result(trained, Fidelity(epochs=3))
    assert nearest.result(trained, Fidelity(epochs=0)).measurement == held.measurement


def test_findings_come_from_the_recorded_folder(
    evaluated: tuple[Path, StudyRows], tmp_path: Path
) -> None:
    _, found = evaluated
    probe = Probe("scores", (policy_yaml.dump(bits(4)),))
    table = Recorded(found, tmp_path, ERROR)
    with pytest.raises(Unknown, match="finding"):
        table.finding(probe)
    finding_files.write(
        finding_files.path_of(tmp_path, probe.key()), Finding(np.array([0.5]), evaluations=2.0)
    )
    assert table.finding(probe).damage.tolist() == [0.5]


def values(result: Result) -> dict[str, float]:
    return {value.metric.name: value.value for value in result.measurement.values}


WIDTHS = st.lists(st.sampled_from([3, 4, 5, 6, 8]), min_size=len(LAYERS), max_size=len(LAYERS))


@given(WIDTHS, st.integers(0, len(LAYERS) - 1))
def test_a_bit_less_costs_less_and_does_more_damage(widths: Sequence[int], place: int) -> None:
    fewer = list(widths)
    fewer[place] -= 1
    before, now = bits(*widths), bits(*fewer)
    size = [values(FORMULA.result(policy, WHOLE))["size_bytes"] for policy in (now, before)]
    assert size[0] <= size[1]
    assert FORMULA.damage(now) > FORMULA.damage(before) > 0


def test_damages_add_up_and_the_uncompressed_model_has_none() -> None:
    one, two = bits(3), bits(8, 2)
    two = replace(two, layers=(two.layer(LAYERS[1]),))
    both = replace(two, layers=(*one.layers, *two.layers))
    assert FORMULA.damage(Policy()) == 0
    assert FORMULA.damage(both) == pytest.approx(FORMULA.damage(one) + FORMULA.damage(two))
    probe = Probe("scores", tuple(policy_yaml.dump(p) for p in (one, two)))
    found = FORMULA.finding(probe).damage
    assert found == pytest.approx([FORMULA.damage(one), FORMULA.damage(two)], rel=0.5)
    with pytest.raises(Unknown, match="no outputs"):
        FORMULA.finding(replace(probe, kind="changes"))
    cut = policy_yaml.dump(Policy(remove=("layer1.1",)))
    assert np.isnan(FORMULA.finding(Probe("scores", (cut,))).damage).all()


def test_half_the_channels_take_half_of_a_layer_away() -> None:
    group = STRUCTURE.groups[1]
    inner = STRUCTURE.layer(group.root)
    assert inner is not None
    cut = Policy(layers=(LayerPolicy(group.root, prune=Prune(0.5)),))
    before, now = (values(FORMULA.result(policy, WHOLE)) for policy in (Policy(), cut))
    assert before["parameters"] - now["parameters"] == inner.parameters / 2
    assert now["latency_ms"] < before["latency_ms"]
    assert values(Formula(TRANSFORMER, ERROR).result(Policy(), WHOLE))["parameters"] > 0


def test_training_heals_at_different_paces() -> None:
    cuts = [Policy(layers=(LayerPolicy(n, prune=Prune(0.5)),)) for n in LAYERS[:3]]
    broken = replace(FORMULA, seed=3)

    def error(policy: Policy, epochs: int) -> float:
        trained = replace(policy, recovery=Recovery(epochs=40))
        return values(broken.result(trained, Fidelity(epochs=epochs)))["error"]

    for cut in cuts:
        assert error(cut, 0) >= error(cut, 4) >= error(cut, 40)
    left = [(error(c, 3) - error(c, 40)) / (error(c, 0) - error(c, 40)) for c in cuts]
    assert max(left) > min(left)


@given(st.sampled_from([0.05, 0.25, 0.5]), st.floats(0.1, 0.9))
def test_a_share_of_the_split_is_off_by_what_chance_would_have(share: float, error: float) -> None:
    whole = Value(ERROR, error, 0.01)
    seen = [on_a_share(whole, share, n) for n in range(400)]
    expected = 0.01 * math.sqrt(1 / share - 1)
    assert statistics.mean(v.value for v in seen) == pytest.approx(error, abs=4 * expected / 20)
    assert statistics.stdev(v.value for v in seen) == pytest.approx(expected, rel=0.2)
    assert seen[0].spread == pytest.approx(0.01 / math.sqrt(share))
    assert on_a_share(whole, 1.0, 0) == whole


def test_hours_are_those_of_the_virtual_clock(tmp_path: Path) -> None:
    engine = SimulatedEngine(workers=2, seconds=120.0)
    rows = run_search(tiny_search(tmp_path, engine, trials=200, hours=1.0))
    longest = max(row.seconds for row in rows.trials)
    assert 3600 <= engine.elapsed <= 3600 + longest  # who is on the way then may end
    assert 6 < len(rows.trials) < 100
    again = run_search(tiny_search(tmp_path, engine, trials=200, hours=1.0))
    assert len(again.trials) > len(rows.trials)  # of another run


def test_refuses_impossible_engines() -> None:
    with pytest.raises(UserError, match=r"engine\.workers"):
        SimulatedEngine(workers=0)
    with pytest.raises(UserError, match=r"engine\.seconds"):
        SimulatedEngine(seconds=0)


def test_random_draws_over_a_crowd_of_workers_are_all_told(tmp_path: Path) -> None:
    rows = run_search(tiny_search(tmp_path, SimulatedEngine(workers=16), Random(), trials=24))
    assert [row.state for row in rows.trials] == ["complete"] * 24
