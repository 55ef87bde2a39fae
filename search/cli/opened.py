"""A study that is there already, as the commands after a search see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cli import studies
from search.configuration import compose
from search.configuration.settings import Settings

if TYPE_CHECKING:
    from evaluation.evaluator import Evaluator
    from search.study.ledger import StudyRows


@dataclass(frozen=True)
class Opened:
    """Its folder and settings; rows and evaluator are made when asked for."""

    folder: Path
    settings: Settings

    @cached_property
    def rows(self) -> StudyRows:
        """The study's rows, read from its storage."""
        from search.study.reading import read_rows

        return read_rows(self.settings.storage_url, self.settings.study.name)

    def evaluator(self) -> Evaluator:
        """The study's task on its target."""
        return evaluator_of(self.settings)


def evaluator_of(settings: Settings) -> Evaluator:
    """The settings' task on their target."""
    from evaluation.evaluator import Evaluator

    return Evaluator(_build(settings, "task"), _build(settings, "target"))


def _build(settings: Settings, node: str) -> Any:
    """The object of one node of the settings; a file that is missing is the user's to mend."""
    from compressors.errors import UserError
    from search.configuration.build import instantiate

    compose.check_nodes(settings, [node])
    try:
        return instantiate(getattr(settings, node), node)
    except FileNotFoundError as error:
        raise UserError(f"The {node} cannot be made: {error}.") from error


def open_study(text: str | None) -> Opened:
    """The study that a command's words name."""
    from dataclasses import replace

    folder = studies.find(text)
    settings = compose.read(folder)
    whole = folder.resolve()  # a folder that was moved or renamed is read where it now lies
    own = settings.storage or f"sqlite:///{whole / 'study.db'}"
    return Opened(folder, replace(settings, output_dir=str(whole.parent), storage=own))
