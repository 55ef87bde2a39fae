"""Where a target's latencies come from in a search: from prices, or from timing every file."""

from __future__ import annotations

from compressors.errors import UserError, choices
from evaluation.latency.fitting import Others, Tell
from evaluation.latency.predictor import Predictor
from evaluation.measuring.files import Files
from evaluation.target import Artifact

HOW = ("predicted", "measured")


def latencies(files: Files, how: str) -> Predictor | Files:
    """The source that `target.latency` names."""
    if how not in HOW:
        raise UserError(f"target.latency cannot be {how!r}; valid: {choices(HOW)}.")
    return Predictor(files) if how == "predicted" else files


def prepare(source: Predictor | Files, reference: Artifact, others: Others, tell: Tell) -> None:
    """Measure what predictions of a model need, if that is still to be done."""
    if isinstance(source, Predictor):
        source.prepare(reference, others, tell)
