"""A member on its way out: policy.yaml, the deployable model, metrics.json, MODEL_CARD.md.

`export` takes a trial of a study, `apply_policy` a policy file alone, `verify` measures what they
wrote again. Either way the file that is handed over is the one that was measured. The evaluator is
asked for once nothing is left to refuse without it, as building one may train a model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compressors.errors import UserError, choices
from compressors.policies import policy_yaml
from compressors.policies.policy_rules import check, expand
from evaluation.measurement import Measurement
from search.exports import package
from search.exports.stated import Package, refuse_simulation
from search.exports.verify import TOLERANCE, Check, verify
from search.front.front import Front, find
from search.front.front_files import read_validation
from search.front.validate import (
    Evaluates,
    artifact_file,
    exported,
    reference_file,
    timed,
)
from search.study.ledger import StudyRows, TrialRow

__all__ = ["TOLERANCE", "Check", "apply_policy", "export", "verify"]


def export(
    rows: StudyRows, folder: Path, trial: int | None, evaluator: Callable[[], Evaluates]
) -> Path:
    """Write export/<trial>/ in the study's folder; without a trial, the front's best."""
    refuse_simulation(rows)
    front = find(rows)
    row = _chosen(rows, front, trial)
    if row.measurement is None or row.policy is None:
        raise UserError(f"Trial {row.number} kept no policy or figures; choose another.")
    built = evaluator()
    file = artifact_file(row, folder, built)
    measured, reference = _figures(rows, row, folder, file, built)
    made = Package(
        task=rows.task,
        target=rows.target,
        study=rows.name,
        trial=row.number,
        policy=policy_yaml.load(row.policy, source=f"the policy of trial {row.number}"),
        search=row.measurement,
        exported=measured,
        reference=reference,
        record=row.record or {},
    )
    return package.write(folder / package.FOLDER / str(row.number), file, made)


def apply_policy(policy: Path, out: Path, evaluator: Callable[[], Evaluates]) -> Path:
    """Build the deployable model of a policy file, measured like a front's member."""
    read = policy_yaml.read(policy)
    package.refuse_foreign(out)
    built = evaluator()
    target = built.target
    check(expand(read, built.structure), built.structure)  # before anything is written
    with package.workshop(out) as folder:
        evaluation = built.evaluate(read, folder / f"model{target.suffix}")
        base = built.reference(folder).path
        own, timing = timed(built, base, [evaluation.artifact])
        made = Package(
            task=built.task.name,
            target=target.name,
            study=None,
            trial=None,
            policy=read,
            search=evaluation.measurement,
            exported=exported(built, evaluation.artifact, timing),
            reference=exported(built, base, own),
            record=evaluation.record,
        )
        return package.write(out, evaluation.artifact, made)


def _chosen(rows: StudyRows, front: Front, trial: int | None) -> TrialRow:
    complete = {row.number: row for row in rows.complete()}
    members = choices(row.number for row in front.members)
    if trial is None:
        if front.knee is None:
            raise UserError(f"{rows.name} has no complete trial yet; run the search first.")
        return front.knee
    if trial not in complete:
        raise UserError(f"Trial {trial} is not a complete trial; on the front are: {members}.")
    return complete[trial]


def _figures(
    rows: StudyRows, row: TrialRow, folder: Path, file: Path, evaluator: Evaluates
) -> tuple[Measurement, Measurement]:
    """Exported figures of a trial and of the reference: front.json's, else measured now."""
    known = read_validation(folder, rows.uid)
    found = known.of(row)
    if found is not None and known.reference is not None:
        return found, known.reference
    reference = reference_file(rows, folder, evaluator)
    own, timing = timed(evaluator, reference, [file])
    return exported(evaluator, file, timing), exported(evaluator, reference, own)
