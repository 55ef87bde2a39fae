"""What travels between a driver and its workers: a job, and what came of it, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REFERENCE_JOB = -1  # evaluates the uncompressed model where no setting of the space does


@dataclass(frozen=True)
class Job:
    """A policy to evaluate, as YAML, for the trial of that number; or a probe to answer.

    Engines pass it through as it is. A probe's number lies below that of the reference.
    """

    number: int
    policy: str
    probe: Mapping[str, Any] | None = None  # Probe.to_json()
    rung: int = 0  # several jobs of one trial follow each other, each at a higher fidelity
    share: float = 1.0  # see Fidelity
    epochs: int | None = None
    costs: Sequence[Mapping[str, Any]] | None = None  # Measurement.to_json() of an earlier rung


@dataclass(frozen=True)
class JobOutcome:
    """What a job gave: a measurement, or the reason why there is none."""

    number: int
    measurement: Sequence[Mapping[str, Any]] | None = None  # Measurement.to_json()
    record: Mapping[str, Any] | None = None
    artifact: str | None = None  # relative to the study's folder
    seconds: float = 0.0
    evaluations: float = 0.0
    reason: str | None = None
    traceback: str | None = None
    finding: str | None = None  # a probe's, as a file relative to the study's folder
    machine: bool = False  # the machine's fault, such as a full disk: no trial would fare better


@dataclass(frozen=True)
class Broken:
    """A worker that could not load its task and target, for a reason no trial would escape."""

    reason: str
    by_user: bool  # the user's to mend
    traceback: str


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker needs to build its evaluator: plain data that any process can be sent."""

    task: Mapping[str, Any]  # configuration nodes, see `build.instantiate`
    target: Mapping[str, Any]
    folder: str  # of the study, as an absolute path that workers see too
    threads: int = 1
    modules: tuple[str, ...] = ()  # folders of the user's own classes, searched last
    environment: Mapping[str, str] = field(default_factory=dict)
