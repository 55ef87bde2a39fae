"""Where to put points' labels so that they cover neither each other nor the points.

Works in pixels and knows nothing of what is drawn, or by what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]  # left, bottom, right, top
_AROUND = ((1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (0, 1), (0, -1), (1, 1.6), (-1, 1.6))


@dataclass(frozen=True)
class Label:
    """A text of a known size that belongs to a point."""

    x: float
    y: float
    width: float
    height: float


def place(
    labels: Sequence[Label], points: Sequence[tuple[float, float]], within: Box, gap: float = 7.0
) -> list[tuple[float, float] | None]:
    """The centre of each label; None where there is no room. Earlier labels choose first."""
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    centres: list[tuple[float, float] | None] = []
    for label in labels:
        found = next((c for c in _candidates(label, gap) if _free(label, c, taken, within)), None)
        if found is not None:
            taken.append(_box(label, found))
        centres.append(found)
    return centres


def _candidates(label: Label, gap: float) -> list[tuple[float, float]]:
    return [
        (
            label.x + dx * (label.width / 2 + gap),
            label.y + dy * (label.height / 2 + gap),
        )
        for dx, dy in _AROUND
    ]


def _free(label: Label, centre: tuple[float, float], taken: Sequence[Box], within: Box) -> bool:
    left, bottom, right, top = box = _box(label, centre)
    inside = left >= within[0] and bottom >= within[1] and right <= within[2] and top <= within[3]
    return inside and not any(_overlap(box, other) for other in taken)


def _box(label: Label, centre: tuple[float, float]) -> Box:
    x, y = centre
    return (
        x - label.width / 2,
        y - label.height / 2,
        x + label.width / 2,
        y + label.height / 2,
    )


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
