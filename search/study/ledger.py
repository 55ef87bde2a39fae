"""How a study is written into Optuna's storage, and read back as plain rows.

The storage is the single record of truth: MLflow, front.json, tables and pictures are views made
from these rows and can be made again at any time. Only the driver writes. Everything beyond
Optuna's own fields lives in user attributes under the names below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from evaluation.measurement import Direction, Measurement

State = Literal["complete", "failed", "stopped_early", "running", "waiting"]

# Attributes of a trial.
BASELINE = "baseline"  # the name of the uniform baseline that the trial is, e.g. "int8"
POLICY = "policy"  # canonical YAML
POLICY_ID = "policy_id"
MEASUREMENT = "measurement"  # Measurement.to_json()
RECORD = "record"  # Record.to_json()
ARTIFACT = "artifact"  # the trial's deployable file, relative to the study's folder
SECONDS = "seconds"
SECONDS_SO_FAR = "seconds_so_far"  # of the rungs told, by whatever ladder
EVALUATIONS = "evaluations"  # full-validation-set equivalents spent, so far where in flight
REASON = "reason"  # one sentence, on failed and stopped trials
TRACEBACK = "traceback"
PHASE = "phase"  # what a sampler asked the trial for, where it says
PREDICTED = "predicted"  # what it expected of it, by name
GUESSED = "guessed"  # the damage of each of its surrogates, by name
EXPECTED = "expected"  # of one stopped, or waiting at a rung: the values that it would end with
RUNGS = "rungs"  # what a trial measured on its way, rung by rung, see driver.climbing
SAME_AS = "same_as"  # number of the earlier trial of the same policy, whose results were taken

# Attributes of a study.
IDENTITY = "identity"  # what may not change between resumes: space, objectives, constraints, task…
UID = "uid"  # tells the study from every other of its name, made when it is
REFERENCE = "reference"  # Measurement.to_json() of the uncompressed model
REFERENCE_TOOK = "reference_took"  # evaluations and seconds, where no trial of the study took them
PROBE = "probe:"  # and the probe's key: what came of it, ProbeRow without the key
POINT = "reference_point"  # quality absolute, costs as shares of the uncompressed model's


@dataclass(frozen=True)
class Objective:
    """What a study optimises."""

    name: str
    unit: str
    direction: Direction


@dataclass(frozen=True)
class RungRow:
    """What a trial measured on its way."""

    share: float  # see Fidelity
    epochs: int | None
    measurement: Measurement
    seconds: float  # since the rung before
    evaluations: float


@dataclass(frozen=True)
class TrialRow:
    """A trial as the views see it."""

    number: int
    state: State
    params: Mapping[str, Any]
    baseline: str | None
    policy: str | None
    policy_id: str | None
    values: tuple[float, ...] | None  # of the objectives, in their order; None unless complete
    measurement: Measurement | None  # the objectives and every other cost, with spreads
    record: Mapping[str, Any] | None
    artifact: str | None
    seconds: float
    evaluations: float
    feasible: bool  # every constraint holds; True where there are none
    reason: str | None
    started: datetime | None
    finished: datetime | None
    phase: str | None = None
    predicted: Mapping[str, float] = field(default_factory=dict)
    guessed: Mapping[str, float] = field(default_factory=dict)
    rungs: tuple[RungRow, ...] = ()


@dataclass(frozen=True)
class ProbeRow:
    """What came of one probe: a file of findings, or the reason why there is none."""

    key: str
    kind: str
    policies: int  # how many it asked about
    evaluations: float  # full-validation-set equivalents spent
    seconds: float
    finding: str | None = None  # relative to the study's folder
    reason: str | None = None
    traceback: str | None = None


@dataclass(frozen=True)
class ApartRow:
    """What the uncompressed model's evaluation took, where it was no trial of the study."""

    evaluations: float
    seconds: float


@dataclass(frozen=True)
class StudyRows:
    """A whole study as the views see it."""

    name: str
    task: str
    target: str
    objectives: tuple[Objective, ...]
    reference: Measurement | None
    trials: tuple[TrialRow, ...]
    uid: str = ""  # studies made before there were uids have none
    probes: tuple[ProbeRow, ...] = ()
    point: tuple[float, ...] | None = None  # the stated reference point, see POINT
    simulated: str | None = None  # where its results come from, if not from evaluations
    apart: ApartRow | None = None  # nor known of studies made before it was kept

    @property
    def evaluations(self) -> float:
        """Whole validation splits that all of it took."""
        return sum(row.evaluations for row in self.took())

    def took(self) -> list[TrialRow | ProbeRow | ApartRow]:
        """Everything that took evaluations, or time."""
        apart = [] if self.apart is None else [self.apart]
        return [*self.trials, *self.probes, *apart]

    def complete(self) -> list[TrialRow]:
        """The trials that have values."""
        return [row for row in self.trials if row.state == "complete"]


class Listener(Protocol):
    """A view that follows a running study; it must never slow it down or break it."""

    def started(self, rows: StudyRows, total: int) -> None:
        """The study is open; rows already there come from earlier runs."""
        ...

    def trial_finished(self, row: TrialRow) -> None:
        """A trial was told: complete, failed or stopped early."""
        ...

    def closed(self) -> None:
        """The search stops, whatever the reason; called exactly once."""
        ...


@runtime_checkable
class FollowsProbes(Protocol):
    """A listener that hears of probes too."""

    def probing(self, done: int, total: int) -> None:
        """So many of the probes that are wanted now are answered."""
        ...


def feasible(constraints: Sequence[float]) -> bool:
    """Optuna's rule: every constraint value at or below zero."""
    return all(value <= 0 for value in constraints)
