"""Shell globs over names, refusing those that match nothing.

Knows nothing of what the names stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from compressors.errors import UserError, unknown

EVERYTHING = "*"
T = TypeVar("T")


def matching(pattern: str, names: Sequence[str], what: str) -> list[str]:
    """The names a pattern matches; `*` alone may match none, every other must match some."""
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found and pattern != EVERYTHING:
        if not names:
            raise UserError(f"{what} '{pattern}' matches nothing: this model has none of the kind.")
        raise UserError(unknown(what, pattern, names))
    return found


def selected(
    names: Sequence[str], include: Iterable[str], exclude: Iterable[str], what: str
) -> list[str]:
    """The names that a pattern includes and none excludes, in their own order."""
    inside = {name for pattern in include for name in matching(pattern, names, f"{what}.include")}
    outside = {name for pattern in exclude for name in matching(pattern, names, f"{what}.exclude")}
    return [name for name in names if name in inside and name not in outside]


def tied(
    names: Sequence[str], ties: Iterable[Sequence[str]], everything: Sequence[str], what: str
) -> list[tuple[str, ...]]:
    """The names in groups that share a knob; a name that no tie matches stands alone."""
    group_of: dict[str, int] = {}
    for index, patterns in enumerate(ties):
        for pattern in patterns:
            for name in matching(pattern, everything, f"{what}.tie"):
                if group_of.setdefault(name, index) != index:
                    raise UserError(f"{what}.tie puts '{name}' into two groups; one is allowed.")
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(group_of.get(name, name), []).append(name)
    return [tuple(group) for group in groups.values()]


def limits_of(
    limits: Mapping[str, tuple[T, ...]], everything: Sequence[str], what: str
) -> dict[str, list[tuple[T, ...]]]:
    """The limits that hold for each name, in the order they are written."""
    found: dict[str, list[tuple[T, ...]]] = {}
    for pattern, values in limits.items():
        for name in matching(pattern, everything, f"{what}.limits"):
            found.setdefault(name, []).append(values)
    return found
