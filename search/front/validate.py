"""The front's members measured again, on their exported files, on data the search never saw.

Quality comes from the file itself, on the validation split (to hold against the simulation) and
on the test split (touched here alone). Latency comes from one interleaved run in which the
uncompressed model's file takes part, and is stated in the time that this is remembered to take on
this machine: a machine's pace changes from one run to the next, the ratios hardly do. A file that
is missing is built again from its policy. One that the runtime cannot run costs its own figures and
nobody else's: why is kept in their place.
What front.json already holds is not measured again, unless asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.structures.structure import Structure
from evaluation.artifact_parts import parts
from evaluation.measurement import (
    LATENCY,
    MEASURED_ENERGY,
    P95,
    P99,
    PEAK_MEMORY,
    SIZE,
    THROUGHPUT,
    Measurement,
    Metric,
    Value,
)
from evaluation.measuring.limits import MeasurementError
from evaluation.target import Artifact, Timing
from evaluation.target_extras import why_untimed
from search.front import timekeeping
from search.front.front import Front
from search.front.front_files import Validation, read_validation
from search.study.ledger import StudyRows, TrialRow

SPEEDUP = Metric("speedup", "ratio", "maximize")
P50 = Metric("p50_ms", "ms", "minimize")
FILES = "trials"
Qualities = tuple[Value, Value]  # on the validation split, and on the test split


class Evaluates(Protocol):
    """What is needed of `evaluation.evaluator.Evaluator`."""

    task: Any
    target: Any

    @property
    def structure(self) -> Structure:
        """What of the task's model can be compressed."""
        ...

    def evaluate(self, policy: Policy, artifact_path: Path) -> Any:
        """Build and measure a policy's model; the file lies at the path afterwards."""
        ...

    def reference(self, folder: Path) -> Artifact:
        """The uncompressed model's deployable file, in a folder."""
        ...

    def exported_quality(self, path: Path, split: Any) -> Value:
        """The quality of a deployable file."""
        ...


Step = Callable[[str], None]


def validate(
    rows: StudyRows,
    front: Front,
    folder: Path,
    evaluator: Callable[[], Evaluates],
    *,
    remeasure: bool = False,
    on_step: Step = lambda _: None,
) -> Validation:
    """Exported figures of every member and of the reference; the evaluator is built if needed."""
    known = Validation() if remeasure else read_validation(folder, rows.uid)
    missing = [row for row in front.members if not known.tried(row)]
    if not missing and known.reference is not None:
        return _only(front, known)
    return _measure(rows, front, folder, evaluator(), known, missing, on_step)


def _measure(
    rows: StudyRows,
    front: Front,
    folder: Path,
    evaluator: Evaluates,
    known: Validation,
    missing: Sequence[TrialRow],
    on_step: Step,
) -> Validation:
    on_step("the uncompressed model")
    reference = reference_file(rows, folder, evaluator)
    files = []
    for row in missing:
        on_step(f"trial {row.number}")
        files.append(artifact_file(row, folder, evaluator))
    on_step(f"scoring {len(files)} files")
    base = qualities(evaluator, reference)
    scores, broken = _scored(evaluator, files)
    on_step(f"timing {len(scores)} files beside the uncompressed model")
    own, times, floor, stopped = _timed_with_floor(evaluator, reference, list(scores))
    broken.update(stopped)
    policies = {file: row.policy_id or "" for row, file in zip(missing, files, strict=True)}
    members = {
        policies[file]: _stated(file, found, times[file])
        for file, found in scores.items()
        if file not in broken
    }
    noisy = [policies[file] for file, timing in times.items() if timing and timing.noisy]
    return _only(
        front,
        Validation(
            {**known.members, **members},
            _stated(reference, base, own),
            timekeeping.kept(evaluator.target, known.timing, noisy, own, floor),
            {**known.unmeasured, **{policies[file]: why for file, why in broken.items()}},
        ),
    )


Why = dict[Path, str]  # a file could not be measured


def _scored(evaluator: Evaluates, files: Sequence[Path]) -> tuple[dict[Path, Qualities], Why]:
    """The qualities of the files that run, and why the others do not."""
    found: dict[Path, Qualities] = {}
    broken: Why = {}
    for file in files:
        try:
            found[file] = qualities(evaluator, file)
        except MeasurementError as error:
            broken[file] = str(error)
    return found, broken


def _timed_with_floor(
    evaluator: Evaluates, reference: Path, files: Sequence[Path]
) -> tuple[Timing | None, dict[Path, Timing | None], Timing | None, Why]:
    """The reference's timing, each file's, and the dispatch floor's where the target measures.

    All in one run: a floor of another minute may lie above files that it is beneath. Where that
    stops the runtime, one by one, which tells whom it was: the last of what is returned.
    """
    with TemporaryDirectory(prefix="paredown-floor-") as folder:
        floor = _floor(evaluator.target, Path(folder))
        all_files = [*files, *([floor] if floor else [])]
        broken: Why = {}
        try:
            own, *others = timed(evaluator, reference, all_files)
            times = dict(zip(all_files, others, strict=True))
        except MeasurementError:
            (own,) = timed(evaluator, reference, [])
            times, broken = _one_by_one(evaluator, reference, all_files)
        lowest = times.pop(floor, None) if floor else None
        return own, times, lowest, {file: why for file, why in broken.items() if file != floor}


