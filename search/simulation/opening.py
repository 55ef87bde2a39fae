"""Opens the folder of a finished study as a table of results."""

from __future__ import annotations

from pathlib import Path

from compressors.errors import UserError
from evaluation.measurement import Metric
from search.configuration import compose
from search.simulation.recorded import Recorded, Unheld
from search.study.reading import read_rows


def recorded(folder: Path, quality: Metric, unheld: Unheld) -> Recorded:
    """The results of the study in a folder; refused where it measured another quality."""
    settings = compose.read(folder)
    own = settings.storage or f"sqlite:///{folder.resolve() / 'study.db'}"
    rows = read_rows(own, settings.study.name)
    if rows.simulated is not None:
        raise UserError(
            f"engine.study cannot be {folder}, which is a simulation itself ({rows.simulated}); "
            "valid: the folder of a study that was evaluated."
        )
    measured = {
        v.metric for row in rows.complete() if row.measurement for v in row.measurement.values
    }
    if quality not in measured:
        raise UserError(
            f"engine.study cannot be {folder}: its complete trials hold no {quality.name}; valid: "
            "the folder of a study of the same task."
        )
    return Recorded(rows, folder, quality, unheld)
