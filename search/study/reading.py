"""Reads a study's storage back as plain rows: the source of every view. Never writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import optuna
from optuna.trial import FrozenTrial, TrialState

from compressors.errors import UserError, unknown
from evaluation.measurement import Measurement
from search.study import ledger
from search.study.ledger import ApartRow, Objective, ProbeRow, RungRow, State, StudyRows, TrialRow
from search.study.storage import existing_storage, shown, sqlite_file, storage_errors

STATES: dict[TrialState, State] = dict(
    zip(
        (
            TrialState.COMPLETE,
            TrialState.FAIL,
            TrialState.PRUNED,
            TrialState.RUNNING,
            TrialState.WAITING,
        ),
        get_args(State),
        strict=True,
    )
)


def read_rows(url: str, name: str) -> StudyRows:
    """The rows of a study in a storage; refused where there is none, and nothing is created."""
    with storage_errors(url):
        file = sqlite_file(url) if url.startswith("sqlite") else None
        if file is not None and not file.is_file():
            raise UserError(f"There is no study at {file}; start one with paredown search.")
        storage = existing_storage(url)
        names = [study.study_name for study in storage.get_all_studies()] if storage else []
        if storage is None or name not in names:
            raise UserError(unknown(f"study in {shown(url)}", name, names or ["none yet"]))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return rows_of(optuna.load_study(study_name=name, storage=storage))


def rows_of(study: optuna.Study) -> StudyRows:
    """The rows of an open study."""
    attributes = study.user_attrs
    identity = attributes.get(ledger.IDENTITY)
    if identity is None:
        raise UserError(f"The study '{study.study_name}' was not made by this program.")
    reference, point = attributes.get(ledger.REFERENCE), attributes.get(ledger.POINT)
    apart = attributes.get(ledger.REFERENCE_TOOK)
    return StudyRows(
        name=study.study_name,
        task=_label(identity["task"]),
        target=_label(identity["target"]),
        objectives=tuple(Objective(**entry) for entry in identity["objectives"]),
        reference=None if reference is None else Measurement.from_json(reference),
        trials=tuple(trial_row(trial) for trial in study.get_trials(deepcopy=False)),
        uid=attributes.get(ledger.UID, ""),
        point=None if point is None else tuple(point),
        simulated=identity.get("simulated"),
        probes=probe_rows(attributes),
        apart=None if apart is None else ApartRow(**apart),
    )


def probe_rows(attributes: Mapping[str, Any]) -> tuple[ProbeRow, ...]:
    """What came of every probe, from a study's attributes; in no order of time."""
    return tuple(
        ProbeRow(key=name.removeprefix(ledger.PROBE), **value)
        for name, value in sorted(attributes.items())
        if name.startswith(ledger.PROBE)
    )


def trial_row(trial: FrozenTrial) -> TrialRow:
    """One trial as the views see it."""
    attributes = trial.user_attrs
    measurement = attributes.get(ledger.MEASUREMENT)
    state = STATES[trial.state]
    rungs = tuple(_rung_row(told) for told in attributes.get(ledger.RUNGS) or ())
    so_far = attributes.get(ledger.SECONDS_SO_FAR, sum(rung.seconds for rung in rungs))
    return TrialRow(
        number=trial.number,
        state=state,
        params=dict(trial.params),
        baseline=attributes.get(ledger.BASELINE),
        policy=attributes.get(ledger.POLICY),
        policy_id=attributes.get(ledger.POLICY_ID),
        values=tuple(trial.values) if state == "complete" else None,
        measurement=None if measurement is None else Measurement.from_json(measurement),
        record=attributes.get(ledger.RECORD),
        artifact=attributes.get(ledger.ARTIFACT),
        seconds=attributes.get(ledger.SECONDS, so_far),
        evaluations=attributes.get(ledger.EVALUATIONS, sum(rung.evaluations for rung in rungs)),
        feasible=ledger.feasible(tuple(trial.constraints.values())),
        reason=attributes.get(ledger.REASON),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        phase=attributes.get(ledger.PHASE),
        predicted=attributes.get(ledger.PREDICTED) or {},
        guessed=attributes.get(ledger.GUESSED) or {},
        rungs=rungs,
    )


def _rung_row(told: Mapping[str, Any]) -> RungRow:
    return RungRow(
        told["share"],
        told["epochs"],
        Measurement.from_json(told["measurement"]),
        told["seconds"],
        told["evaluations"],
    )


def _label(node: dict[str, Any]) -> str:
    return str(node.get("name") or str(node.get("_target_", "unnamed")).rpartition(".")[2])
