"""Cutting in rounds: some more each time, training in between, and an end where it hurts.

Serves whatever can be cut further by degrees: the state may be a model, or a model with what
belongs to it (masks, say), as long as `deepcopy` copies it as a whole. Knows no steps.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Generic, TypeVar

from compressors.policies.policy import Rounds

State = TypeVar("State")


@dataclass(frozen=True)
class Outcome(Generic[State]):
    """What the rounds left, and how far they came."""

    state: State
    rounds: int  # that were kept
    done: float  # of the way to the policy's shares
    notes: tuple[str, ...] = ()


def ramp(number: int, count: int) -> float:
    """The part of the way that is done after a round: fast at first, by a cubic; 1 at the end."""
    return 1.0 if number >= count else 1 - (1 - number / count) ** 3


def in_rounds(
    state: State,
    rounds: Rounds,
    cut: Callable[[State, float], State],
    train: Callable[[State, int], None],
    loss: Callable[[State], float],
    original_loss: Callable[[], float],
) -> Outcome[State]:
    """Cut to the end, round by round; each cut is followed by so many epochs of training.

    `cut` may change the state in place, and gives back what to go on with. The loss is measured
    only where the policy bounds its rise from the original's. What a round taken back leaves is a
    copy of the state before it; the given state is then spent.
    """
    if rounds.loss_rise is None:
        for number in range(1, rounds.count + 1):
            state = _round(state, ramp(number, rounds.count), rounds.epochs, cut, train)
        return Outcome(state, rounds.count, 1.0)
    base = original_loss()
    for number in range(1, rounds.count + 1):
        before = deepcopy(state)
        state = _round(state, ramp(number, rounds.count), rounds.epochs, cut, train)
        found = loss(state)
        if not found <= base * (1 + rounds.loss_rise):  # NaN is above every bound
            return Outcome(
                before,
                number - 1,
                _reached(number - 1, rounds.count),
                _told(number, rounds, found, base),
            )
    return Outcome(state, rounds.count, 1.0)


def _round(
    state: State,
    done: float,
    epochs: int,
    cut: Callable[[State, float], State],
    train: Callable[[State, int], None],
) -> State:
    state = cut(state, done)
    if epochs:
        train(state, epochs)
    return state


def _reached(number: int, count: int) -> float:
    return ramp(number, count) if number else 0.0


def _told(number: int, rounds: Rounds, found: float, base: float) -> tuple[str, ...]:
    bound = base * (1 + (rounds.loss_rise or 0))
    return (
        f"rounds: number {number} of {rounds.count} taken back, as the calibration loss was"
        f" {found:.4g}, above {bound:.4g}; cut to {_reached(number - 1, rounds.count):.0%} of the"
        " shares",
    )
