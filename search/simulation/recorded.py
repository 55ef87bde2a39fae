"""A finished study's results, given again to whoever asks for the same policies.

A policy that the record does not hold has no result: the trial fails with that reason, or takes
the results of the recorded policy that differs from it in the fewest places, as one prefers; the
trial's record then says which and by how much.

A rung that the trial climbed when it was recorded gives what it gave then, so a study whose trials
all climbed all rungs (`stopping=rungs stopping.explore=1`) tells what any rule
would have stopped. Without that, short training cannot be told from a record of whole trials,
unless the same policy was recorded with as many epochs. A share of the validation split can: the
whole split's figure, off by as much as chance would have it. A probe is answered by the finding in
the study's folder, if it is the very same probe. Seconds of training and of scoring were not
recorded apart: on a share of the split a trial takes that share of both, and a trial that went up
rungs takes those of all of them, even where it is asked for the whole at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy, changed
from evaluation.fidelity import Fidelity
from evaluation.measurement import Measurement, Metric
from evaluation.probing import finding_files
from evaluation.probing.probe import Finding, Probe
from search.simulation.table import Result, Unknown, on_a_share
from search.study.ledger import StudyRows, TrialRow

Unheld = Literal["fail", "nearest"]


@dataclass(frozen=True)
class Recorded:
    """The results of a study."""

    rows: StudyRows
    folder: Path
    quality: Metric
    unheld: Unheld = "fail"

    @property
    def words(self) -> str:
        """What it is."""
        others = "others fail" if self.unheld == "fail" else "others take the nearest one's"
        held = f"the policies of study {self.rows.name} {self.rows.uid[:8]}".rstrip()
        return f"results recorded for {held}; {others}"

    def result(self, policy: Policy, fidelity: Fidelity) -> Result:
        """What was recorded of a policy."""
        climbed = _climbed(self._held.get(policy_yaml.policy_id(policy)), fidelity)
        if climbed is not None:
            return climbed
        asked = _after(policy, fidelity)
        held = self._held.get(policy_yaml.policy_id(asked))
        if held is not None:
            return self._as_recorded(held, fidelity, {})
        if asked == Policy() and self.rows.reference is not None:
            return Result(self.rows.reference, 0.0, fidelity.share)
        if asked != policy:
            raise Unknown(
                f"The recorded study holds no result of this policy after {fidelity.epochs} epochs."
            )
        if self.unheld == "fail" or not len(self._nearness.rows):
            raise Unknown("The recorded study does not hold this policy.")
        nearest, places = self._nearness.nearest(asked)
        note = {"nearest_trial": nearest.number, "differs_in": places}
        return self._as_recorded(nearest, fidelity, note)

    def price(self, probe: Probe) -> float:
        """What the probe took when it was recorded."""
        found = finding_files.read(finding_files.path_of(self.folder, probe.key()))
        return 0.0 if found is None else found.evaluations

    def finding(self, probe: Probe) -> Finding:
        """What was found, if this was asked."""
        found = finding_files.read(finding_files.path_of(self.folder, probe.key()))
        if found is None:
            raise Unknown("The recorded study does not hold the finding of this probe.")
        return found

    def _as_recorded(self, row: TrialRow, fidelity: Fidelity, note: Mapping[str, Any]) -> Result:
        if row.measurement is None:
            raise Unknown(row.reason or "The trial failed when it was recorded.")
        values = [
            on_a_share(value, fidelity.share, self.rows.uid, row.policy_id)
            if value.metric.name == self.quality.name
            else value
            for value in row.measurement.values
        ]
        record = {**(row.record or {}), **note}
        share = fidelity.share
        return Result(Measurement(tuple(values)), row.seconds * share, share, record=record)

    @cached_property
    def _held(self) -> dict[str, TrialRow]:
        """By policy: the trial that was evaluated, not those that took its results."""
        found: dict[str, TrialRow] = {}
        for row in self.rows.trials:
            told = row.state in ("complete", "failed")
            if told and row.policy_id is not None and _better(row, found.get(row.policy_id)):
                found[row.policy_id] = row
        return found

    @cached_property
    def _nearness(self) -> _Nearness:
        return _Nearness([row for row in self._held.values() if row.state == "complete"])


def _climbed(row: TrialRow | None, fidelity: Fidelity) -> Result | None:
    """What a trial gave at a rung, or in full after rungs; None where it climbed none such.

    Seconds from the start are those of training, of which a rung takes what the last left over.
    """
    if row is None:
        return None
    passed = 0.0
    for rung in row.rungs:
        passed += rung.seconds
        if fidelity == Fidelity(rung.share, rung.epochs):
            return Result(rung.measurement, 0.0, rung.evaluations, passed)
    if not (row.rungs and fidelity.whole and row.measurement is not None):
        return None
    return Result(row.measurement, 0.0, fidelity.share, row.seconds, record=row.record or {})


def _better(row: TrialRow, known: TrialRow | None) -> bool:
    return known is None or (known.state == "failed" and row.state == "complete")


def _after(policy: Policy, fidelity: Fidelity) -> Policy:
    """The policy whose whole training is as long as this one's at the fidelity."""
    recovery = policy.recovery
    if fidelity.epochs is None or fidelity.epochs >= recovery.epochs:
        return policy
    if fidelity.epochs == 0:
        return replace(policy, recovery=type(recovery)(seed=recovery.seed))
    return replace(policy, recovery=replace(recovery, epochs=fidelity.epochs))


class _Nearness:
    """Policies as rows of numbers, so that the nearest of thousands is soon found."""

    def __init__(self, rows: list[TrialRow]) -> None:
        self.rows = rows
        described = [dict(_places(policy_yaml.load(row.policy or ""))) for row in rows]
        names = sorted({name for found in described for name in found})
        self._columns = {name: column for column, name in enumerate(names)}
        self._codes: dict[tuple[str, str], int] = {}
        self._matrix = np.array([self._coded(found)[0] for found in described], dtype=np.int32)

    def nearest(self, policy: Policy) -> tuple[TrialRow, int]:
        """The recorded policy with the fewest differences, and how many; of equals the first."""
        asked, beyond = self._coded(dict(_places(policy)), known=True)
        apart = np.count_nonzero(self._matrix != asked, axis=1)
        best = int(np.argmin(apart))
        return self.rows[best], int(apart[best]) + beyond

    def _coded(self, places: Mapping[str, str], known: bool = False) -> tuple[np.ndarray, int]:
        """The row of codes (0: nothing there, -1: never recorded), and places without a column."""
        row = np.zeros(len(self._columns), dtype=np.int32)
        for name, said in places.items():
            if name not in self._columns:
                continue
            fresh = -1 if known else len(self._codes) + 1
            code = self._codes.get((name, said), fresh)
            if not known:
                self._codes[name, said] = code
            row[self._columns[name]] = code
        return row, sum(name not in self._columns for name in places)


def _places(policy: Policy) -> Iterable[tuple[str, str]]:
    """Everything that a policy says, place by place."""
    for block in policy.remove:
        yield f"remove {block}", "yes"
    for entry in policy.layers:
        for kind in ("heads", "prune", "lowrank", "sparsify", "quantize"):
            step = getattr(entry, kind)
            if step is not None:
                yield f"{kind} {entry.name}", repr(step)
    for name, value in changed(policy.recovery).items():
        yield f"recovery {name}", repr(value)
    yield "whole", repr((policy.rounds, policy.equalize, policy.student))
