"""The rows that a table of a model needs on a target, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compressors.errors import UserError, choices
from compressors.record import CompressedModel
from evaluation.profiling.copies import Copies
from evaluation.profiling.layers import LayerShape, shapes_of
from evaluation.target import FLOAT, Capability, Precision
from evaluation.work import calls, shape_of

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    shape: LayerShape
    precision: Precision
    key: Key


def jobs_of(
    compressed: CompressedModel, capability: Capability, asked: Sequence[Precision]
) -> list[Job]:
    """Every shape at every precision of its kind; `asked` are those wanted besides float."""
    found: dict[Key, Job] = {}
    for shape in shapes_of(
        calls(compressed.module, compressed.example), capability.channel_multiple
    ):
        (call,) = calls(Copies(shape, 1).eval(), (shape.samples(1),))
        for precision in _precisions(shape, capability, asked):
            key = (shape.kind, shape_of(call), str(precision))
            found.setdefault(key, Job(shape, precision, key))
    return list(found.values())


def check_precisions(capability: Capability, asked: Sequence[Precision]) -> None:
    """Raise UserError about a precision that no layer of the target is timed at, as fp8."""
    offered = dict.fromkeys(p for kind in capability.precisions for p in capability.offered(kind))
    for precision in asked:
        if precision not in offered:
            raise UserError(
                f"Precision {precision} is not profiled of this target; valid: {choices(offered)}."
            )


def _precisions(
    shape: LayerShape, capability: Capability, asked: Sequence[Precision]
) -> Iterator[Precision]:
    wanted = {FLOAT, *asked}
    return (p for p in capability.offered(shape.kind) if not asked or p in wanted)
