"""The front on disk: front.json, front.csv and the members' policies.

Knows the form of front.json, which others build on; knows nothing of how a value was measured.
Every value stands with its spread, and `metrics` gives the unit and direction of each name.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from evaluation.measurement import Measurement, Metric, Value
from search.atomic import copy, write_text
from search.front import timekeeping
from search.front.front import Front
from search.front.timekeeping import Timekeeping
from search.study.ledger import StudyRows, TrialRow

VERSION = 1
JSON = "front.json"
CSV = "front.csv"
POLICIES = "policies"


@dataclass(frozen=True)
class Validation:
    """What was measured on exported files: of members by policy id, and of the reference."""

    members: Mapping[str, Measurement] = field(default_factory=dict)
    reference: Measurement | None = None
    timing: Timekeeping | None = None
    unmeasured: Mapping[str, str] = field(default_factory=dict)  # why, by policy id

    def tried(self, row: TrialRow) -> bool:
        """Whether a trial's file was measured, or could not be."""
        return self.of(row) is not None or row.policy_id in self.unmeasured

    def of(self, row: TrialRow) -> Measurement | None:
        """The exported figures of a trial, if its file was measured."""
        return self.members.get(row.policy_id or "")

    def noisy(self, row: TrialRow) -> bool:
        """Whether a trial's file was timed on a machine that was not quiet."""
        return self.timing is not None and row.policy_id in self.timing.noisy


def write(folder: Path, rows: StudyRows, front: Front, validation: Validation) -> None:
    """Write the policies, front.csv and, last, front.json, which names them."""
    _write_policies(folder / POLICIES, front)
    write_text(folder / CSV, to_csv(front, validation))
    write_text(folder / JSON, json.dumps(to_json(rows, front, validation), indent=2) + "\n")


def to_json(rows: StudyRows, front: Front, validation: Validation) -> dict[str, Any]:
    """The whole of front.json."""
    return {
        "version": VERSION,
        "study": rows.name,
        "study_uid": rows.uid,
        "task": rows.task,
        "target": rows.target,
        "simulated": rows.simulated,
        "objectives": [asdict(objective) for objective in rows.objectives],
        "metrics": _metrics(rows, validation),
        "trials": counts(rows),
        "cost": {
            "seconds": round(sum(row.seconds for row in rows.took()), 3),
            "evaluations": round(rows.evaluations, 3),
        },
        "timing": timekeeping.to_json(validation.timing),
        "reference": {**values_json(rows.reference), "exported": values_json(validation.reference)},
        **_volume(rows, front),
        "best": front.knee.number if front.knee else None,
        "members": [_member(row, validation) for row in front.members],
    }


def _volume(rows: StudyRows, front: Front) -> dict[str, Any]:
    """The hypervolume with what it is measured in and from.

    A stated reference point has quality as it is and costs as shares of the uncompressed model's;
    the hypervolume is then of such values too, divided by the box from zero to the point.
    """
    stated = rows.point is not None
    point = rows.point or front.reference_point
    return {
        "hypervolume": front.hypervolume,
        "hypervolume_unit": "reference box" if stated else "objectives",
        "hypervolume_share": front.share,
        "reference_point": list(point) if point else None,
        "reference_point_unit": "relative" if stated else "objectives",
    }


def counts(rows: StudyRows) -> dict[str, int]:
    """How many trials ended in which way."""
    ends = ("complete", "failed", "stopped_early")
    return {end: sum(row.state == end for row in rows.trials) for end in ends}


