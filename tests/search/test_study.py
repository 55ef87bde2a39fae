from __future__ import annotations

import statistics
import time
from pathlib import Path

import optuna
import pytest

from compressors.errors import UserError
from evaluation.measurement import LATENCY, SIZE, Measurement, Metric, Value
from search.study.identity import differences, require_same
from search.study.lock import sole_driver
from search.study.objectives import check_constraints, margins, objectives_of
from search.study.reading import read_rows
from tests.search.databases import KNOBS, opened


def test_asked_told_and_read_back(url: str, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    study = opened(url, name)
    study.enqueue(dict.fromkeys(KNOBS, 0.5), "half width")
    first, second = study.ask(KNOBS), study.ask(KNOBS)
    row = study.tell(first.number, [0.5, 10.0], {"policy_id": "abc"}, {"size_bytes": 0.2})
    assert (row.state, row.values, row.baseline) == ("complete", (0.5, 10.0), "half width")
    assert not row.feasible
    assert set(row.params.values()) == {0.5}
    failed = study.tell(second.number, None, {"reason": "It broke."}, {})
    assert (failed.state, failed.values, failed.reason) == ("failed", None, "It broke.")
    assert read_rows(url, name).trials == (row, failed)


def test_trials_in_flight_wait_and_are_asked_again(
    url: str, request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    asked = opened(url, name).ask(KNOBS)
    continued = opened(url, name)  # as after a kill
    assert [row.state for row in continued.rows().trials] == ["waiting"]
    again = continued.ask(KNOBS)
    assert (again.number, again.params) == (asked.number, asked.params)


def test_a_second_driver_is_refused(url: str, tmp_path: Path) -> None:
    """On PostgreSQL even from another machine, where the folder is another one."""
    second = tmp_path / "other" if url.startswith("postgresql") else tmp_path
    with (
        sole_driver(tmp_path, url, "study"),
        pytest.raises(UserError, match="searched already"),
        sole_driver(second, url, "study"),
    ):
        pass
    with sole_driver(tmp_path, url, "study"):
        pass


def test_an_ask_of_sixty_knobs_is_cheap(tmp_path: Path) -> None:
    study = opened(f"sqlite:///{tmp_path / 'study.db'}")
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        trial = study.ask(KNOBS)
        seconds.append(time.perf_counter() - start)
        study.tell(trial.number, [0.0, 0.0], {}, {})
    assert statistics.median(seconds) < 0.15


@pytest.mark.parametrize("content", [b"this is no database, whatever its name says" * 40, b""])
def test_a_file_that_is_no_study_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "study.db"
    file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_rows(f"sqlite:///{file}", "study")
    assert "\n" not in str(refused.value)
    assert file.read_bytes()[: len(content)] == content


def test_a_corrupt_study_is_one_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = opened(url)
    for _ in range(5):
        study.ask(KNOBS)
    file = tmp_path / "study.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with pytest.raises(UserError, match="failed: "):
        opened(url)


def test_reading_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no study at"):
        read_rows(f"sqlite:///{tmp_path / 'none.db'}", "study")
    assert not list(tmp_path.iterdir())
    opened(f"sqlite:///{tmp_path / 'some.db'}", "mine")
    with pytest.raises(UserError, match="Did you mean 'mine'"):
        read_rows(f"sqlite:///{tmp_path / 'some.db'}", "mne")


def test_another_programs_study_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(storage=url, study_name="study").ask({"x": KNOBS["layer0/channels"]})
    with pytest.raises(UserError, match="was not made by this program"):
        opened(url)


def test_differences_are_told_in_words() -> None:
    before = {"space": {"knobs": {"a": {"values": [1]}, "b": {"values": [1, 2]}}}, "task": {"n": 1}}
    now = {"space": {"knobs": {"b": {"values": [1, 3]}, "c": {"values": [4]}}}, "task": {"n": 2}}
    assert list(differences(before, now)) == [
        "space.knobs a removed (was [1])",
        "space.knobs b.values changed from [1, 2] to [1, 3]",
        "space.knobs c added ([4])",
        "task.n changed from 1 to 2",
    ]
    require_same("study", now, now)
    with pytest.raises(UserError, match=r"and 1 more\. Set them back"):
        require_same("study", {}, {f"k{i}": i for i in range(9)})


def test_where_and_how_long_files_are_run_is_not_what_a_study_is() -> None:
    before = {"task": {"n": 1}, "target": {"threads": 1, "cache_dir": "a", "timeout_s": 9}}
    now = {"task": {"n": 1, "cache_dir": "b"}, "target": {"threads": 1, "memory_mb": 500}}
    require_same("study", before, now)
    with pytest.raises(UserError, match=r"target\.threads changed from 1 to 2"):
        require_same("study", before, {**now, "target": {"threads": 2}})


def test_objectives_and_constraints_by_name() -> None:
    accuracy = Metric("accuracy", "fraction", "maximize")
    found = objectives_of(("quality", "latency_ms"), accuracy)
    assert [(o.name, o.direction) for o in found] == [
        ("accuracy", "maximize"),
        ("latency_ms", "minimize"),
    ]
    with pytest.raises(UserError, match="Did you mean 'latency_ms'"):
        objectives_of(("latency",), accuracy)
    with pytest.raises(UserError, match="Unknown constraint 'error'"):
        check_constraints({"error": 0.1}, accuracy)


def test_margins_follow_the_direction_and_are_in_units_of_the_bound() -> None:
    accuracy = Metric("accuracy", "fraction", "maximize")

    def measured(value: float, size: float) -> Measurement:
        return Measurement((Value(accuracy, value), Value(SIZE, size), Value(LATENCY, 1.0)))

    bounds = {"error_drop": 0.01, "size_bytes": 100.0, "latency_ms": 2.0, "accuracy": 0.5}
    found = margins(measured(0.95, 150.0), measured(0.99, 1000.0), bounds, accuracy)
    assert found == pytest.approx(
        {"error_drop": 3.0, "size_bytes": 0.5, "latency_ms": -0.5, "accuracy": -0.9}
    )
