"""What every engine must do, held against all of them with a real task that is soon trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compressors.errors import UserError
from search.driver.driver import run_search
from search.engines.base import Engine, WorkerBroken
from search.engines.local import LocalEngine
from search.engines.ray_engine import RayEngine
from search.samplers import Tpe
from search.study.ledger import StudyRows, TrialRow
from tests.search.curious import CHANGES, SCORES, Curiosity
from tests.search.searches import tiny_search

Make = Callable[[int], Engine]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One cluster for the whole module, with room for what an interrupt leaves behind in it."""
    with RayEngine(workers=8).cluster():
        yield


@pytest.fixture(params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Make:
    if request.param == "local":
        return LocalEngine
    request.getfixturevalue("ray_cluster")
    return RayEngine


def summary(rows: StudyRows) -> list[tuple[object, ...]]:
    return [(row.state, dict(row.params), row.policy_id, row.values) for row in rows.trials]


class InterruptAfter:
    """A listener that presses Ctrl-C."""

    def __init__(self, trials: int) -> None:
        self._left = trials

    def started(self, rows: StudyRows, total: int) -> None:
        pass

    def trial_finished(self, row: TrialRow) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt

    def closed(self) -> None:
        pass


def test_one_worker_gives_the_same_trials_as_no_engine_at_all(engine: Make, tmp_path: Path) -> None:
    sampler = Tpe(startup_trials=2)
    plain = run_search(tiny_search(tmp_path / "plain", sampler=sampler, trials=8))
    found = run_search(tiny_search(tmp_path / "engine", engine(1), sampler=sampler, trials=8))
    assert summary(found) == summary(plain)


def test_workers_share_the_trials_and_survive_the_death_of_one(
    engine: Make, tmp_path: Path
) -> None:
    last_rites = tmp_path / "die"
    search = tiny_search(tmp_path, engine(2), task={"die_at": str(last_rites)}, trials=9)

    class Executioner(InterruptAfter):
        def trial_finished(self, row: TrialRow) -> None:
            if row.number == 0:
                last_rites.touch()

    rows = run_search(search, [Executioner(0)])
    states = [row.state for row in rows.trials]
    assert sorted(states) == ["complete"] * 8 + ["failed"]
    reason = rows.trials[states.index("failed")].reason
    assert reason is not None
    assert reason.startswith("The worker ")
    assert "memory" in reason


def test_an_interrupt_leaves_a_study_that_continues(engine: Make, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny_search(tmp_path, engine(2), trials=8), [InterruptAfter(4)])
    rows = run_search(tiny_search(tmp_path, engine(1), trials=8))
    assert [row.state for row in rows.trials] == ["complete"] * 8


def test_probes_are_answered_by_the_workers(engine: Make, tmp_path: Path) -> None:
    asks, plain = Curiosity([[SCORES], CHANGES]), Curiosity([[SCORES], CHANGES])
    rows = run_search(tiny_search(tmp_path / "engine", engine(2), sampler=asks, trials=7))
    assert [row.state for row in rows.trials] == ["complete"] * 7
    run_search(tiny_search(tmp_path / "plain", sampler=plain, trials=7))
    assert asks.probes == plain.probes == [SCORES, *CHANGES]
    for (_, found), (_, expected) in zip(asks.learned, plain.learned, strict=True):
        assert found is not None
        assert expected is not None
        assert found.damage == pytest.approx(expected.damage, rel=1e-4)


def test_workers_that_cannot_be_built_end_the_search(engine: Make, tmp_path: Path) -> None:
    by_user = tiny_search(tmp_path, engine(1), task={"widht": 8})
    with pytest.raises(UserError, match="widht"):
        run_search(by_user)
    defect = tiny_search(tmp_path / "defect", engine(1), task={"width": -1})
    with pytest.raises(WorkerBroken, match="Traceback"):
        run_search(defect)


@pytest.mark.parametrize("make", [LocalEngine, RayEngine])
def test_refuses_no_workers(make: Callable[[int], Engine]) -> None:
    with pytest.raises(UserError, match=r"engine\.workers cannot be 0"):
        make(0)


def test_ray_refuses_what_it_cannot_share_out() -> None:
    with pytest.raises(UserError, match=r"engine\.gpus cannot be -1"):
        RayEngine(gpus=-1)


def test_ray_refuses_a_trial_that_its_cluster_cannot_place(tmp_path: Path) -> None:
    search = tiny_search(tmp_path, RayEngine(1, gpus=64), trials=2)
    with pytest.raises(UserError, match=r"engine\.gpus asks for 64 a trial"):
        run_search(search)
