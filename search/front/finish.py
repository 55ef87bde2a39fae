"""After a search: validate the front, write its files and pictures, say where everything lies.

May be run again at any time; whatever is already measured is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.artifact_parts import parts
from search.front import front_files
from search.front.front import Front, find
from search.front.front_files import Validation
from search.front.next_steps import Step, next_steps, shown
from search.front.rows_table import front_table
from search.front.validate import FILES, Evaluates, reference_trial, validate
from search.study.ledger import StudyRows
from search.views import picture, report
from search.views.figures import count
from search.views.timing_words import unmeasured_sentences

if TYPE_CHECKING:
    from rich.console import Console


def finish(
    rows: StudyRows,
    folder: Path,
    evaluator: Callable[[], Evaluates],
    *,
    remeasure: bool = False,
    tracking: bool = True,
    tidy: bool = True,
    console: Console,
) -> Front:
    """The front with everything that is made of it; the evaluator is asked for if needed.

    Tidying drops files that are not the front's; not to be done beside a search that needs them.
    """
    front = find(rows)
    validation = _validated(rows, front, folder, evaluator, remeasure, console)
    front_files.write(folder, rows, front, validation)
    picture.write(folder / "front.png", rows, front, validation)
    report.write(rows, folder, front, validation)
    if tidy:
        _drop_dominated(rows, front, folder)
    _tell(rows, front, validation, next_steps(rows, front, folder, tracking), folder, console)
    return front


def _validated(
    rows: StudyRows,
    front: Front,
    folder: Path,
    evaluator: Callable[[], Evaluates],
    remeasure: bool,
    console: Console,
) -> Validation:
    if not front.members or rows.simulated is not None:
        return Validation()  # a simulation has no files to measure
    what = f"Measuring {count(len(front.members), 'exported file')}"
    with console.status(f"{what} …") as status:
        return validate(
            rows,
            front,
            folder,
            evaluator,
            remeasure=remeasure,
            on_step=lambda step: status.update(f"{what}: {step} …"),
        )


def _drop_dominated(rows: StudyRows, front: Front, folder: Path) -> None:
    """Remove deployable files that are not the front's; a policy builds them again."""
    kept = {row.artifact for row in front.members}
    reference = reference_trial(rows)
    if reference:
        kept.add(reference.artifact)
        for twin in (folder / FILES).glob("reference.*"):  # what the trials were timed against
            twin.unlink()
    for row in rows.complete():
        if row.artifact and row.artifact not in kept:
            for part in parts(folder / row.artifact):
                part.unlink(missing_ok=True)


def _tell(
    rows: StudyRows,
    front: Front,
    validation: Validation,
    steps: Sequence[Step],
    folder: Path,
    console: Console,
) -> None:
    if not front.members:
        console.print("No trial is complete, so there is no front.", markup=False)
        return
    console.print(front_table(rows, front, validation, console.width))
    for sentence in unmeasured_sentences(rows, validation):
        console.print(sentence, style="yellow", markup=False, highlight=False)
    where = shown(folder)
    lines = [
        f"Everything lies in {where}/",
        "  report.html  front.png  front.json  front.csv",
        "  policies/    a policy for each member, and best.yaml",
        *([] if rows.simulated else ["  trials/      the members' deployable files"]),
        "",
        "Next:",
    ]
    width = max(len(command) for _, command in steps)
    lines += [f"  {command:<{width}}  {what}" for what, command in steps]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
