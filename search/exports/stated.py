"""What an export states of its model, and of which studies there is none to state.

Knows nothing of how a figure was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compressors.errors import UserError
from compressors.policies.policy import Policy
from evaluation.measurement import Measurement
from search.study.ledger import StudyRows


@dataclass(frozen=True)
class Package:
    """Everything that an export states of its model."""

    task: str
    target: str
    study: str | None
    trial: int | None
    policy: Policy
    search: Measurement
    exported: Measurement
    reference: Measurement  # the uncompressed model's exported figures
    record: Mapping[str, Any]


def refuse_simulation(rows: StudyRows) -> None:
    """Raise for a study of which no model was built."""
    if rows.simulated is not None:
        raise UserError(
            f"{rows.name} is a simulation ({rows.simulated}), so it has no measured models; "
            "build one from a policy: paredown apply."
        )
