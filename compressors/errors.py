"""The one kind of error that is the user's to mend.

Raised anywhere below the command line, it reaches the user as a single sentence and exit code 2.
Everything else is a defect and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user wrote cannot be done; the message names rule, value and choices."""


class PolicyError(UserError):
    """A policy that cannot be loaded, or cannot be applied to this model."""


def choices(values: Iterable[object], most: int = 12) -> str:
    """The valid choices as words, cut where there are too many to read."""
    words = [str(value) for value in values]
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown}, … ({len(words)} in all)"


def unknown(what: str, value: object, valid: Iterable[object]) -> str:
    """One sentence for a name that is not among the valid ones, with the nearest of them."""
    names = [str(name) for name in valid]
    near = get_close_matches(str(value), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"Unknown {what} '{value}'.{hint} Valid: {choices(names)}."
