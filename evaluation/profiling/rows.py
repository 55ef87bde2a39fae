"""Makes rows: lowers what is to be measured, times it beside the pace, meters it.

The pace is one file that is in every run. Times are stated as if it always took what it took at
first, so that a device that gets hot half-way does not tell two stories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import hypot
from pathlib import Path

from compressors.data import Data
from compressors.errors import UserError
from evaluation.measuring.limits import MeasurementError
from evaluation.profiling.copies import Pair, lowered
from evaluation.profiling.device import Device
from evaluation.profiling.jobs import Job
from evaluation.profiling.layers import LayerShape
from evaluation.profiling.models import Candidate
from evaluation.profiling.table_file import PACE, POLICY, Row
from evaluation.target import FLOAT, Artifact, Precision, Target

LEAST_MS = 1e-6  # of a layer that cannot be told from nothing


@dataclass(frozen=True)
class Timed:
    """A file's time at the pace of the table."""

    median_ms: float
    spread_ms: float


@dataclass
class Bench:
    """Where files lie while they are measured."""

    target: Target
    device: Device
    folder: Path
    of_pace: LayerShape
    weights: int  # of the model at hand
    pace_ms: float | None  # None: nothing was timed yet
    _pace: Artifact | None = field(default=None, init=False)

    def pace_row(self) -> Row:
        """The pace, for the table."""
        assert self.pace_ms is not None
        return Row(PACE, "", "", self.pace_ms, 0.0)

    def layers(self, jobs: Sequence[Job]) -> tuple[list[Row], list[str]]:
        """Rows of layers, and what could not be measured."""
        pairs, refused = [], []
        for number, job in enumerate(jobs):
            try:
                stem = self.folder / f"layer{number}"
                pairs.append(
                    (job, lowered(self.target, job.shape, job.precision, self.weights, stem))
                )
            except UserError as error:
                refused.append(f"{' '.join(job.key)}: {error}")
        try:
            return self._of_layers(pairs), refused
        except MeasurementError:
            return self._one_by_one(pairs, refused)

    def _pair(self, shape: LayerShape, precision: Precision, name: str) -> Pair:
        return lowered(self.target, shape, precision, self.weights, self.folder / name)

    def _one_by_one(
        self, pairs: Sequence[tuple[Job, Pair]], refused: list[str]
    ) -> tuple[list[Row], list[str]]:
        """The same, where one of them stops the runtime."""
        rows = []
        for job, pair in pairs:
            try:
                rows += self._of_layers([(job, pair)])
            except MeasurementError as error:
                refused.append(f"{' '.join(job.key)}: {error}")
        return rows, refused

    def _of_layers(self, pairs: Sequence[tuple[Job, Pair]]) -> list[Row]:
        times = self._times([file for _, pair in pairs for file in (pair.one, pair.several)])
        return [
            self._row(job, pair, one, several)
            for (job, pair), one, several in zip(pairs, times[::2], times[1::2], strict=True)
        ]

    def _row(self, job: Job, pair: Pair, one: Timed, several: Timed) -> Row:
        energies = [
            self.device.energy(file, (job.shape.samples(1),)) for file in (pair.one, pair.several)
        ]
        first, last = energies
        each = None if first is None or last is None else max(0.0, (last - first) / pair.more)
        return Row(
            *job.key,
            max(LEAST_MS, (several.median_ms - one.median_ms) / pair.more),
            hypot(several.spread_ms, one.spread_ms) / pair.more,
            each,
            pair.work.macs,
            pair.work.inputs,
            pair.work.outputs,
        )

    def models(self, models: Sequence[Candidate], data: Data) -> list[Row]:
        """Rows of whole policies."""
        files = []
        for model in models:
            path = self.folder / f"policy{model.name}{self.target.suffix}"
            files.append(self.target.lower(model.compressed, data, path))
        return [
            Row(
                POLICY,
                model.name,
                "",
                timed.median_ms,
                timed.spread_ms,
                self.device.energy(file, model.compressed.example),
            )
            for model, file, timed in zip(models, files, self._times(files), strict=True)
        ]

    def _times(self, files: Sequence[Artifact]) -> list[Timed]:
        if not files:
            return []
        if self._pace is None:
            self._pace = self._pair(self.of_pace, FLOAT, "pace").several
        pace, *timings = self.device.times(self._pace.path, [file.path for file in files])
        if self.pace_ms is None:
            self.pace_ms = pace.median_ms
        base = self.pace_ms
        return [
            Timed(base / each.speedup, base * each.speedup_spread / each.speedup**2)
            for each in timings
        ]
