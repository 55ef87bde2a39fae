"""Choices of bits for weights and inputs together, as one of weights and one of inputs alone.

A knob with both in many widths has as many choices as one times the other. Gradients score weights
but not inputs, and to measure every pair would take longer than the search. So what a pair does is
taken for the sum of its halves, and of the inputs' halves two widths are measured: the others
follow from these, a bit more or less being a factor of four where rounding is an even noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.policies.steps import OF_INPUTS, Quantize

FEW = 3  # pairs of one knob, up to which each is measured as it is
A_BIT = 4.0  # by which the square of a rounding error grows with a bit less
LEAST = 1e-12


@dataclass(frozen=True)
class Pair:
    """The halves of a choice, as policies; `inputs` is of some width, and its like of others."""

    weights: str
    inputs: str
    like: Policy  # what the inputs of one knob share but for their width
    width: int


def pairs_of(policies: Mapping[str, Policy]) -> dict[str, Pair]:
    """Of one knob's choices, by their texts, those to be halved: none where they are few."""
    both = {text: policy for text, policy in policies.items() if _is_pair(policy)}
    if len(both) <= FEW:
        return {}
    written = cache(policy_yaml.dump)  # halves are few, and to write one takes a while
    return {text: _pair(policy, written) for text, policy in both.items()}


def measured(pairs: Iterable[Pair]) -> list[str]:
    """The inputs' halves that are measured: of those alike the narrowest, and the one half way."""
    by_like: dict[Policy, dict[int, str]] = {}
    for pair in pairs:
        by_like.setdefault(pair.like, {})[pair.width] = pair.inputs
    chosen = (_chosen(sorted(widths)) for widths in by_like.values())
    likes = zip(by_like.values(), chosen, strict=True)
    return [widths[width] for widths, some in likes for width in some]


def damages(pairs: Mapping[str, Pair], known: Mapping[str, float]) -> dict[str, float]:
    """What each choice does whose halves are known well enough."""
    points: dict[Policy, dict[int, float]] = {}
    for pair in pairs.values():
        if pair.inputs in known:
            points.setdefault(pair.like, {})[pair.width] = max(known[pair.inputs], LEAST)
    return {
        text: known[pair.weights] + at_width(points[pair.like], pair.width)
        for text, pair in pairs.items()
        if pair.weights in known and pair.like in points
    }


def at_width(points: Mapping[int, float], width: int) -> float:
    """The damage at a width from that at others: in between by their ratio, beyond by A_BIT."""
    below = max((w for w in points if w <= width), default=None)
    above = min((w for w in points if w >= width), default=None)
    if below is None or above is None:
        nearest = below if above is None else above
        assert nearest is not None
        return points[nearest] * A_BIT ** (nearest - width)
    if below == above:
        return points[below]
    way = (width - below) / (above - below)
    found: float = points[below] ** (1 - way) * points[above] ** way
    return found


def _chosen(widths: Sequence[int]) -> list[int]:
    return list(dict.fromkeys((widths[0], widths[len(widths) // 2])))


def _is_pair(policy: Policy) -> bool:
    steps = [entry.quantize for entry in policy.layers]
    return bool(steps) and all(s and None not in (s.weights, s.activations) for s in steps)


def _pair(policy: Policy, written: Callable[[Policy], str]) -> Pair:
    steps = [entry.quantize for entry in policy.layers if entry.quantize]
    return Pair(
        weights=written(_with(policy, _of_weights)),
        inputs=written(_with(policy, _of_inputs)),
        like=_with(policy, lambda step: replace(_of_inputs(step), activations=8)),
        width=min(step.activations or 0 for step in steps),
    )


def _with(policy: Policy, half: Callable[[Quantize], Quantize]) -> Policy:
    layers = (
        entry if entry.quantize is None else replace(entry, quantize=half(entry.quantize))
        for entry in policy.layers
    )
    return replace(policy, layers=tuple(layers))


def _of_weights(step: Quantize) -> Quantize:
    plain = Quantize(None, None)
    idle = {key: getattr(plain, key) for key in (*OF_INPUTS, "smooth")}
    return replace(step, activations=None, **idle)


def _of_inputs(step: Quantize) -> Quantize:
    half = Quantize(None, step.activations, ranges=step.ranges)
    return replace(half, **{key: getattr(step, key) for key in OF_INPUTS})
