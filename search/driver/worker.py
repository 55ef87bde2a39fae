"""A worker: holds the task and the target, evaluates one policy after another.

This is the trial boundary, where every exception is caught: it becomes a sentence, with the
traceback kept. Workers never see the study's storage.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compressors.errors import UserError
from compressors.policies import policy_yaml
from evaluation.fidelity import Fidelity
from evaluation.measurement import Measurement
from search.driver.trial_job import REFERENCE_JOB, Broken, Job, JobOutcome, WorkerSpec

if TYPE_CHECKING:
    from evaluation.evaluator import Evaluator

TRIALS = "trials"  # the folder of artifacts in the study's folder
MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def pin_threads(threads: int) -> None:
    """Hold this process to so many threads; before torch or numpy is imported, or too late."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def build_evaluator(spec: WorkerSpec) -> Evaluator:
    """The task and the target, built from their configuration."""
    pin_threads(spec.threads)
    os.environ.update(spec.environment)
    for folder in spec.modules:
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that a user's folder never shadows our packages
    import torch

    from evaluation.evaluator import Evaluator
    from search.configuration.build import instantiate

    torch.set_num_threads(spec.threads)
    evaluator = Evaluator(instantiate(spec.task, "task"), instantiate(spec.target, "target"))
    gc.collect()
    gc.freeze()  # what is here stays; collecting after a trial would go through all of it
    return evaluator


def load(spec: WorkerSpec) -> Evaluator | Broken:
    """The evaluator, or why there is none."""
    try:
        return build_evaluator(spec)
    except Exception as error:
        by_user = isinstance(error, UserError)
        reason = str(error) if by_user else in_a_sentence(error)
        return Broken(reason, by_user, traceback.format_exc())


def run_job(evaluator: Evaluator, job: Job, folder: Path) -> JobOutcome:
    """Answer a job's probe or evaluate its policy; what goes wrong becomes the outcome's reason."""
    started = time.perf_counter()
    try:
        answer = _evaluated if job.probe is None else _probed
        return replace(answer(evaluator, job, folder), seconds=time.perf_counter() - started)
    except Exception as error:
        return JobOutcome(
            number=job.number,
            seconds=time.perf_counter() - started,
            reason=in_a_sentence(error),
            traceback=traceback.format_exc(),
            machine=_machine_fault(error),
        )


def _evaluated(evaluator: Evaluator, job: Job, folder: Path) -> JobOutcome:
    name = "reference" if job.number == REFERENCE_JOB else str(job.number)
    path = folder / TRIALS / f"{name}{evaluator.target.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [dict(row) for row in job.costs or ()]
    found = evaluator.evaluate(
        policy_yaml.load(job.policy),
        path,
        checkpoint=path.with_suffix(".recovery"),
        fidelity=Fidelity(job.share, job.epochs),
        costs=Measurement.from_json(known) if known else None,
    )
    return JobOutcome(
        number=job.number,
        measurement=found.measurement.to_json(),
        record=found.record,
        artifact=str(Path(found.artifact).relative_to(folder)),
        evaluations=found.evaluations,
    )


def _probed(evaluator: Evaluator, job: Job, folder: Path) -> JobOutcome:
    from evaluation.probing import finding_files  # no numpy before its threads are pinned
    from evaluation.probing.probe import Probe

    probe = Probe.from_json(job.probe or {})
    path = finding_files.path_of(folder, probe.key())
    found = evaluator.probe(probe, folder)
    return JobOutcome(
        number=job.number,
        finding=str(path.relative_to(folder)),
        evaluations=found.evaluations,
    )


def _machine_fault(error: BaseException | None) -> bool:
    """Whether the disk is full or cannot be written, at the root of it."""
    if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
        return True
    return error is not None and _machine_fault(error.__cause__)


def in_a_sentence(error: BaseException) -> str:
    """The first line of what an exception says, after its name."""
    lines = str(error).strip().splitlines()
    said = lines[0].rstrip(".") if lines else "no message"
    return f"{type(error).__name__}: {said}."[:400]