def _one_by_one(
    evaluator: Evaluates, reference: Path, files: Sequence[Path]
) -> tuple[dict[Path, Timing | None], Why]:
    times: dict[Path, Timing | None] = {}
    broken: Why = {}
    for file in files:
        try:
            times[file] = timed(evaluator, reference, [file])[1]
        except MeasurementError as error:
            broken[file] = str(error)
    return times, broken


def _floor(target: Any, folder: Path) -> Path | None:
    if target.basis != "measured" or why_untimed(target) is not None:
        return None
    from evaluation.measuring.floor import floor_file

    return floor_file(target, folder)


def timed(evaluator: Evaluates, reference: Path, files: Sequence[Path]) -> list[Timing | None]:
    """The reference's timing, then each file's; None where the target cannot time here."""
    target = evaluator.target
    if why_untimed(target) is not None:
        return [None] * (1 + len(files))
    base = evaluator.reference(reference.parent)
    known = target.latency(base, base).value
    return [*timekeeping.stated(target.compare(reference, [reference, *files]), known)]


def exported(evaluator: Evaluates, file: Path, timing: Timing | None) -> Measurement:
    """Everything that is stated of a deployable file."""
    return _stated(file, qualities(evaluator, file), timing)


def _stated(file: Path, found: Qualities, timing: Timing | None) -> Measurement:
    speed = [] if timing is None else _speed(timing)
    return Measurement((*found, Value(SIZE, size(file)), *speed))


def _speed(timing: Timing) -> list[Value]:
    """Latency and speed-up, then what a server would see, as far as the target measures it."""
    figures = {
        P50: timing.p50_ms,
        P95: timing.p95_ms,
        P99: timing.p99_ms,
        THROUGHPUT: timing.throughput,
        PEAK_MEMORY: timing.peak_memory_bytes,
        MEASURED_ENERGY: timing.energy_mj,
    }
    return [
        Value(LATENCY, timing.median_ms, timing.spread_ms),
        Value(SPEEDUP, timing.speedup, timing.speedup_spread),
        *(Value(metric, figure) for metric, figure in figures.items() if figure is not None),
    ]


def qualities(evaluator: Evaluates, file: Path) -> Qualities:
    """The file's quality on the validation split, and on the test split under its own name."""
    validation = evaluator.exported_quality(file, "validation")
    test = evaluator.exported_quality(file, "test")
    named = replace(test.metric, name=f"test_{test.metric.name}")
    return validation, replace(test, metric=named)


def size(file: Path) -> int:
    """The bytes of a file and what belongs to it, or of a folder with everything in it."""
    within = file.rglob("*") if file.is_dir() else parts(file)
    return sum(part.stat().st_size for part in within if part.is_file())


def artifact_file(row: TrialRow, folder: Path, evaluator: Evaluates) -> Path:
    """A trial's deployable file, built again from its policy where it is gone or not whole."""
    file = folder / (row.artifact or f"{FILES}/{row.number}{evaluator.target.suffix}")
    if not _whole(file, row):
        file.parent.mkdir(parents=True, exist_ok=True)
        policy = policy_yaml.load(row.policy or "", source=f"the policy of trial {row.number}")
        evaluator.evaluate(policy, file)
    return file


def _whole(file: Path, row: TrialRow) -> bool:
    """Whether the file is there, as large as it was when it was measured."""
    if not file.exists():
        return False
    values = row.measurement.values if row.measurement else ()
    return all(size(file) == value.value for value in values if value.metric == SIZE)


def reference_file(rows: StudyRows, folder: Path, evaluator: Evaluates) -> Path:
    """The uncompressed model's deployable file: the identity trial's, or built for this."""
    identity = reference_trial(rows)
    if identity is not None:
        return artifact_file(identity, folder, evaluator)
    (folder / FILES).mkdir(parents=True, exist_ok=True)
    return evaluator.reference(folder / FILES).path


def reference_trial(rows: StudyRows) -> TrialRow | None:
    """The trial of the uncompressed model, if the study holds one."""
    identity = policy_yaml.policy_id(Policy())
    return next((row for row in rows.complete() if row.policy_id == identity), None)


def _only(front: Front, validation: Validation) -> Validation:
    """The validation of present members alone."""
    present = {row.policy_id for row in front.members}
    members = {policy: found for policy, found in validation.members.items() if policy in present}
    broken = {policy: why for policy, why in validation.unmeasured.items() if policy in present}
    return replace(validation, members=members, unmeasured=broken)