def to_csv(front: Front, validation: Validation) -> str:
    """One line a member: search and exported values, spreads beside them."""
    table = [_flat(row, validation) for row in front.members]
    columns = list(dict.fromkeys(column for line in table for column in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def read(folder: Path) -> dict[str, Any] | None:
    """front.json as it stands, or None where there is none."""
    path = folder / JSON
    if not path.exists():
        return None
    with readable(folder):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path} is not a front of version {VERSION}.")
    return content


def read_of(folder: Path, uid: str) -> dict[str, Any] | None:
    """front.json where it is of the study with this uid; another study's says nothing of it."""
    content = read(folder)
    return content if content and content.get("study_uid", "") == uid else None


def read_validation(folder: Path, uid: str) -> Validation:
    """The exported figures that front.json already holds of the study with this uid."""
    content = read_of(folder, uid)
    if content is None:
        return Validation()
    with readable(folder):
        return _validation(content)


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn a front.json that lacks what it should hold into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        path = folder / JSON
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); remove it and write it "
            f"again: paredown front {folder}."
        ) from error


def _validation(content: Mapping[str, Any]) -> Validation:
    metrics = {m["name"]: Metric(**m) for m in content.get("metrics", [])}

    def measurement(values: Mapping[str, Any]) -> Measurement | None:
        known = [(metrics[name], v) for name, v in values.items() if name in metrics]
        return Measurement(tuple(Value(m, v["value"], v["spread"]) for m, v in known))

    members = {m["policy_id"]: measurement(m["exported"]) for m in content["members"]}
    reference = content["reference"].get("exported") or {}
    return Validation(
        members={policy: found for policy, found in members.items() if found and found.values},
        reference=measurement(reference) if reference else None,
        timing=timekeeping.from_json(content),
        unmeasured={
            m["policy_id"]: str(m["unmeasured"]) for m in content["members"] if m.get("unmeasured")
        },
    )


def _write_policies(folder: Path, front: Front) -> None:
    """The members' policies and best.yaml; policies of former members are removed."""
    written = {f"{row.number}.yaml": row.policy for row in front.members if row.policy}
    for name, policy in written.items():
        write_text(folder / name, policy)
    best = folder / "best.yaml"
    if front.knee and f"{front.knee.number}.yaml" in written:
        copy(folder / f"{front.knee.number}.yaml", best)
    else:
        best.unlink(missing_ok=True)
    for path in folder.glob("*.yaml"):
        if path != best and path.name not in written and path.stem.isdigit():
            path.unlink()


def _member(row: TrialRow, validation: Validation) -> dict[str, Any]:
    return {
        "trial": row.number,
        "policy": f"{POLICIES}/{row.number}.yaml",
        "policy_id": row.policy_id,
        "baseline": row.baseline is not None,
        "baseline_name": row.baseline,
        "feasible": row.feasible,
        "predicted": dict(row.predicted),  # by the sampler, before the trial
        "search": values_json(row.measurement),
        "exported": values_json(validation.of(row)),
        "noisy": validation.noisy(row),
        "unmeasured": validation.unmeasured.get(row.policy_id or ""),
    }


def values_json(measurement: Measurement | None) -> dict[str, dict[str, float | None]]:
    """Values with their spreads, by name."""
    if measurement is None:
        return {}
    return {v.metric.name: {"value": v.value, "spread": v.spread} for v in measurement.values}


def _metrics(rows: StudyRows, validation: Validation) -> list[dict[str, str]]:
    sources = [rows.reference, validation.reference, *validation.members.values()]
    sources += [row.measurement for row in rows.complete()]
    found: dict[str, Metric] = {}
    for value in _all_values(sources):
        found.setdefault(value.metric.name, value.metric)
    return [asdict(metric) for metric in found.values()]


def _all_values(measurements: Iterable[Measurement | None]) -> Iterable[Value]:
    return (value for found in measurements if found for value in found.values)


def _flat(row: TrialRow, validation: Validation) -> dict[str, object]:
    line: dict[str, object] = {
        "trial": row.number,
        "policy_id": row.policy_id,
        "baseline": row.baseline or "",
        "feasible": row.feasible,
        "noisy": validation.noisy(row),
        **{f"predicted_{name}": value for name, value in row.predicted.items()},
    }
    for where, found in (("search", row.measurement), ("exported", validation.of(row))):
        for value in found.values if found else ():
            line[f"{where}_{value.metric.name}"] = value.value
            if value.spread is not None:
                line[f"{where}_{value.metric.name}_spread"] = value.spread
    return line
