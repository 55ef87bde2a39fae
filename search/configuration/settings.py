"""The settings of a search, as plain frozen data: what conf/ composes to, typed.

Knows the keys, their types and their bounds; `compose` fills them from the YAML tree and the
command line. A node with a `_target_` (task, target, sampler, engine, stopping) stays a
mapping, whose arguments are held against the class's signature by `build`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from search.space.options import SpaceOptions

TRIALS_AN_EVALUATION = 10  # at most
NOBODY = {"_target_": "search.stopping.rungs.Rungs"}  # is stopped early
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=-]*")


@dataclass(frozen=True)
class StudySettings:
    """The study's name is also its folder's."""

    name: str = "study"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UserError(
                f"study.name cannot be {self.name!r}; valid: letters, digits and . _ @ + = -, "
                "as it is the name of a folder."
            )


@dataclass(frozen=True)
class Budget:
    """Finished trials and evaluations in all, resumes included, and hours of this run."""

    trials: int | None = 32
    hours: float | None = None
    evaluations: float | None = None  # whole validation splits, by trials, probes and reference

    def __post_init__(self) -> None:
        if self.trials is None and self.evaluations is None:
            raise UserError("budget.trials cannot be null unless budget.evaluations is a number.")
        if self.trials is not None and self.trials < 1:
            raise UserError(f"budget.trials cannot be {self.trials}; valid: a whole number from 1.")
        if self.evaluations is not None and not 1 <= self.evaluations < math.inf:
            raise UserError(
                f"budget.evaluations cannot be {self.evaluations}; valid: a number from 1, or null."
            )
        if self.hours is not None and not self.hours > 0:
            raise UserError(f"budget.hours cannot be {self.hours}; valid: above 0, or null.")

    @property
    def most_trials(self) -> int:
        """The trials in all; where only evaluations are bounded, enough to spend those.

        A trial of a known policy, and one that is stopped early, takes less than an evaluation.
        """
        if self.trials is not None:
            return self.trials
        return TRIALS_AN_EVALUATION * math.ceil(self.evaluations or 1)


@dataclass(frozen=True)
class Constraints:
    """Bounds that a policy must keep; null is no bound."""

    error_drop: float | None = None  # quality given up against the uncompressed model
    latency_ms: float | None = None
    size_bytes: float | None = None
    parameters: float | None = None
    macs: float | None = None
    bit_operations: float | None = None
    activation_bytes: float | None = None
    energy_uj: float | None = None

    def __post_init__(self) -> None:
        for name, bound in self.given().items():
            if not bound >= 0 or (bound == 0 and name != "error_drop"):
                valid = "0 or more" if name == "error_drop" else "above 0"
                raise UserError(f"constraints.{name} cannot be {bound}; valid: {valid}, or null.")

    def given(self) -> dict[str, float]:
        """The bounds that are set, by name."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Tracking:
    """Where MLflow keeps the runs; a null uri is a SQLite file in the output folder."""

    enabled: bool = True
    uri: str | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that a search is told."""

    task: Mapping[str, Any]
    target: Mapping[str, Any]
    sampler: Mapping[str, Any]
    engine: Mapping[str, Any]
    space: SpaceOptions
    objectives: tuple[str, ...]
    study: StudySettings = field(default_factory=StudySettings)
    storage: str | None = None  # an Optuna URL; null: study.db in the study's folder
    output_dir: str = "outputs"
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    constraints: Constraints = field(default_factory=Constraints)
    reference_point: tuple[float, ...] | None = None  # quality absolute, costs as shares
    tracking: Tracking = field(default_factory=Tracking)
    stopping: Mapping[str, Any] = field(default_factory=lambda: dict(NOBODY))
    modules: tuple[str, ...] = ()  # folders that the user's own classes are looked for in
    words: tuple[str, ...] = ()  # what followed `paredown search`, to give the same study again

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed cannot be {self.seed}; valid: 0 to {2**32 - 1}.")
        if self.storage is not None and "://" not in self.storage:
            raise UserError(
                f"storage cannot be {self.storage!r}; valid: a database URL, such as "
                "sqlite:///study.db or postgresql://user@host/database, or null."
            )
        if not self.objectives:
            raise UserError("objectives cannot be empty; name at least one.")

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return Path(self.output_dir) / self.study.name

    @property
    def storage_url(self) -> str:
        """The Optuna storage's URL."""
        return self.storage or f"sqlite:///{(self.folder / 'study.db').resolve()}"

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking URI."""
        return self.tracking.uri or f"sqlite:///{(Path(self.output_dir) / 'mlflow.db').resolve()}"

    def to_plain(self) -> dict[str, Any]:
        """Plain data for config.yaml, that `compose.read` reads back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain
