"""`paredown search`, put together: settings in, a front in the study's folder out.

The only place where every part meets. Whatever the user can mend is found before the study's
folder is touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressors.errors import UserError
from compressors.policies.policy import ORIGINAL
from search.configuration import compose, user_path
from search.configuration.build import instantiate
from search.configuration.settings import Settings
from search.starting import Preparation, StudyFile, finished

if TYPE_CHECKING:
    from rich.console import Console

    from compressors.structures.structure import Structure
    from evaluation.evaluator import Evaluator
    from search.driver.driver import Search
    from search.space.options import SpaceOptions
    from search.space.space import Space
    from search.study.ledger import Listener, StudyRows

PASSED_ON = ("PAREDOWN_CACHE",)  # variables that workers on other machines need as well


@dataclass(frozen=True)
class How:
    """Who chooses and who runs; built first, as it costs nothing and may be refused."""

    sampler: Any
    engine: Any


def run(settings: Settings, *, dry_run: bool) -> int:
    """Search to the total, validate the front, say where everything lies."""
    from rich.console import Console

    compose.check_nodes(settings)
    console = Console()
    how = How(instantiate(settings.sampler, "sampler"), instantiate(settings.engine, "engine"))
    evaluator, space = prepare(settings)
    search = assemble(settings, evaluator, space, how)
    if dry_run:
        from search.space.table import print_space

        print_space(space, console, evaluator.target)
        return 0
    rows = _search(search, settings, evaluator, console)
    _finish(rows, settings, evaluator, console)
    return 0


def prepare(settings: Settings) -> tuple[Evaluator, Space]:
    """The task on the target, and the space of what can be done to it there."""
    from evaluation.evaluator import Evaluator
    from search.space.building import build_space

    try:
        evaluator = Evaluator(
            instantiate(settings.task, "task"), instantiate(settings.target, "target")
        )
        structure = _structure(evaluator, settings.space)
    except FileNotFoundError as error:
        raise UserError(f"The task's model cannot be made: {error}.") from error
    return evaluator, build_space(structure, evaluator.target.capability, settings.space)


def _structure(evaluator: Evaluator, options: SpaceOptions) -> Structure:
    """What can be compressed of the architecture that the space starts from.

    A teacher or student that the task does not offer is refused here, not in a trial.
    """
    from compressors.recovery.schools import teacher_named

    task, teacher = evaluator.task, options.recovery.teacher
    if teacher != ORIGINAL:
        teacher_named(task, task.model(), teacher)
    return evaluator.structure_of(options.student)


def assemble(settings: Settings, evaluator: Evaluator, space: Space, how: How) -> Search:
    """The search as the driver takes it."""
    from evaluation.target_extras import why_untimed
    from search.driver.driver import Search
    from search.driver.trial_job import WorkerSpec
    from search.study.objectives import check_constraints, check_point, check_timing, objectives_of

    quality, target = evaluator.task.metric, evaluator.target
    asked = (*settings.objectives, *settings.constraints.given())
    check_timing(asked, target.name, why_untimed(target))
    check_constraints(settings.constraints.given(), quality)
    objectives = objectives_of(settings.objectives, quality)
    check_point(settings.reference_point, objectives)
    stopping = instantiate(settings.stopping, "stopping")
    stopping.check([objective.name for objective in objectives], quality.name)
    threads = settings.target.get("threads", 1)
    return Search(
        name=settings.study.name,
        folder=settings.folder,
        storage=settings.storage_url,
        space=space,
        objectives=objectives,
        quality=quality,
        sampler=how.sampler,
        engine=how.engine,
        worker=WorkerSpec(
            task=settings.task,
            target=settings.target,
            folder=str(settings.folder.absolute()),
            threads=threads if isinstance(threads, int) else 1,
            modules=(str(user_path.HOME), *settings.modules),
            environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        ),
        price=evaluator.price,
        trials=settings.budget.most_trials,
        evaluations=settings.budget.evaluations,
        hours=settings.budget.hours,
        constraints=settings.constraints.given(),
        seed=settings.seed,
        stopping=stopping,
        reference_point=settings.reference_point,
    )


def _search(
    search: Search, settings: Settings, evaluator: Evaluator, console: Console
) -> StudyRows:
    from search.driver.driver import run_search
    from search.views.progress import progress_listener

    file = StudyFile(settings)
    listeners: list[Listener] = [
        file,
        *_preparations(search, evaluator, console),
        progress_listener(console),
        *_trackers(settings, console),
    ]
    rows = run_search(search, listeners)
    if not file.told:
        console.print(_nothing_told(rows, settings), markup=False)
    return rows


def _preparations(search: Search, evaluator: Evaluator, console: Console) -> list[Listener]:
    """What is measured before the first trial; nothing where results are simulated."""
    from search.engines.base import Simulates

    if isinstance(search.engine, Simulates):
        console.print("A simulation: no model is evaluated.", markup=False)
        return []
    return [Preparation(evaluator, lambda words: console.print(words, markup=False))]


def _nothing_told(rows: StudyRows, settings: Settings) -> str:
    done = finished(rows)
    budget = settings.budget
    if budget.evaluations is not None and done < budget.most_trials:
        return f"Nothing is left to do: {done} trials have spent the evaluations, or the time."
    if done < budget.most_trials:
        return f"Out of time: {done} of {budget.trials} trials are done."
    return f"Nothing is left to do: the study has its {done} trials."


def _trackers(settings: Settings, console: Console) -> list[Any]:
    if not settings.tracking.enabled:
        return []
    from search.tracking.listener import MlflowListener

    return [
        MlflowListener(
            settings.tracking_uri,
            settings.folder,
            warn=_warner(console),
        )
    ]


def _finish(rows: StudyRows, settings: Settings, evaluator: Evaluator, console: Console) -> None:
    from search.front.finish import finish

    finish(
        rows,
        settings.folder,
        lambda: evaluator,
        console=console,
        tracking=settings.tracking.enabled,
    )
    if settings.tracking.enabled:
        from search.tracking.listener import log_front

        log_front(rows, settings.folder, settings.tracking_uri, warn=_warner(console))


def _warner(console: Console) -> Callable[[str], None]:
    return lambda words: console.print(f"warning: {words}", markup=False)
