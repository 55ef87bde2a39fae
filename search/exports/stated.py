"""What an export states of its model; knows nothing of how a figure was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compressors.policies.policy import Policy
from evaluation.measurement import Measurement


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
