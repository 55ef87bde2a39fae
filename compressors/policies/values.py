"""Checks of single values, each ending in one sentence with the rule, the value and the choices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from compressors.errors import PolicyError, choices


def refuse(rule: str, value: object, valid: str) -> PolicyError:
    """The error for a value that a rule does not allow."""
    return PolicyError(f"{rule} cannot be {value!r}; valid: {valid}.")


def number(rule: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refuse(rule, value, "a finite number")
    return float(value)


def share(rule: str, value: object, *, zero: bool, one: bool) -> float:
    """A number between 0 and 1, either of them allowed or not."""
    found = number(rule, value)
    above = found >= 0 if zero else found > 0
    below = found <= 1 if one else found < 1
    if not (above and below):
        bounds = f"{'0 <=' if zero else '0 <'} share {'<= 1' if one else '< 1'}"
        raise refuse(rule, value, bounds)
    return found


def positive(rule: str, value: object) -> float:
    """A number above 0."""
    found = number(rule, value)
    if found <= 0:
        raise refuse(rule, value, "a number above 0")
    return found


def not_negative(rule: str, value: object) -> float:
    """A number from 0."""
    found = number(rule, value)
    if found < 0:
        raise refuse(rule, value, "a number from 0")
    return found


def whole(rule: str, value: object, least: int) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise refuse(rule, value, f"a whole number from {least}")
    return value


def flag(rule: str, value: object) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise refuse(rule, value, "true, false")


def bits(rule: str, value: object, valid: Iterable[int]) -> int | None:
    """A bit width, or None for float."""
    if value is None:
        return None
    allowed = tuple(valid)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise refuse(rule, value, f"{choices(allowed)}, or float")
    return value


def one_of(rule: str, value: object, literal: Any) -> None:
    """A word of a list."""
    if value not in get_args(literal):
        raise refuse(rule, value, choices(get_args(literal)))


def sorted_unique(rule: str, names: Sequence[str]) -> tuple[str, ...]:
    """Module paths in order, none of them twice."""
    for name in names:
        if not isinstance(name, str) or not name:
            raise refuse(rule, name, "module paths, such as layer1.0")
        if list(names).count(name) > 1:
            raise PolicyError(f"{rule} names '{name}' twice; name it once.")
    return tuple(sorted(names))


def put(instance: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass while it is being made."""
    object.__setattr__(instance, name, value)
