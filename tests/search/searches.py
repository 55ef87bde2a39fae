"""Searches over the tiny task, for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from compressors.structures.inspection import inspect_model
from evaluation.evaluator import Evaluator
from evaluation.measurement import ERROR
from search.driver.driver import Search
from search.driver.trial_job import WorkerSpec
from search.driver.worker import build_evaluator, run_job
from search.engines.base import Engine, JobSource
from search.samplers import Random, Sampler
from search.space.building import build_space
from search.space.options import RecoveryOptions, SpaceOptions
from search.space.space import Space
from search.study.objectives import objectives_of
from tests.search.tiny import TinyTarget, TinyTask

ROOT = Path(__file__).parents[2]
SMALL = SpaceOptions(recovery=RecoveryOptions(epochs=(0, 1), learning_rate=(1e-3, 1e-2)))


class InlineEngine:
    """Runs jobs in this process; interrupts itself after so many outcomes."""

    workers = 1

    def __init__(self, interrupt_after: int | None = None) -> None:
        self._left = interrupt_after

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        evaluator = build_evaluator(spec)
        while (job := source.next_job()) is not None:
            if self._left == 0:
                raise KeyboardInterrupt
            source.finish(run_job(evaluator, job, Path(spec.folder)))
            self._left = None if self._left is None else self._left - 1


def tiny_space(options: SpaceOptions = SMALL) -> Space:
    task = TinyTask()
    example = next(iter(task.batches("calibration"))).args
    return build_space(inspect_model(task.model(), example), TinyTarget().capability, options)


@cache
def tiny_evaluator() -> Evaluator:
    return Evaluator(TinyTask(), TinyTarget())


def tiny_search(
    folder: Path,
    engine: Engine | None = None,
    sampler: Sampler | None = None,
    task: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    **changes: Any,
) -> Search:
    spec = WorkerSpec(
        task={"_target_": "tests.search.tiny.TinyTask", "name": "tiny", **(task or {})},
        target={"_target_": "tests.search.tiny.TinyTarget", "name": "store", **(target or {})},
        folder=str(folder),
        modules=(str(ROOT),),
    )
    search = Search(
        name="study",
        folder=folder,
        storage=f"sqlite:///{folder / 'study.db'}",
        space=tiny_space(),
        objectives=objectives_of(("quality", "size_bytes"), ERROR),
        quality=ERROR,
        sampler=sampler or Random(),
        engine=engine or InlineEngine(),
        worker=spec,
        price=lambda probe: tiny_evaluator().price(probe),
        trials=8,
    )
    return replace(search, **changes)
