"""Plain data against annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from compressors.errors import UserError
from search.configuration.typed import fits, in_words, typed


@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Outer:
    count: int
    rate: float | None = None
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    several: Mapping[str, Inner] = field(default_factory=dict)
    choice: bool | int | float | str = 0


def test_a_nested_dataclass_is_filled_and_lists_become_tuples() -> None:
    data = {
        "count": 2,
        "rate": 1,
        "inner": {"names": ["x"], "pair": [1, 2]},
        "several": {"first": {"names": ["y"]}},
        "choice": 0.5,
    }
    made = typed(Outer, data)
    assert made == Outer(2, 1.0, "a", Inner(("x",), (1.0, 2.0)), {"first": Inner(("y",))}, 0.5)
    assert isinstance(made.rate, float)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"cuont": 1}, "Unknown key 'cuont'. Did you mean 'count'?"),
        ({"count": 1, "inner": {"nmes": []}}, "Did you mean 'inner.names'?"),
        ({"count": "1"}, "count cannot be '1'; valid: a whole number."),
        ({"count": True}, "count cannot be True"),
        ({"count": 1.0}, "count cannot be 1.0"),
        ({"count": 1, "rate": "x"}, "rate cannot be 'x'; valid: a number or null."),
        ({"count": 1, "kind": "c"}, "kind cannot be 'c'; valid: a, b."),
        ({"count": 1, "inner": 3}, "inner cannot be 3; valid: keys among names, pair."),
        ({"count": 1, "inner": {"pair": [1]}}, "inner.pair cannot be [1]"),
        ({"count": 1, "several": {"x": {"y": 1}}}, "Unknown key 'several.x.y'"),
        ({}, "needs a value for count."),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        typed(Outer, data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, int, False),
        (True, float, False),
        (1, bool, False),
        (True, Literal[1, 2], False),
        (None, int | None, True),
        ("a/b", Path, True),
        ([1, "x"], tuple[int, str], True),
        ([1], list[str], False),
        ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False),
        (object(), Any, True),
    ],
)
def test_fits(value: object, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_every_refusal_can_be_put_into_words() -> None:
    hints = (int | None, Literal["a", 1], list[int], dict[str, float], Inner, bytes, Any)
    assert all(in_words(hint) for hint in hints)
