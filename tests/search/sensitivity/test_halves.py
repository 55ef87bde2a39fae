"""Choices for weights and inputs together, known by what each half does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from search.sensitivity.halves import FEW, Pair, at_width, damages, measured, pairs_of

WIDTHS = (2, 3, 4, 5, 6, 8)


def policy(weights: int | None, inputs: int | None, dynamic: bool = False) -> str:
    step = Quantize(weights, inputs, dynamic=dynamic)
    return policy_yaml.dump(Policy(layers=(LayerPolicy("fc", quantize=step),)))


def pairs(policies: Iterable[str]) -> dict[str, Pair]:
    return pairs_of({text: policy_yaml.load(text) for text in policies})


PAIRS = {policy(w, a): (w, a) for w, a in product(WIDTHS, WIDTHS)}


def alone(text: str) -> float:
    """The damage of a half: a factor of four a bit, inputs half of what weights do."""
    step = policy_yaml.load(text).layers[0].quantize
    assert step is not None
    if step.weights is not None:
        assert step.activations is None
        return 4.0**-step.weights
    assert step.activations is not None
    return 0.5 * 4.0**-step.activations


def test_of_many_pairs_few_inputs_are_measured_and_all_are_known() -> None:
    singles = [policy(4, None), policy(None, 8)]  # one half is float: they are no pairs
    halved = pairs([*singles, *PAIRS])
    asked = measured(halved.values())
    assert asked == [policy(None, 2), policy(None, 5)]
    known = {text: alone(text) for text in (*asked, *(pair.weights for pair in halved.values()))}
    found = damages(halved, known)
    assert found == {text: pytest.approx(4.0**-w + 0.5 * 4.0**-a) for text, (w, a) in PAIRS.items()}


def test_floats_of_eight_bits_are_halved_as_any_pair() -> None:
    floats = Quantize(8, 8, function="e4m3", inputs="e4m3")
    text = policy_yaml.dump(Policy(layers=(LayerPolicy("fc", quantize=floats),)))
    found = pairs([text, *(policy(w, 8) for w in WIDTHS)])[text]
    halves = [policy_yaml.load(half).layers[0].quantize for half in (found.weights, found.inputs)]
    assert halves == [Quantize(8, None, function="e4m3"), Quantize(None, 8, inputs="e4m3")]
    assert found.inputs in measured([found])


def test_inputs_of_another_kind_are_measured_for_themselves() -> None:
    mixed = [policy(w, a, dynamic) for w, a, dynamic in product((2, 4), (4, 8), (False, True))]
    halved = pairs(mixed)
    assert len(measured(halved.values())) == 2 * 2
    known = {pair.weights: 1.0 for pair in halved.values()} | {policy(None, 4): 0.5}
    assert set(damages(halved, known)) == {policy(w, a) for w, a in product((2, 4), (4, 8))}


def test_few_pairs_are_left_whole() -> None:
    assert pairs(list(PAIRS)[:FEW]) == {}
    assert len(pairs(list(PAIRS)[: FEW + 1])) == FEW + 1


@given(
    st.dictionaries(st.integers(2, 8), st.floats(1e-9, 1e3), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_a_width_lies_between_its_neighbours_and_falls_beyond(
    points: dict[int, float], width: int
) -> None:
    found = at_width(points, width)
    if width in points:
        assert found == points[width]
    elif width > max(points):
        assert found < points[max(points)]
    elif width < min(points):
        assert found > points[min(points)]
    else:
        below, above = (
            points[max(w for w in points if w < width)],
            points[min(w for w in points if w > width)],
        )
        assert min(below, above) * (1 - 1e-9) <= found <= max(below, above) * (1 + 1e-9)
