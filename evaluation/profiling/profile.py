"""Builds a latency table on the device: every layer shape of a task's model, then whole policies.

The file is written anew after every few rows, so that a profile started again measures what is
missing and nothing else. Knows nothing of who looks on: `tell` is called with what is done, of how
much, and what comes next.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from compressors.errors import UserError
from compressors.policies.policy import Policy
from compressors.stack import Stack
from evaluation.profiling import table_file
from evaluation.profiling.abilities import capability_of, facts_of
from evaluation.profiling.device import Device
from evaluation.profiling.jobs import check_precisions, jobs_of
from evaluation.profiling.models import Candidate, FewSamples, candidates
from evaluation.profiling.pricing import Prices
from evaluation.profiling.rows import Bench
from evaluation.profiling.table_file import KINDS, PACE, POLICY, LatencyTable, Row
from evaluation.profiling.whole import DEPARTURE, Tried, Whole, corrected
from evaluation.target import Precision, Target
from evaluation.target_extras import why_untimed
from evaluation.task import Task
from evaluation.work import work_of

TOGETHER = 4  # rows or policies that take turns
FEWEST = 4  # policies
DATE, ENERGY = "date", "energy"
OWN = (DATE, DEPARTURE, ENERGY)  # facts in which two runs of one profile may differ

Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    precisions: tuple[Precision, ...] = ()  # besides float; none: all that the target has
    policies: int = 16  # whole models, of which every fourth is kept from the fit

    def __post_init__(self) -> None:
        if self.policies < FEWEST:
            raise UserError(
                f"policies cannot be {self.policies}; valid: a whole number from {FEWEST}."
            )


@dataclass(frozen=True)
class Profiled:
    """The finished table, and how well it does on policies that its correction never saw."""

    table: LatencyTable
    departures: tuple[float, ...]  # relative, one a policy
    left_out: tuple[str, ...]  # rows that could not be measured, and why


def _say_nothing(done: int, total: int, what: str) -> None:
    """Nobody looks on."""


class Profile:
    """One target's table of one task, in one file."""

    def __init__(self, target: Target, task: Task, path: Path, settings: Settings) -> None:
        reason = why_untimed(target)
        if reason:
            raise UserError(f"{target.name} cannot be profiled here: {reason}.")
        check_precisions(target.capability, settings.precisions)
        self._target, self._path, self._settings = target, path, settings
        self._device = Device(target)
        self._table = self._begun(task.name)
        self._stack = Stack(task.model(), FewSamples(task))
        self._data = FewSamples(task)

    def run(self, tell: Tell = _say_nothing) -> Profiled:
        """Measure what is missing, fit, and write the whole table."""
        original = self._stack.apply(Policy())
        jobs = jobs_of(original, self._target.capability, self._settings.precisions)
        if not jobs:
            raise UserError("The task's model has no layer that can be timed.")
        weights = sum(work.weights for work in work_of(original))
        total = len(jobs) + self._settings.policies
        left_out: list[str] = []
        with tempfile.TemporaryDirectory(prefix="paredown-profile-") as folder:
            bench = Bench(
                self._target, self._device, Path(folder), jobs[0].shape, weights, self._pace()
            )
            missing = [job for job in jobs if job.key not in self._keys()]
            while missing:
                tell(len(jobs) - len(missing), total, " ".join(missing[0].key))
                rows, refused = bench.layers(missing[:TOGETHER])
                left_out += refused
                self._add(rows, bench)
                missing = missing[TOGETHER:]
            models = self._models()
            untimed = [m for m in models if (POLICY, m.name, "") not in self._keys()]
            while untimed:
                tell(total - len(untimed), total, "whole policies")
                self._add(bench.models(untimed[:TOGETHER], self._data), bench)
                untimed = untimed[TOGETHER:]
        tell(total, total, "")
        return self._finished(models, left_out)

    def _begun(self, task: str) -> LatencyTable:
        """The table that is there, if it was begun under the same conditions, or an empty one."""
        facts = {
            "task": task,
            **self._device.facts(),
            **facts_of(self._target.capability),
            ENERGY: self._device.energy_basis or "none",
            DATE: datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        }
        if not self._path.exists():
            return LatencyTable(facts)
        there = table_file.read(self._path)
        for name, value in facts.items():
            if name not in OWN and there.facts.get(name) != value:
                raise UserError(
                    f"'{self._path}' was begun with {name} {there.facts.get(name)}, and it is "
                    f"{value} here; name another file, or take that one away."
                )
        return there

    def _keys(self) -> set[tuple[str, str, str]]:
        return {row.key for row in self._table.rows}

    def _pace(self) -> float | None:
        return next((row.median_ms for row in self._table.of(PACE)), None)

    def _add(self, rows: Sequence[Row], bench: Bench) -> None:
        """Write the file with more rows; what is known stays as it is."""
        pace = [] if self._pace() is not None or bench.pace_ms is None else [bench.pace_row()]
        known = (*self._table.rows, *pace, *rows)
        self._table = replace(self._table, rows=known)
        table_file.write(self._path, self._table)

    def _models(self) -> list[Candidate]:
        able = capability_of(self._table)
        wanted = self._settings.policies
        prices = Prices(self._table.rows)
        return list(candidates(self._stack, self._target, able, prices, wanted))

    def _finished(self, models: Sequence[Candidate], left_out: Sequence[str]) -> Profiled:
        """The table with its correction, and how that does on what was held out."""
        measured = {row.shape: row for row in self._table.of(POLICY)}
        prices = Prices(self._table.rows)
        tried = [
            Tried(m.held_out, work_of(m.compressed), measured[m.name])
            for m in models
            if m.name in measured
        ]
        kept = self._table.of(*KINDS, PACE, POLICY)
        rows = (*kept, *corrected([one for one in tried if not one.held_out], prices))
        whole = Whole(LatencyTable(self._table.facts, rows), 0.0)
        departures = tuple(
            whole.latency(one.work).value / one.measured.median_ms - 1
            for one in tried
            if one.held_out
        )
        facts = {**self._table.facts, DEPARTURE: _said(departures)}
        self._table = LatencyTable(facts, rows)
        table_file.write(self._path, self._table)
        return Profiled(self._table, departures, tuple(left_out))


def _said(departures: Sequence[float]) -> str:
    sizes = [abs(each) for each in departures]
    mean, worst = (sum(sizes) / len(sizes), max(sizes)) if sizes else (0.0, 0.0)
    return f"{mean:.4f} on average, {worst:.4f} at most, of {len(sizes)} policies held out"
