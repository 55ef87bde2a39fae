"""Storages: made and looked at by many at once, written in one transaction, failures in words."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from sqlalchemy import create_engine, make_url, text

from compressors.errors import UserError
from search.study.batching import BatchingStorage, batch
from search.study.ledger import StudyRows
from search.study.reading import read_rows
from search.study.storage import open_storage, shown
from tests.search.databases import KNOBS, opened


def looked(url: str, name: str) -> StudyRows:
    """What a view sees that looks again and again until there is something."""
    patience = time.monotonic() + 120  # only who waits in vain takes it
    while time.monotonic() < patience:
        with suppress(UserError):
            return read_rows(url, name)
    return read_rows(url, name)


def test_many_may_start_studies_in_one_fresh_database_at_once(postgres_url: str) -> None:
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE crowded"))
    url = make_url(postgres_url).set(database="crowded").render_as_string(hide_password=False)
    with ThreadPoolExecutor(6) as crowd:
        made = [crowd.submit(opened, url, f"mine{number}") for number in range(6)]
    assert all(future.result() for future in made)
    assert read_rows(url, "mine5").name == "mine5"


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
