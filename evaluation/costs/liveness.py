"""How much memory a sequence of operators needs at its fullest moment.

Plain data: buffers of so many bytes, and steps that read some and write others. A buffer is held
from the step that writes it (an input of the whole: from the first) to the last that reads it (an
output of the whole: to the end). An elementwise step writes over an input that nobody needs after
it. Knows nothing of models, and of no allocator: buffers lie without gaps between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Step:
    """One operator: the buffers it reads and those it writes."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    in_place: bool = False  # whether a result may take the place of an input as large


def peak_bytes(steps: Sequence[Step], sizes: Mapping[int, float], outputs: Iterable[int]) -> float:
    """The most bytes that are held at once."""
    lives = _lives(steps, set(outputs))
    for number, step in enumerate(steps):
        if step.in_place:
            _write_over(number, step, sizes, lives)
    changes = [0.0] * (len(steps) + 2)
    for buffer, (first, last) in lives.items():
        changes[first] += sizes[buffer]
        changes[last + 1] -= sizes[buffer]
    return max(accumulate(changes), default=0.0)


def _lives(steps: Sequence[Step], kept: set[int]) -> dict[int, tuple[int, int]]:
    """The first and the last step at which each buffer is held; one that is kept, beyond all."""
    lives: dict[int, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        for buffer in step.reads:
            first = lives[buffer][0] if buffer in lives else 0
            lives[buffer] = first, number
        for buffer in step.writes:
            first = lives[buffer][0] if buffer in lives else number
            lives[buffer] = first, number
    return {b: (first, len(steps) if b in kept else last) for b, (first, last) in lives.items()}


def _write_over(
    number: int, step: Step, sizes: Mapping[int, float], lives: dict[int, tuple[int, int]]
) -> None:
    """Let inputs that end here end a step sooner, one for each result that takes its place."""
    ending = [b for b in dict.fromkeys(step.reads) if lives[b][1] == number]
    for result in step.writes:
        if lives[result][0] != number:
            continue  # it was there before: written over already
        place = next((b for b in ending if sizes[b] == sizes[result]), None)
        if place is not None and place not in step.writes:
            ending.remove(place)
            lives[place] = lives[place][0], number - 1
