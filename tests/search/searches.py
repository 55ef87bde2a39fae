"""Searches over the tiny task, for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from compressors.inspection import inspect_model
from evaluation.measurement import ERROR
from search.driver import Search
from search.engines.base import Engine
from search.engines.local import LocalEngine
from search.objectives import objectives_of
from search.samplers import Random, Sampler
from search.space import Space
from search.space_build import build_space
from search.space_options import RecoveryOptions, SpaceOptions
from search.trial_job import WorkerSpec
from tests.search.tiny import TinyTarget, TinyTask

ROOT = Path(__file__).parents[2]
NO_RECOVERY = SpaceOptions(recovery=RecoveryOptions(epochs=(0, 1), learning_rate=(1e-3, 1e-2)))


def tiny_space(options: SpaceOptions = NO_RECOVERY) -> Space:
    task = TinyTask()
    example = next(iter(task.batches("calibration"))).args
    return build_space(inspect_model(task.model(), example), TinyTarget().capability, options)


def tiny_search(
    folder: Path,
    engine: Engine | None = None,
    sampler: Sampler | None = None,
    task: dict[str, Any] | None = None,
    **changes: Any,
) -> Search:
    spec = WorkerSpec(
        task={"_target_": "tests.search.tiny.TinyTask", "name": "tiny", **(task or {})},
        target={"_target_": "tests.search.tiny.TinyTarget", "name": "store"},
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
        engine=engine or LocalEngine(workers=1),
        worker=spec,
        trials=8,
    )
    return replace(search, **changes)
