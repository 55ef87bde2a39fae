"""MLflow for real: an SQLite store, and a server on the loopback address that goes away."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compressors.errors import UserError
from search.front import front, front_files
from search.study.ledger import StudyRows
from search.tracking import listener as tracking
from search.tracking.book import PARENT, Book, _client
from search.tracking.listener import MlflowListener, log_front, sync
from tests.search.views import studies

ROWS = studies.study(12)
EMPTY = replace(ROWS, trials=())
ALONE = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # without processes of other uses


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("tables")
    _client(tracking.default_uri(folder)).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, tables: Path) -> str:
    shutil.copyfile(tables, tmp_path / "mlflow.db")
    return tracking.default_uri(tmp_path)


def runs(uri: str) -> list:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("paredown")
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def parents_and_children(uri: str) -> tuple[list, list]:
    found = runs(uri)
    return (
        [run for run in found if PARENT not in run.data.tags],
        sorted(
            (run for run in found if PARENT in run.data.tags),
            key=lambda run: int(run.data.tags["trial"]),
        ),
    )


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that others share may need long for the last rows."""
    monkeypatch.setattr(tracking, "LAST_CALL", 300.0)


def assert_whole(uri: str, rows: StudyRows) -> None:
    parents, children = parents_and_children(uri)
    assert len(parents) == 1
    assert [int(run.data.tags["trial"]) for run in children] == [row.number for row in rows.trials]
    for run, row in zip(children, rows.trials, strict=True):
        assert run.data.tags[PARENT] == parents[0].info.run_id
        assert run.data.tags["state"] == row.state
        assert run.info.status == {"complete": "FINISHED", "failed": "FAILED"}[row.state]
        assert run.data.params == {name: str(value) for name, value in row.params.items()}
        assert run.data.metrics["seconds"] == row.seconds
        for value in row.measurement.values if row.measurement else ():
            assert run.data.metrics[value.metric.name] == value.value
        for name, expected in row.predicted.items():
            assert run.data.metrics[f"{name}_predicted"] == expected
        assert run.data.tags.get("phase") == row.phase


def follow(listener: MlflowListener, first: StudyRows, rows: StudyRows, total: int) -> None:
    listener.started(first, total)
    for row in rows.trials[len(first.trials) :]:
        listener.trial_finished(row)
    listener.closed()


def test_a_parent_run_a_study_and_a_nested_child_run_a_trial(tmp_path: Path, uri: str) -> None:
    follow(MlflowListener(uri, tmp_path / "study"), EMPTY, ROWS, 12)
    assert_whole(uri, ROWS)
    (parent,), children = parents_and_children(uri)
    assert parent.info.run_name == ROWS.name
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["target"] == "ort_cpu"
    assert children[1].data.tags["baseline"] == "int8"
    assert children[9].data.tags["reason"].startswith("Recovery diverged")
    assert children[3].data.tags["policy_id"] == ROWS.trials[3].policy_id


def test_a_resumed_study_goes_on_in_its_own_parent(tmp_path: Path, uri: str) -> None:
    first = replace(ROWS, trials=ROWS.trials[:5])
    follow(MlflowListener(uri, tmp_path / "study"), EMPTY, first, 12)
    assert parents_and_children(uri)[0][0].info.status == "KILLED"
    follow(MlflowListener(uri, tmp_path / "study"), first, ROWS, 12)
    assert_whole(uri, ROWS)


def test_what_a_kill_left_half_written_is_completed_and_doubles_are_deleted(
    tmp_path: Path, uri: str
) -> None:
    folder = tmp_path / "study"
    book = Book(uri, ROWS, folder, "paredown")
    for row in ROWS.trials[:3]:
        book.write(row)
    half = book._begin(ROWS.trials[3])  # begun, and killed before anything was logged
    book._begin(ROWS.trials[1])  # a second run of a trial that is whole
    assert half.info.status == "RUNNING"
    done = sync(ROWS, folder, uri)
    assert done.written == len(ROWS.trials) - 3
    assert_whole(uri, ROWS)
    assert sync(ROWS, folder, uri).written == 0


def test_a_new_folder_of_the_same_name_is_another_study(tmp_path: Path, uri: str) -> None:
    sync(ROWS, tmp_path / "a", uri)
    sync(ROWS, tmp_path / "b", uri)
    parents, children = parents_and_children(uri)
    assert len(parents) == 2
    assert len(children) == 24


