"""Do exported files still give what was promised?

Measures the quality of the front's files and of everything under export/ again, and holds it
against what front.json and metrics.json record. Sizes and hashes are told; quality decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from evaluation.artifact_parts import parts
from evaluation.measurement import Value
from search.exports.package import FOLDER, METRICS, sha256
from search.exports.stated import refuse_simulation
from search.front import front_files
from search.front.validate import Evaluates, artifact_file, qualities
from search.study.ledger import StudyRows

TOLERANCE = 0.01  # points of a quality that is a fraction, share of the record of every other
RECORDS = ("exported", "search")
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, StopIteration)


@dataclass(frozen=True)
class Check:
    """One file's quality on one split, against one record of it."""

    file: Path
    name: str
    record: str  # "exported" or "search"
    recorded: float
    measured: Value | None  # None: the file is gone
    tolerance: float
    note: str = ""

    @property
    def departure(self) -> float:
        """How far the measured quality lies from the record, in the tolerance's terms."""
        if self.measured is None:
            return float("inf")
        gap = abs(self.measured.value - self.recorded)
        return gap if self.measured.metric.unit == "fraction" else gap / (abs(self.recorded) or 1.0)

    @property
    def passed(self) -> bool:
        """Whether the promise is kept."""
        return self.departure <= self.tolerance + 1e-12


def verify(
    rows: StudyRows,
    folder: Path,
    evaluator: Callable[[], Evaluates],
    tolerance: float = TOLERANCE,
    export: Path | None = None,
) -> list[Check]:
    """A check for every record of every exported file, or of one export's folder alone.

    Those that fail have not `passed`.
    """
    if not tolerance >= 0:
        raise UserError(f"tolerance cannot be {tolerance}; valid: a number from 0.")
    refuse_simulation(rows)
    members = [] if export else _members(rows, folder)
    exports = [export / METRICS] if export else sorted((folder / FOLDER).glob(f"*/{METRICS}"))
    if not members and not exports:
        raise UserError(
            f"{folder} holds no exported figures to verify; write them: paredown front {folder}."
        )
    built = evaluator()
    checks = [c for m in members for c in _member(m, rows, folder, built, tolerance)]
    return checks + [c for path in exports for c in _export(path, built, tolerance)]


def exported_members(rows: StudyRows, folder: Path) -> list[int]:
    """The trials of the front's members whose files were measured."""
    with front_files.readable(folder):
        return [int(member["trial"]) for member in _members(rows, folder)]


def _members(rows: StudyRows, folder: Path) -> list[Mapping[str, Any]]:
    content = front_files.read_of(folder, rows.uid)
    with front_files.readable(folder):
        return [m for m in content["members"] if m["exported"]] if content else []


def _member(
    member: Mapping[str, Any],
    rows: StudyRows,
    folder: Path,
    evaluator: Evaluates,
    tolerance: float,
) -> Iterator[Check]:
    with front_files.readable(folder):
        trial = member["trial"]
        records = {kind: _values(member[kind]) for kind in RECORDS}
    row = next((row for row in rows.trials if row.number == trial), None)
    if row is None:
        raise UserError(f"front.json names trial {trial}, which the study does not hold.")
    file = artifact_file(row, folder, evaluator)
    yield from _checks(file, records, evaluator, tolerance)


def _values(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value["value"]) for name, value in record.items()}


def _export(path: Path, evaluator: Evaluates, tolerance: float) -> Iterator[Check]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        file = path.parent / content["file"]
        hashed = content["sha256"]
        records = {kind: _values(content[kind]) for kind in RECORDS}
        name, recorded = next(iter(records["exported"].items()))
    except (OSError, *MALFORMED) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); export the trial again."
        ) from error
    if not all(part.exists() for part in parts(file)):
        yield Check(file, name, "exported", recorded, None, tolerance, "the file is gone")
        return
    note = "" if sha256(file) == hashed else "the file was changed since its export"
    yield from _checks(file, records, evaluator, tolerance, note)


def _checks(
    file: Path,
    records: Mapping[str, Mapping[str, float]],
    evaluator: Evaluates,
    tolerance: float,
    note: str = "",
) -> Iterator[Check]:
    for measured in qualities(evaluator, file):
        name = measured.metric.name
        for record in RECORDS:
            recorded = records[record].get(name)
            if recorded is not None:
                yield Check(file, name, record, recorded, measured, tolerance, note)
