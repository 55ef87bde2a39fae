"""The work of a model as a note in its file, so that the file alone can be priced again.

Layers lose their names there, and those of one shape and precision share a row: few bytes, as the
file's size is what a policy is chosen by.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from evaluation.work import Work

Row = tuple[Any, ...]


def note_of(work: Iterable[Work]) -> list[list[Any]]:
    """JSON-ready rows, each with how often it is there."""
    counted = Counter(_row(each) for each in work)
    return [[times, *row] for row, times in counted.items()]


def work_in(note: Any) -> tuple[Work, ...]:
    """The work that a note tells."""
    return tuple(Work("", *row) for times, *row in note for _ in range(times))


def signature(work: Iterable[Work], *, with_zeros: bool) -> str:
    """A hash of what the time depends on: shapes and bits, and zeros where they are skipped."""
    rows = sorted(json.dumps(_row(each)[: None if with_zeros else -1]) for each in work)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def _row(work: Work) -> Row:
    return (
        work.kind,
        work.shape,
        work.macs,
        work.weights,
        work.inputs,
        work.outputs,
        work.weight_bits,
        work.activation_bits,
        round(work.zeros, 6),
    )
