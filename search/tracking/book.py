"""A study written into MLflow: a parent run a study, a nested child run a trial.

Knows MLflow and study rows; knows nothing of threads or of a search that is running. Everything
here may be done twice: a run that is already whole is left alone, one that was left half written
is completed, a second run of the same trial is deleted. A study is found again by the identifier
kept in its folder, whatever its name and wherever MLflow's store lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.atomic import replacing
from search.configuration.secrets import without_passwords
from search.front.front import Front
from search.study.ledger import StudyRows, TrialRow
from search.tracking.marks import artifacts, digest, identifier, sqlite_file

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PARENT = "mlflow.parentRunId"
_BATCH = 100  # MLflow takes no more params or tags at once
_LONGEST = 500
_STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped_early": "KILLED"}
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


class Book:
    """One study's runs in one MLflow store; opening it finds or begins the parent run."""

    def __init__(self, uri: str, study: StudyRows, folder: Path, experiment: str):
        self._client = _client(uri)
        with _alone(uri):
            self._experiment = _experiment(self._client, experiment, uri)
            self.parent = self._find_parent(study, folder)
        self._runs = self._children()

    def whole(self) -> set[int]:
        """Numbers of the trials whose runs are written to the end."""
        return {number for number, run in self._runs.items() if run.info.status != "RUNNING"}

    def write(self, row: TrialRow) -> None:
        """Write a finished trial's run, or what is missing of it."""
        run = self._runs.get(row.number) or self._begin(row)
        self._runs[row.number] = run
        identifier = run.info.run_id
        self._log(identifier, params=row.params, row=row)
        ended = _milliseconds(row.finished)
        self._client.set_terminated(identifier, _STATUS[row.state], ended)
        self._runs[row.number] = self._client.get_run(identifier)

    def end(self, finished: bool, when: datetime | None = None) -> None:
        """Mark the parent run as finished, or as stopped before its end."""
        status = "FINISHED" if finished else "KILLED"
        self._client.set_terminated(self.parent, status, _milliseconds(when))

    def resume(self) -> None:
        """Mark the parent run as running."""
        self._client.update_run(self.parent, "RUNNING")

    def write_front(self, front: Front, folder: Path) -> None:
        """The front on the parent: its files, its size; and a tag on the members' runs."""
        members = {row.number for row in front.members}
        for number, run in self._runs.items():
            wanted = "true" if number in members else "false"
            if run.data.tags.get("front", "false") != wanted:
                self._client.set_tag(run.info.run_id, "front", wanted)
        self._log_summary(front)
        self._log_files(folder)

    def _log_summary(self, front: Front) -> None:
        from mlflow.entities import Metric

        told = {"front_members": float(len(front.members)), "hypervolume": front.hypervolume}
        now = _milliseconds(datetime.now())
        step = len(self._runs)
        metrics = [Metric(k, v, now, step) for k, v in told.items() if v is not None]
        self._client.log_batch(self.parent, metrics=metrics)

    def _log_files(self, folder: Path) -> None:
        """Upload the front's files, unless the very same ones were uploaded before."""
        paths = artifacts(folder)
        content = digest(paths)
        if self._client.get_run(self.parent).data.tags.get("artifacts") == content:
            return
        for path in paths:
            if path.is_dir():
                self._client.log_artifacts(self.parent, str(path), path.name)
            elif path.suffix == ".yaml":
                told = without_passwords(path.read_text(encoding="utf-8"))
                self._client.log_text(self.parent, told, path.name)
            else:
                self._client.log_artifact(self.parent, str(path))
        self._client.set_tag(self.parent, "artifacts", content)

    def _find_parent(self, study: StudyRows, folder: Path) -> str:
        uid = identifier(folder)
        found = self._search(f"tags.study_uid = '{uid}'")
        if found:
            return str(min(found, key=lambda run: run.info.start_time).info.run_id)
        tags = {"study": study.name, "task": study.task, "target": study.target, "study_uid": uid}
        objectives = ", ".join(f"{o.name} ({o.direction})" for o in study.objectives)
        started = min((row.started for row in study.trials if row.started), default=None)
        run = self._client.create_run(
            self._experiment,
            start_time=_milliseconds(started or datetime.now()),
            tags={**tags, "objectives": objectives},
            run_name=study.name,
        )
        return str(run.info.run_id)

    def _children(self) -> dict[int, Run]:
        """Each trial's run; where there are two of a trial, the later ones are deleted."""
        kept: dict[int, Run] = {}
        runs = self._search(f"tags.`{PARENT}` = '{self.parent}'")
        for run in sorted(runs, key=lambda run: (run.info.status == "RUNNING", run.info.run_id)):
            number = int(run.data.tags["trial"])
            if number in kept:
                self._client.delete_run(run.info.run_id)
            else:
                kept[number] = run
        return kept

    def _search(self, query: str) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], query, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _begin(self, row: TrialRow) -> Run:
        name = f"trial {row.number}" + (f" ({row.baseline})" if row.baseline else "")
        tags = {PARENT: self.parent, "trial": str(row.number)}
        started = _milliseconds(row.started or row.finished)
        return self._client.create_run(self._experiment, started, tags, name)

    def _log(self, run: str, params: Any, row: TrialRow) -> None:
        from mlflow.entities import Metric, Param, RunTag

        pairs = [Param(name, str(value)[:_LONGEST]) for name, value in params.items()]
        for start in range(_BATCH, len(pairs), _BATCH):
            self._client.log_batch(run, params=pairs[start : start + _BATCH])
        when = _milliseconds(row.finished)
        self._client.log_batch(
            run,
            params=pairs[:_BATCH],
            metrics=[Metric(name, value, when, 0) for name, value in _metrics(row)],
            tags=[RunTag(name, value) for name, value in _tags(row, self.parent).items()],
        )


def _metrics(row: TrialRow) -> Iterator[tuple[str, float]]:
    """What was measured; of a trial that was stopped on its way under names of their own.

    And what the sampler expected beforehand, where it says.
    """
    stage = "_at_stop" if row.state == "stopped_early" else ""
    for value in row.measurement.values if row.measurement else ():
        yield f"{value.metric.name}{stage}", value.value
        if value.spread is not None:
            yield f"{value.metric.name}{stage}_spread", value.spread
    for name, expected in row.predicted.items():
        yield f"{name}_predicted", expected
    yield "seconds", row.seconds
    yield "evaluations", row.evaluations


def _tags(row: TrialRow, parent: str) -> dict[str, str]:
    tags = {
        PARENT: parent,
        "trial": str(row.number),
        "state": row.state,
        "policy_id": row.policy_id,
        "baseline": row.baseline,
        "phase": row.phase,
        "feasible": str(row.feasible).lower(),
        "reason": row.reason,
    }
    return {name: value[:_LONGEST] for name, value in tags.items() if value}


def _client(uri: str) -> MlflowClient:
    """MLflow, imported here alone, without its telemetry, its chatter and its long retries."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    database = sqlite_file(uri)
    place = (database.parent / "mlartifacts").as_uri() if database else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # which pages MLflow shows
    return str(client.create_experiment(name, artifact_location=place, tags=tags))


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep two searches from creating the same SQLite tables at the same time."""
    database = sqlite_file(uri)
    if database is None:
        yield
        return
    import fcntl

    database.parent.mkdir(parents=True, exist_ok=True)
    with open(database.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():  # made by many migrations: whole, or not at all
            with replacing(database) as temporary:
                _client(f"sqlite:///{temporary}").search_experiments(max_results=1)
        yield


def _milliseconds(moment: datetime | None) -> int:
    return int((moment or datetime.now()).timestamp() * 1000)
