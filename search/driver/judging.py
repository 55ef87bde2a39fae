"""What trials of a study are judged by: its plan, and what a measurement means under it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressors.errors import UserError
from evaluation.measurement import Measurement, Metric
from evaluation.probing.probe import Probe
from search.atomic import write_text
from search.driver.trial_job import REFERENCE_JOB, JobOutcome
from search.space.space import Space
from search.stopping.rungs import NOBODY, Rungs
from search.study.ledger import ApartRow, Objective, TrialRow
from search.study.objectives import DROP, margins
from search.study.problem import Box, box_of
from search.study.study import Study


@dataclass(frozen=True)
class Plan:
    """What a study's trials are asked from and judged by."""

    space: Space
    objectives: tuple[Objective, ...]
    quality: Metric
    constraints: Mapping[str, float]
    trials: int
    hours: float | None
    folder: Path
    price: Callable[[Probe], float]  # what a probe takes at most, in evaluations
    evaluations: float | None = None  # of everything together, earlier runs too
    stopping: Rungs = NOBODY
    seed: int = 0
    point: Sequence[float] | None = None  # the stated reference point of the hypervolume


class Judge:
    """Values, constraints and the reference of one study."""

    def __init__(self, study: Study, plan: Plan) -> None:
        self._study = study
        self._plan = plan

    def values(self, measurement: Measurement | None) -> tuple[list[float] | None, str | None]:
        """The objectives' values, or why there are none."""
        if measurement is None:
            return None, None
        values = [measurement[objective.name].value for objective in self._plan.objectives]
        for objective, value in zip(self._plan.objectives, values, strict=True):
            if not math.isfinite(value):
                return None, f"The measured {objective.name} is {value}, which is no number."
        return values, None

    def margins(self, measurement: Measurement) -> dict[str, float]:
        """How far each constraint is broken or kept, once the reference is known."""
        reference = self._study.reference
        if reference is None:
            return {}
        return margins(measurement, reference, self._plan.constraints, self._plan.quality)

    def box(self) -> Box | None:
        """Where hypervolume counts, once the reference is known."""
        reference = self._study.reference
        if reference is None:
            return None
        plan = self._plan
        quality = plan.quality.name
        return box_of(plan.objectives, quality, plan.constraints, plan.point, reference)

    def broken(self, measurement: Measurement) -> float:
        """How far bounds on costs are broken, which no rung changes."""
        found = self.margins(measurement)
        costs = (
            over for name, over in found.items() if name not in (DROP, self._plan.quality.name)
        )
        return sum(max(0.0, over) for over in costs)

    def set_reference(self, measurement: Measurement | None, outcome: JobOutcome) -> None:
        """Keep the uncompressed model's measurement, without which there is no search."""
        if measurement is not None and self.values(measurement)[0] is not None:
            apart = ApartRow(outcome.evaluations, outcome.seconds)
            no_trial = outcome.number == REFERENCE_JOB
            self._study.set_reference(measurement, apart if no_trial else None)
            return
        details = self._plan.folder / "reference_error.txt"
        write_text(details, outcome.traceback or outcome.reason or "no details")
        raise UserError(
            "The uncompressed model itself could not be evaluated, so no trial would be either: "
            f"{outcome.reason or self.values(measurement)[1]} Details are in {details}."
        )


class Twins:
    """The trials whose results another of the same policy takes."""

    def __init__(self, *, stopped: bool) -> None:
        self._stopped = stopped  # whether those that were stopped early are among them
        self._rows: dict[str, TrialRow] = {}

    def of(self, policy_id: str) -> TrialRow | None:
        """The trial that had this policy."""
        return self._rows.get(policy_id)

    def add(self, row: TrialRow) -> None:
        """Remember a finished trial; of two of a policy, the one that was evaluated in full."""
        if row.policy_id is None:
            return
        if row.state == "complete":
            known = self.of(row.policy_id)
            if known is None or known.state != "complete":
                self._rows[row.policy_id] = row
        elif row.state == "stopped_early" and self._stopped:
            self._rows.setdefault(row.policy_id, row)


def measured(outcome: JobOutcome) -> Measurement | None:
    """What a job measured."""
    if outcome.measurement is None:
        return None
    return Measurement.from_json([dict(row) for row in outcome.measurement])
