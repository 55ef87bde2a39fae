"""What is still to be done between a study's acceptance and its first trial, as listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.configuration import compose
from search.configuration.settings import Settings

if TYPE_CHECKING:
    from evaluation.evaluator import Evaluator
    from search.study.ledger import StudyRows, TrialRow


@dataclass
class StudyFile:
    """Writes config.yaml once the study is open, so that one that is refused keeps its own."""

    settings: Settings
    told: int = 0

    def started(self, rows: StudyRows, total: int) -> None:
        """The study was accepted."""
        del rows, total
        compose.write(self.settings, self.settings.folder)

    def trial_finished(self, row: TrialRow) -> None:
        """Count it."""
        del row
        self.told += 1

    def closed(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class Preparation:
    """Has the target measure what it needs before workers start, and says why nothing moves."""

    evaluator: Evaluator
    tell: Callable[[str], None]

    def started(self, rows: StudyRows, total: int) -> None:
        """Prepare the target, unless no trial is left to be run."""
        if finished(rows) < total:
            self.evaluator.prepare(self.tell)

    def trial_finished(self, row: TrialRow) -> None:
        """Nothing to do."""

    def closed(self) -> None:
        """Nothing to close."""


def finished(rows: StudyRows) -> int:
    """The trials that need not be run."""
    return sum(row.state not in ("running", "waiting") for row in rows.trials)
