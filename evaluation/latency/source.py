"""Where a target's latencies come from in a search: from prices, or from timing every file."""

from __future__ import annotations

from typing import Protocol

from compressors.errors import UserError, choices
from evaluation.latency.predictor import Predictor
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.target import Artifact, Target

HOW = ("predicted", "measured")


class Latencies(Protocol):
    """What answers for a target's `latency`."""

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """One number a signature, whoever asks and whenever."""
        ...


def latencies(target: Target, files: Files, how: str) -> Latencies:
    """The source that `target.latency` names."""
    if how not in HOW:
        raise UserError(f"target.latency cannot be {how!r}; valid: {choices(HOW)}.")
    return Predictor(target, files) if how == "predicted" else files
