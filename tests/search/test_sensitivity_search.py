"""The default sampler in whole searches: a real network, its probes, baselines and a resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.measurement import ERROR
from search.driver.driver import run_search
from search.engines.base import Engine
from search.engines.local import LocalEngine
from search.samplers import Sensitivity
from search.study.ledger import StudyRows
from search.study.objectives import objectives_of
from tests.search.searches import InlineEngine, tiny_search

TRIALS = 20
SHORT = Sensitivity(hull=4, offline=3, explore=0.2)
FIRST = ("hull", "offline")


def searched(folder: Path, engine: Engine | None = None, **changes: object) -> StudyRows:
    return run_search(tiny_search(folder, engine, sampler=SHORT, trials=TRIALS, **changes))


def told(rows: StudyRows) -> list[tuple[object, ...]]:
    return [(row.state, dict(row.params), row.phase, row.values) for row in rows.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyRows:
    return searched(tmp_path_factory.mktemp("whole"))


def test_phases_follow_the_baselines_and_every_step_is_proposed(whole: StudyRows) -> None:
    assert [row.state for row in whole.trials] == ["complete"] * TRIALS
    assert len({row.policy_id for row in whole.trials}) == TRIALS
    own = [row for row in whole.trials if row.phase]
    order = [FIRST.index(row.phase) for row in own if row.phase in FIRST]
    assert sorted(order) == order
    assert set(order) == {0, 1}
    assert all(row.phase in FIRST for row in own[: len(order)])
    assert {row.kind for row in whole.probes} == {"scores", "changes"}
    assert all(row.finding for row in whole.probes)
    used = {name.rpartition("/")[2] for row in own for name in row.params}
    assert {"bits", "channels", "remove", "rank"} <= used
    assert any(row.params["recovery/epochs"] for row in own)
    assert all(row.predicted["size_bytes"] > 0 for row in own)


def test_the_same_seed_gives_the_same_trials_on_a_worker_of_its_own(
    whole: StudyRows, tmp_path: Path
) -> None:
    assert told(searched(tmp_path, LocalEngine(1))) == told(whole)


def test_an_interrupted_search_goes_on_and_asks_no_probe_twice(
    whole: StudyRows, tmp_path: Path
) -> None:
    for left in (3, 4, 6):
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path, InlineEngine(interrupt_after=left))
    rows = searched(tmp_path)
    assert [row.state for row in rows.trials] == ["complete"] * TRIALS
    assert len({row.policy_id for row in rows.trials}) == TRIALS
    first = [row.phase in (None, *FIRST) for row in whole.trials].index(False)
    assert told(rows)[:first] == told(whole)[:first]
    assert [(p.key, p.evaluations) for p in rows.probes] == [
        (p.key, p.evaluations) for p in whole.probes
    ]


def test_several_workers_and_three_objectives(tmp_path: Path) -> None:
    names = ("quality", "latency_ms", "size_bytes")
    rows = searched(tmp_path, LocalEngine(2), objectives=objectives_of(names, ERROR))
    assert [row.state for row in rows.trials] == ["complete"] * TRIALS
    assert len({row.policy_id for row in rows.trials}) == TRIALS
    assert {"hull", "offline"} <= {row.phase for row in rows.trials}
