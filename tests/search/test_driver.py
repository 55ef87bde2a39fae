from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compressors.errors import UserError
from evaluation.measurement import ERROR
from search.driver.driver import Search, run_search
from search.samplers import Tpe
from search.space.options import RecoveryOptions, SpaceOptions, StepOptions
from search.study.ledger import StudyRows, TrialRow
from search.study.lock import sole_driver
from search.study.objectives import objectives_of
from search.study.reading import read_rows
from tests.search.searches import InlineEngine, tiny_search, tiny_space

OFF = StepOptions(include=())
NONE = RecoveryOptions(epochs=(0,))


class Following:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def started(self, rows: StudyRows, total: int) -> None:
        self.calls.append(("started", len(rows.complete()), total))

    def trial_finished(self, row: TrialRow) -> None:
        self.calls.append(row.number)

    def closed(self) -> None:
        self.calls.append("closed")


def params(rows: StudyRows) -> list[dict[str, Any]]:
    return [dict(row.params) for row in rows.trials]


def states(rows: StudyRows) -> list[str]:
    return [row.state for row in rows.trials]


def test_baselines_come_first_and_the_total_is_kept(tmp_path: Path) -> None:
    following = Following()
    rows = run_search(tiny_search(tmp_path, trials=8), [following])
    assert states(rows) == ["complete"] * 8
    names = [row.baseline for row in rows.trials[:6]]
    assert names == [
        "fp32",
        "int8",
        "half width",
        "half width, int8",
        "shallow, int8",
        "rank 0.5 or 0.25",
    ]
    assert rows.reference == rows.trials[0].measurement
    assert (rows.task, rows.target) == ("tiny", "store")
    assert following.calls == [("started", 0, 8), *range(8), "closed"]
    assert all((tmp_path / str(row.artifact)).is_file() for row in rows.trials)
    assert read_rows(f"sqlite:///{tmp_path / 'study.db'}", "study") == rows

    again = Following()
    assert run_search(tiny_search(tmp_path, trials=8), [again]) == rows
    assert again.calls == [("started", 8, 8), "closed"]
    longer = run_search(tiny_search(tmp_path, trials=10))
    assert longer.trials[:8] == rows.trials
    assert states(longer) == ["complete"] * 10


def test_interrupted_trials_are_asked_again_with_their_parameters(tmp_path: Path) -> None:
    following = Following()
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny_search(tmp_path, InlineEngine(interrupt_after=6), trials=8), [following])
    assert following.calls[-1] == "closed"
    assert following.calls.count("closed") == 1
    before = read_rows(f"sqlite:///{tmp_path / 'study.db'}", "study")
    assert states(before) == ["complete"] * 6 + ["waiting"]
    after = run_search(tiny_search(tmp_path, trials=8))
    assert states(after) == ["complete"] * 8
    assert params(after)[:7] == params(before)


def test_same_seed_same_trials(tmp_path: Path) -> None:
    first, second, other = (
        run_search(tiny_search(tmp_path / name, sampler=Tpe(), seed=seed, trials=8))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert params(first) == params(second)
    assert [row.values for row in first.trials] == [row.values for row in second.trials]
    assert params(first) != params(other)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"space": tiny_space(SpaceOptions(prune=OFF, lowrank=StepOptions(choices=(1, 0.25))))},
            [
                "space.knobs stem/channels removed",
                "stem/rank.values changed from [1.0, 0.5, 0.25] to [1.0, 0.25]",
            ],
        ),
        ({"objectives": objectives_of(("quality",), ERROR)}, ["objectives changed from"]),
        ({"constraints": {"error_drop": 0.1}}, ["constraints.error_drop added (0.1)"]),
    ],
)
def test_refuses_to_continue_another_study(
    tmp_path: Path, changes: dict[str, Any], says: list[str]
) -> None:
    run_search(tiny_search(tmp_path, trials=1))
    with pytest.raises(UserError) as refused:
        run_search(replace(tiny_search(tmp_path, trials=2), **changes))
    for words in says:
        assert words in str(refused.value)
    assert states(run_search(tiny_search(tmp_path, trials=1))) == ["complete"]


