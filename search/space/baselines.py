"""The uniform policies that everybody would try by hand, as the first trials of every study.

A mixed policy that loses to one of them is then seen at once. Each is made only where the space
has the steps it takes; those that cut get the most recovery there is, or they would be straw men,
while rounding alone goes without, as everybody tries it first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressors.policies.policy import Policy
from search.space.knobs import Choices, Knob, KnobKind
from search.space.options import FLOAT, Choice
from search.space.precision import parse_precision
from search.space.space import NEUTRAL, RANGES_KNOB, Space

UNCOMPRESSED = "fp32"
Pick = Callable[[tuple[Any, ...]], Any]


@dataclass(frozen=True)
class Baseline:
    """A named setting of every knob."""

    name: str
    params: Mapping[str, Any]


def baselines(space: Space) -> list[Baseline]:
    """The uniform baselines that the space can express, the uncompressed model first."""
    low, width, ranks = _lowest(space), _half("prune"), _half("lowrank")
    bits: dict[KnobKind, Pick] = {"quantize": lambda values: low if low in values else values[0]}
    gone: dict[KnobKind, Pick] = {"depth": lambda values: True in values}
    recipes: list[tuple[str, dict[KnobKind, Pick]]] = [
        (UNCOMPRESSED, {}),
        (_words(low), bits),
        ("half width", width),
        (f"half width, {_words(low)}", {**width, **bits}),
        (f"shallow, {_words(low)}", {**gone, **bits}),
        ("half rank", ranks),
    ]
    able = {knob.kind for knob in space.knobs if knob.name != RANGES_KNOB}
    made = [
        Baseline(name, _setting(space, picks))
        for name, picks in recipes
        if all(kind in able for kind in picks) and (picks or can_leave_alone(space))
    ]
    return _distinct(space, made)


def can_leave_alone(space: Space) -> bool:
    """Whether some setting of the knobs does nothing to the model."""
    return not space.policy({}).layers and not space.policy({}).remove


def _setting(space: Space, picks: Mapping[KnobKind, Pick]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for knob in space.knobs:
        if not isinstance(knob.domain, Choices):
            chosen[knob.name] = knob.domain.middle
        elif knob.name == "recovery/epochs":
            chosen[knob.name] = knob.domain.values[-1 if picks.keys() - {"quantize"} else 0]
        elif knob.kind in picks and knob.name != RANGES_KNOB:
            chosen[knob.name] = picks[knob.kind](knob.domain.values)
        else:
            chosen[knob.name] = knob.domain.values[0]
    return chosen


def _half(kind: KnobKind) -> dict[KnobKind, Pick]:
    """Of each knob the value nearest to a half, among those that do something."""

    def pick(values: tuple[Any, ...]) -> Any:
        return min((v for v in values if v != NEUTRAL[kind]), key=lambda v: abs(float(v) - 0.5))

    return {kind: pick}


def _lowest(space: Space) -> Choice:
    """The fewest bits that any layer may have."""

    def bits(word: Choice) -> int:
        precision = parse_precision(str(word))
        return (precision.weights or 32) + (precision.activations or 32)

    words = [word for knob in _precisions(space) for word in _values(knob)]
    return min(words, key=bits, default=FLOAT)


def _precisions(space: Space) -> Sequence[Knob]:
    return [knob for knob in space.of_kind("quantize") if knob.name != RANGES_KNOB]


def _values(knob: Knob) -> tuple[Choice, ...]:
    return knob.domain.values if isinstance(knob.domain, Choices) else ()


def _words(precision: Choice) -> str:
    return "int8" if precision == "w8a8" else str(precision)


def _distinct(space: Space, made: Sequence[Baseline]) -> list[Baseline]:
    """Without those whose policy an earlier one has."""
    kept: dict[Policy, Baseline] = {}
    for baseline in made:
        kept.setdefault(space.policy(baseline.params), baseline)
    return list(kept.values())
