"""The uniform policies that everybody would try by hand, as the first trials of every study.

A mixed policy that loses to one of them is then seen at once, or where trials are stopped early as
soon as the front is there. Each is made only where the space has the steps it takes; those that cut
get the most recovery there is, or they would be straw men, while rounding alone goes without, as
everybody tries it first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressors.policies.policy import Policy
from compressors.policies.steps import FLOAT_INPUTS
from search.space.knobs import Choices, KnobKind
from search.space.options import FLOAT, Choice
from search.space.space import Space
from search.space.words import NEUTRAL, SIZE

UNCOMPRESSED = "fp32"
USUAL = "2:4"
HALVES: dict[KnobKind, tuple[str, str]] = {  # the name of an exact half, and what else is named by
    "prune": ("half width", "width"),
    "lowrank": ("half rank", "rank"),
    "heads": ("half the heads", "heads"),
    "sparsify": ("half the weights", "zeros"),
}
Pick = Callable[[tuple[Choice, ...]], Choice]


@dataclass(frozen=True)
class Baseline:
    """A named setting of every knob."""

    name: str
    params: Mapping[str, Any]


def baselines(space: Space) -> list[Baseline]:
    """The uniform baselines that the space can express, the uncompressed model first."""
    word = _usual_bits(space)
    bits: dict[KnobKind, Pick] = {"quantize": lambda values: _first_of(values, word)}
    width, width_name = _half(space, "prune"), _half_name(space, "prune")
    gone: dict[KnobKind, Pick] = {"depth": lambda values: True in values}
    sparse: dict[KnobKind, Pick] = {"sparsify": lambda values: _usual_zeros(space, values)}
    has_pattern = any(_has_usual(space, w) for k in space.of_kind("sparsify") for w in k.values)
    zeros = (_half_name(space, "sparsify"), _half(space, "sparsify"))
    recipes: list[tuple[str, dict[KnobKind, Pick]]] = [
        (UNCOMPRESSED, {}),
        (_words(word), bits),
        (width_name, width),
        (f"{width_name}, {_words(word)}", {**width, **bits}),
        (f"shallow, {_words(word)}", {**gone, **bits}),
        (_half_name(space, "lowrank"), _half(space, "lowrank")),
        (_half_name(space, "heads"), _half(space, "heads")),
        (USUAL, sparse) if has_pattern else zeros,
    ]
    able = {knob.kind for knob in space.knobs}
    made = [
        Baseline(name, _setting(space, picks))
        for name, picks in recipes
        if all(kind in able for kind in picks) and (picks or can_leave_alone(space))
    ]
    return _distinct(space, made)


def can_leave_alone(space: Space) -> bool:
    """Whether some setting of the knobs does nothing to the model."""
    return space.policy({}) == Policy(recovery=space.policy({}).recovery)


def _setting(space: Space, picks: Mapping[KnobKind, Pick]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for knob in space.knobs:
        if knob.name == "recovery/epochs" and picks.keys() - {"quantize"}:
            chosen[knob.name] = knob.values[-1]
        elif knob.kind in picks and isinstance(knob.domain, Choices):
            chosen[knob.name] = picks[knob.kind](knob.values)
        else:
            chosen[knob.name] = knob.first
    return chosen


def _first_of(values: Sequence[Choice], wanted: Choice) -> Choice:
    return wanted if wanted in values else values[0]


def _half(space: Space, kind: KnobKind) -> dict[KnobKind, Pick]:
    """Of each knob the value nearest to a half, among those that do something."""
    words = space.fixed.words(kind)

    def distance(word: Choice) -> float:
        share = getattr(words.step(word), SIZE[kind])
        return 1.0 if share is None else abs(float(share) - 0.5)

    def pick(values: tuple[Choice, ...]) -> Choice:
        return min((value for value in values if value != NEUTRAL[kind]), key=distance)

    return {kind: pick}


def _half_name(space: Space, kind: KnobKind) -> str:
    """What `_half` is: a half where every knob has one, else the words that it picks."""
    pick, words = _half(space, kind)[kind], space.fixed.words(kind)
    picked = dict.fromkeys(pick(knob.values) for knob in space.of_kind(kind))
    half, what = HALVES[kind]
    if all(getattr(words.step(word), SIZE[kind]) == 0.5 for word in picked):
        return half
    return f"{what} {' or '.join(_kept(kind, word) for word in picked)}"


def _kept(kind: KnobKind, word: Choice) -> str:
    """A word with the share that is kept in place of the one removed, as names of widths say."""
    size, *rest = str(word).split()
    kept = f"{1 - float(size):g}" if kind in ("prune", "heads") else size
    return " ".join([kept, *rest])


def _usual_zeros(space: Space, values: tuple[Choice, ...]) -> Choice:
    """The usual pattern, by the plain criterion where there is a choice of it."""
    usual = [word for word in values if _has_usual(space, word)]
    return _first_of(usual or values, USUAL)


def _has_usual(space: Space, word: Choice) -> bool:
    step = space.fixed.words("sparsify").step(word)
    return step is not None and step.pattern == USUAL


def _usual_bits(space: Space) -> Choice:
    """The plain precision, of those that any layer may have, that is nearest to eight bits."""
    words = [word for knob in space.of_kind("quantize") for word in knob.values]

    def order(word: Choice) -> tuple[bool, int, int, bool]:
        step = space.fixed.words("quantize").step(word)
        bits, floats = (32, 32), False
        if step is not None:
            bits = step.weights or 32, step.activations or 32
            floats = step.inputs in FLOAT_INPUTS
        return " " in str(word), abs(bits[0] - 8), abs(bits[1] - 8), floats

    return min(words, key=order, default=FLOAT)


def _words(precision: Choice) -> str:
    return "int8" if precision == "w8a8" else str(precision)


def _distinct(space: Space, made: Sequence[Baseline]) -> list[Baseline]:
    """Without those whose policy an earlier one has."""
    kept: dict[Policy, Baseline] = {}
    for baseline in made:
        kept.setdefault(space.policy(baseline.params), baseline)
    return list(kept.values())