def test_more_params_than_a_batch_takes_are_all_written(tmp_path: Path, uri: str) -> None:
    many = {f"layer{n}.conv/bits": n for n in range(230)}
    rows = replace(ROWS, trials=(replace(ROWS.trials[0], params=many),))
    sync(rows, tmp_path / "study", uri)
    assert_whole(uri, rows)


def test_a_search_never_waits_for_the_store(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    write = tracking._Writer._write

    def slow(self: tracking._Writer, last: bool) -> None:
        assert told.wait(300)
        write(self, last)

    monkeypatch.setattr(tracking._Writer, "_write", slow)
    listener = MlflowListener(uri, tmp_path / "study")
    rows = studies.study(30)
    listener.started(replace(rows, trials=()), 30)
    for row in rows.trials:
        listener.trial_finished(row)
    told.set()  # which nobody would, who waited for the store
    listener.closed()
    assert_whole(uri, rows)


def test_the_fronts_files_lie_on_the_parent_and_members_are_tagged(
    tmp_path: Path, uri: str
) -> None:
    folder = tmp_path / "study"
    found = front.find(ROWS)
    front_files.write(folder, ROWS, found, front_files.Validation())
    log_front(ROWS, folder, uri)
    (parent,), children = parents_and_children(uri)
    where = tmp_path / "mlartifacts" / parent.info.run_id / "artifacts"
    assert (where / "front.json").read_text() == (folder / "front.json").read_text()
    assert (where / "policies" / "best.yaml").exists()
    tagged = {int(r.data.tags["trial"]) for r in children if r.data.tags.get("front") == "true"}
    assert tagged == {member.number for member in found.members}
    assert parent.data.metrics["front_members"] == len(found.members)


def test_where_nothing_is_new_mlflow_is_not_even_imported(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "study"
    sync(ROWS, folder, uri)
    script = (
        "import sys; from pathlib import Path; from tests.search.views import studies;"
        "from search.tracking.listener import MlflowListener, log_front;"
        f"rows = studies.study(12); folder = Path({str(folder)!r}); uri = {uri!r};"
        "listener = MlflowListener(uri, folder); listener.started(rows, 12); listener.closed();"
        "log_front(rows, folder, uri); assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_store_that_is_none_is_warned_of_once_and_sync_says_it_in_one_sentence(
    tmp_path: Path,
) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to be seen as none")
    uri = tracking.default_uri(tmp_path)
    warnings: list[str] = []
    follow(MlflowListener(uri, tmp_path / "study", warn=warnings.append), EMPTY, ROWS, 12)
    assert len([w for w in warnings if "the search goes on" in w]) == 1
    with pytest.raises(UserError, match="cannot be written"):
        sync(ROWS, tmp_path / "study", uri)


class Server:
    """A real MLflow server that can be stopped and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        backend = ["--backend-store-uri", tracking.default_uri(self._folder)]
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        artifacts = ["--artifacts-destination", str(self._folder / "served")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *backend, *address, *artifacts],
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **ALONE},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1)
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError("the MLflow server did not start")

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 15)
            self._process.wait(120)
            self._process = None


@pytest.fixture
def server(tmp_path: Path, uri: str) -> Iterator[Server]:
    del uri  # its tables are the server's
    made = Server(tmp_path)
    yield made
    made.stop()


def test_a_server_that_is_down_for_a_while_loses_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", (0.2, 0.5))
    server.start()
    warnings: list[str] = []
    listener = MlflowListener(server.uri, tmp_path / "study", warn=warnings.append)
    listener.started(EMPTY, 12)
    for row in ROWS.trials[:4]:
        listener.trial_finished(row)
    until(lambda: len(runs_or_none(server.uri)) >= 5)
    server.stop()
    for row in ROWS.trials[4:8]:
        listener.trial_finished(row)
    until(lambda: bool(warnings))
    server.start()
    for row in ROWS.trials[8:]:
        listener.trial_finished(row)
    listener.closed()
    assert len(warnings) == 1
    assert "the search goes on" in warnings[0]
    assert_whole(server.uri, ROWS)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def runs_or_none(uri: str) -> list:
    from mlflow.tracking import MlflowClient

    found = MlflowClient(tracking_uri=uri).get_experiment_by_name("paredown")
    return runs(uri) if found else []


def test_no_password_reaches_the_store(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    secret = "storage: postgresql://user:secret@host/studies\n"
    (folder / "config.yaml").write_text(secret)
    sync(ROWS, folder, uri)
    texts = [path.read_text() for path in tmp_path.rglob("config.yaml") if path.parent != folder]
    assert texts == ["storage: postgresql://user:***@host/studies\n"]
    assert (folder / "config.yaml").read_text() == secret
