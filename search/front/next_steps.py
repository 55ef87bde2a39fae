"""The commands that lead on from a study, as words to paste into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.front.front import Front
from search.study.ledger import StudyRows

Step = tuple[str, str]  # what it does, the command


def next_steps(rows: StudyRows, front: Front, folder: Path, tracking: bool = True) -> list[Step]:
    """Look, export, compare: the three commands after a search; check, where nothing tracked it."""
    where = shown(folder)
    trial = f" --trial {front.knee.number}" if front.knee else ""
    compare = ("compare trials in MLflow", f"paredown ui {where}")
    steps = [("open the report", f"{_opener()} {where}/report.html")]
    if rows.simulated is not None:  # there are no files
        return [*steps, compare] if tracking else steps
    return [
        *steps,
        ("export a member, with its card", f"paredown export {where}{trial}"),
        compare if tracking else ("measure the exported files again", f"paredown verify {where}"),
    ]


def reproduce(rows: StudyRows, front: Front, folder: Path, config: Mapping[str, Any]) -> list[Step]:
    """How to get the study again, and what to do with its policies."""
    where = shown(folder)
    policy = f"{where}/policies/{front.knee.number if front.knee else 'best'}.yaml"
    trial = front.knee.number if front.knee else 0
    again = ("The study again, or on to a larger total", search_command(rows, config))
    if rows.simulated is not None:
        return [again]
    return [
        again,
        (
            "A member as a deployable model with its card",
            f"paredown export {where} --trial {trial}",
        ),
        (
            "A policy on a newer checkpoint of the same network",
            apply_command(policy, rows, config),
        ),
        ("Do the exported files keep their promise?", f"paredown verify {where}"),
    ]


def apply_command(policy: str, rows: StudyRows, config: Mapping[str, Any]) -> str:
    """The words of the search give the same task and target to `apply`."""
    return shlex.join(["paredown", "apply", policy, *_words(rows, config)])


def search_command(rows: StudyRows, config: Mapping[str, Any]) -> str:
    """The search's command."""
    return shlex.join(["paredown", "search", *_words(rows, config)])


def _words(rows: StudyRows, config: Mapping[str, Any]) -> Sequence[str]:
    """What followed `paredown search`; without a configuration, what the rows know of it."""
    found: Sequence[str] | None = config.get("words")
    if found is None:
        return [f"task={rows.task}", f"target={rows.target}", f"study.name={rows.name}"]
    return found


def shown(folder: Path) -> str:
    """The folder as it is reached from here, where it lies below."""
    try:
        return shlex.quote(str(folder.resolve().relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(folder))


def _opener() -> str:
    import sys

    return "open" if sys.platform == "darwin" else "xdg-open"
