"""The knobs of training after the cuts, and the values that all policies have in common.

A range whose ends are equal, or a list of one, is no knob.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compressors.errors import UserError
from compressors.policies.policy import Recovery
from search.space.knobs import Choices, Knob, Range
from search.space.options import RecoveryOptions

RANGES = {  # and whether each is searched on a logarithmic scale
    "learning_rate": True,
    "temperature": False,
    "weight": False,
    "features": False,
    "attention": False,
}
LISTS = {"epochs": "whole numbers from 0", "scales": "statistics, fixed, learned"}
PLAIN = ("batch_size", "optimizer", "schedule", "seed", "teacher", "hints")


def recovery_knobs(options: RecoveryOptions) -> list[Knob]:
    """Epochs first; without any there is nothing else to decide."""
    epochs = tuple(dict.fromkeys(sorted(options.epochs)))
    knobs = _listed("epochs", epochs)
    if not any(epochs):
        return knobs
    for name, log in RANGES.items():
        low, high = getattr(options, name)
        if low < high:
            knobs.append(Knob(f"recovery/{name}", "recovery", Range(low, high, log)))
    return knobs + _listed("scales", tuple(dict.fromkeys(options.scales)))


def fixed_recovery(options: RecoveryOptions) -> Recovery:
    """The values that are no knobs; building it at both ends holds the options to their rules."""
    for name, valid in LISTS.items():
        if not getattr(options, name):
            raise UserError(f"space.recovery.{name} cannot be empty; valid: {valid}.")
    for name in RANGES:
        low, high = _ends(f"space.recovery.{name}", getattr(options, name))
        if low > high:
            raise UserError(
                f"space.recovery.{name} cannot run from {low:g} to {high:g}; "
                "valid: the lower end first."
            )
    plain: dict[str, Any] = {name: getattr(options, name) for name in PLAIN}
    made = [
        Recovery(epochs=epochs, scales=scales, **_at(options, end), **plain)  # type: ignore[arg-type]  # it validates
        for end in (0, -1)
        for epochs in options.epochs
        for scales in options.scales
    ]
    return made[0]


def _listed(name: str, values: tuple[Any, ...]) -> list[Knob]:
    return [Knob(f"recovery/{name}", "recovery", Choices(values))] if len(values) > 1 else []


def _at(options: RecoveryOptions, end: int) -> dict[str, float]:
    return {name: getattr(options, name)[end] for name in RANGES}


def _ends(what: str, given: Sequence[float]) -> tuple[float, float]:
    if len(given) != 2:
        raise UserError(f"{what} cannot be {list(given)}; valid: two numbers, [lowest, highest].")
    return given[0], given[1]
