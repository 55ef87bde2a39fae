"""The loop of a search: ask, evaluate, tell, whatever engine runs the trials.

Only this process touches the study's storage. Started again, a search continues to the same total
of finished trials: those in flight when it ended, however it ended, are asked again.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from compressors.errors import UserError
from evaluation.measurement import Metric
from evaluation.probing.probe import Probe
from search.driver.feed import Feed
from search.driver.judging import Plan
from search.driver.trial_job import WorkerSpec
from search.engines.base import Engine, Simulates
from search.samplers import Sampler, Setting
from search.space.baselines import baselines, can_leave_alone
from search.space.space import Space
from search.stopping.rungs import NOBODY, Rungs
from search.study.identity import identity
from search.study.ledger import Listener, Objective, StudyRows
from search.study.lock import sole_driver
from search.study.objectives import check_constraints, check_point
from search.study.study import Study


@dataclass(frozen=True)
class Search:
    """Everything a search is made of."""

    name: str
    folder: Path
    storage: str  # an Optuna storage's URL
    space: Space
    objectives: tuple[Objective, ...]
    quality: Metric  # the task's own
    sampler: Sampler
    engine: Engine
    worker: WorkerSpec
    price: Callable[[Probe], float]  # what a probe takes at most, in evaluations
    trials: int  # finished trials in all, those of earlier runs included
    hours: float | None = None
    constraints: Mapping[str, float] | None = None
    seed: int = 0
    evaluations: float | None = None  # of all together, those of earlier runs included
    reference_point: tuple[float, ...] | None = None  # see ledger.POINT
    stopping: Rungs = NOBODY

    @property
    def total(self) -> int:
        """How many trials are to be expected in all; one in full takes an evaluation.

        Where none can be the uncompressed model, that takes another.
        """
        if self.evaluations is None:
            return self.trials
        apart = 0 if can_leave_alone(self.space) else 1
        return min(self.trials, math.ceil(self.evaluations) - apart)


def run_search(search: Search, listeners: Sequence[Listener] = ()) -> StudyRows:
    """Search up to the total, then give every row; a KeyboardInterrupt leaves all in order."""
    constraints = dict(search.constraints or {})
    check_constraints(constraints, search.quality)
    check_point(search.reference_point, search.objectives)
    with ExitStack() as held:
        held.enter_context(sole_driver(search.folder, search.storage, search.name))
        held.enter_context(_terminate_as_interrupt())
        study = _open(search, constraints)
        held.callback(_put_back, study)
        for listener in listeners:
            held.callback(listener.closed)
            listener.started(study.rows(), search.total)
        plan = Plan(
            search.space,
            search.objectives,
            search.quality,
            constraints,
            search.trials,
            search.hours,
            search.folder,
            search.engine.price if isinstance(search.engine, Simulates) else search.price,
            search.evaluations,
            search.stopping,
            search.seed,
            search.reference_point,
        )
        feed = Feed(study, plan, listeners, _clock(search.engine))
        feed.take_up()
        if feed.remaining():
            search.engine.run(search.worker, feed)
        return study.rows()


def _open(search: Search, constraints: Mapping[str, float]) -> Study:
    made = identity(
        search.space,
        search.objectives,
        constraints,
        search.worker.task,
        search.worker.target,
        search.quality,
    )
    if isinstance(search.engine, Simulates):
        made["simulated"] = search.engine.simulate(search.space.structure, search.quality)
    study = Study.open(search.storage, search.name, made)
    study.set_point(search.reference_point)
    setting = Setting(
        run_seed(search.seed, study.asked()),
        search.space,
        search.objectives,
        search.quality,
        constraints,
        search.total,
    )
    study.use(search.sampler.build(setting))
    known = {trial.user_attrs.get("baseline") for trial in study.trials()}
    room = search.trials - len(study.trials())
    for baseline in [b for b in baselines(search.space) if b.name not in known][: max(0, room)]:
        study.enqueue(baseline.params, baseline.name)
    return study


def _clock(engine: Engine) -> Callable[[], float]:
    """The seconds that an engine lives by."""
    return (lambda: engine.elapsed) if isinstance(engine, Simulates) else time.monotonic


def run_seed(seed: int, asked: int) -> int:
    """The sampler's seed of a run: another one a resume, and the same whenever it is repeated."""
    return (seed + asked * 1_000_003) % 2**32


def _put_back(study: Study) -> None:
    with suppress(UserError):  # the storage is away; the next start puts them back
        study.put_back()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """End in order on SIGTERM too, as schedulers send it before they take a machine away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
