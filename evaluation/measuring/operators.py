"""What a runtime makes of a file: operators as it runs them, each with what its speed depends on.

Imports nothing heavy, for it is loaded in the process in which files are opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

YARDSTICK = "yardstick"  # the key of what is timed beside every price, always the same
FLOOR = "floor"  # the key of what a run takes that computes next to nothing


@dataclass(frozen=True)
class Operator:
    """One operator of an optimised graph; two of one key take one time."""

    key: str
    op: str
    shape: str
    precision: str

    @staticmethod
    def of(op: str, shape: str, precision: str, facts: Any) -> Operator:
        """The operator whose speed depends on these facts (JSON-ready) and no others."""
        told = json.dumps([op, shape, precision, facts], sort_keys=True, default=str)
        return Operator(hashlib.sha256(told.encode()).hexdigest()[:16], op, shape, precision)

    @property
    def family(self) -> str:
        """What its time is corrected with: heavy operators by their arithmetic, the rest as one."""
        heavy = any(
            word in self.op.lower() for word in ("conv", "gemm", "matmul", "fullyconnected")
        )
        if not heavy:
            return "light"
        return "integer" if "8" in self.precision else "float"


@dataclass(frozen=True)
class Price:
    """The time of one operator within a model, and half of its 95 % interval."""

    median_ms: float
    spread_ms: float


class PricesOperators(Protocol):
    """An opener whose runtime tells what it runs; both are called in the measuring process."""

    def operators(self, path: Path, batch: int) -> tuple[Operator, ...]:
        """What runs for a batch, in order, once for every time that it runs."""
        ...

    def prices(self, path: Path, batch: int, keys: Sequence[str], beside: Path) -> dict[str, Price]:
        """Prices of a file's operators by key, of a yardstick in the same turns, of the floor.

        `beside` is the uncompressed model's file, which makes a good yardstick.
        """
        ...