def test_a_failed_trial_counts_and_says_why(tmp_path: Path) -> None:
    rows = run_search(tiny_search(tmp_path, target={"least_parameters": 1000}, trials=5))
    failed = [row for row in rows.trials if row.state == "failed"]
    assert len(rows.trials) == 5
    assert [row.baseline for row in failed][:1] == ["half width"]
    assert failed[0].reason is not None
    assert failed[0].reason.startswith("RuntimeError: no kernel for")
    assert "\n" not in failed[0].reason
    assert failed[0].values is None
    assert failed[0].policy is not None


def test_a_task_that_fails_uncompressed_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be evaluated") as refused:
        run_search(tiny_search(tmp_path, task={"fail": True}))
    details = tmp_path / "reference_error.txt"
    assert str(details) in str(refused.value)
    assert "Traceback" in details.read_text()
    rows = read_rows(f"sqlite:///{tmp_path / 'study.db'}", "study")
    assert not [row for row in rows.trials if row.state not in ("waiting",)]


def test_constraints_compare_with_the_uncompressed_model(tmp_path: Path) -> None:
    rows = run_search(
        tiny_search(tmp_path, trials=6, constraints={"error_drop": 0.05, "size_bytes": 6000})
    )
    assert rows.reference is not None
    for row in rows.trials:
        assert row.measurement is not None
        drop = row.measurement["error"].value - rows.reference["error"].value
        small = row.measurement["size_bytes"].value <= 6000
        assert row.feasible == (drop <= 0.05 and small)
    assert {row.feasible for row in rows.trials} == {True, False}


def test_a_policy_seen_before_is_not_evaluated_again(tmp_path: Path) -> None:
    bits = StepOptions(tie=(("*",),))
    options = SpaceOptions(depth=OFF, prune=OFF, lowrank=OFF, quantize=bits, recovery=NONE)
    rows = run_search(tiny_search(tmp_path, space=tiny_space(options), trials=6))
    assert states(rows) == ["complete"] * 6
    assert len({row.policy_id for row in rows.trials}) == 2
    assert len({row.artifact for row in rows.trials}) == 2
    assert sum(row.evaluations for row in rows.trials) == 2


def test_without_a_neutral_setting_the_reference_is_evaluated_apart(tmp_path: Path) -> None:
    options = SpaceOptions(quantize=StepOptions(choices=("w8a8",)), recovery=NONE)
    rows = run_search(tiny_search(tmp_path, space=tiny_space(options), trials=2))
    assert states(rows) == ["complete"] * 2
    assert rows.reference is not None
    assert (tmp_path / "trials" / "reference.safetensors").is_file()
    assert rows.trials[0].baseline == "int8"


def test_no_time_no_trials(tmp_path: Path) -> None:
    rows = run_search(tiny_search(tmp_path, hours=1e-9, trials=3))
    assert states(rows) == ["waiting"] * 3
    assert states(run_search(tiny_search(tmp_path, trials=3))) == ["complete"] * 3


def test_one_driver_a_study(tmp_path: Path) -> None:
    search: Search = tiny_search(tmp_path)
    with (
        sole_driver(tmp_path, search.storage, search.name),
        pytest.raises(UserError, match="is being searched already"),
    ):
        run_search(search)


def test_a_full_disk_ends_the_search_and_costs_no_trial(tmp_path: Path) -> None:
    search = tiny_search(tmp_path, target={"full": str(tmp_path / "full")}, trials=4)
    run_search(replace(search, trials=2))
    (tmp_path / "full").touch()
    with pytest.raises(UserError, match=r"The machine let a trial down: OSError.*No space left"):
        run_search(search)
    (tmp_path / "full").unlink()
    assert states(run_search(search)) == ["complete"] * 4


def test_a_resume_draws_other_trials_than_those_in_flight(tmp_path: Path) -> None:
    run_search(tiny_search(tmp_path, trials=8))
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny_search(tmp_path, InlineEngine(interrupt_after=0), trials=14))
    rows = run_search(tiny_search(tmp_path, trials=14))
    drawn = [tuple(sorted(row.params.items())) for row in rows.trials[8:]]
    assert len(set(drawn)) == len(drawn)
