"""A step as one word: it reads back to the same step, whatever the space's defaults are."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.errors import UserError
from compressors.policies.policy import STEPS, changed, does_nothing
from compressors.policies.policy_yaml import FLOAT
from compressors.policies.steps import LowRank, Prune, Quantize, Sparsify
from search.space.words import NEUTRAL, Words
from tests.compressors import drawn

WHERE = "space.prune.choices"
EIGHT_BIT_FLOATS = {"weights": 8, "activations": 8, "function": "e4m3", "inputs": "e4m3"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "heads": {"repair": True},
    "prune": {"criterion": "taylor", "multiple": 8, "repair": True},
    "lowrank": {},
    "sparsify": {},
    "quantize": {"ranges": "mse"},
}


@pytest.mark.parametrize("kind", STEPS)
@given(data=st.data(), plain=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_mapping_becomes_a_word_that_is_the_same_step(
    kind: str, data: st.DataObject, plain: bool
) -> None:
    step = data.draw(drawn.STEPS[kind])
    words = Words(kind, {} if plain else DEFAULTS[kind])
    keys = changed(step) if plain else _everything(step)
    word = words.canonical({key: _plain(value) for key, value in keys.items()}, WHERE)
    assert isinstance(word, (float, str))
    assert words.canonical(word, WHERE) == word
    if does_nothing(kind, step):
        assert word == NEUTRAL[kind]
        assert words.step(word) is None
    else:
        assert words.step(word) == step


def _everything(step: Any) -> dict[str, Any]:
    """Every key, those left out that exclude each other."""
    exclusive = ("share", "pattern", "ratio", "energy", "rank") if step.__class__ in _EITHER else ()
    keys = {item.name: getattr(step, item.name) for item in fields(step)}
    return {key: value for key, value in keys.items() if key not in exclusive or value is not None}


_EITHER = (Sparsify, LowRank)


def _plain(value: Any) -> Any:
    return FLOAT if value is None else value


@pytest.mark.parametrize(
    ("kind", "given", "word"),
    [
        ("prune", 0.5, 0.5),
        ("prune", 0, 0.0),
        ("prune", {"channels": 0.5}, 0.5),
        ("prune", {"channels": 0.5, "criterion": "taylor", "repair": True}, "0.5 taylor repair"),
        ("prune", "0.5 repair multiple=8", "0.5 multiple=8 repair"),
        ("heads", {"share": 0.25, "criterion": "wanda"}, "0.25 wanda"),
        ("lowrank", {"ratio": 1.0}, 1.0),
        ("lowrank", {"energy": 0.9, "form": "spatial", "aware": True}, "energy=0.9 spatial aware"),
        ("lowrank", {"rank": 8, "form": "tucker"}, "rank=8 tucker"),
        ("sparsify", "2:4", "2:4"),
        ("sparsify", "4:4", 0.0),
        ("sparsify", {"pattern": "2:4", "criterion": "hessian"}, "2:4 hessian"),
        ("sparsify", {"share": 0.9, "scope": "model"}, "0.9 scope=model"),
        ("quantize", "w8a8", "w8a8"),
        ("quantize", "w4", "w4af"),
        ("quantize", {"weights": 8, "activations": 8}, "w8a8"),
        ("quantize", {"weights": "float", "activations": "float"}, "float"),
        ("quantize", {"weights": 4, "function": "kmeans"}, "w4 kmeans"),
        ("quantize", {"activations": 8, "dynamic": True}, "wfa8 dynamic"),
        (
            "quantize",
            {"weights": 4, "activations": 8, "granularity": "group", "rounding": "gptq"},
            "w4a8 group32 gptq",
        ),
        ("quantize", {"weights": 8, "activations": 8, "smooth": 0.5}, "w8a8 smooth=0.5"),
        ("quantize", "fp8", "fp8"),
        ("quantize", EIGHT_BIT_FLOATS, "fp8"),
        ("quantize", {**EIGHT_BIT_FLOATS, "ranges": "mse", "smooth": 0.5}, "fp8 mse smooth=0.5"),
        ("quantize", "w8a8 e4m3 inputs=e4m3 tensor", "fp8 tensor"),
        ("quantize", "w8a8 e4m3", "w8a8 e4m3"),
        ("quantize", "wfa8 inputs=e4m3", "wfa8 inputs=e4m3"),
    ],
)
def test_words_are_short_and_readable(kind: str, given: Any, word: object) -> None:
    assert Words(kind).canonical(given, WHERE) == word


def test_eight_bit_floats_take_no_defaults_of_integers() -> None:
    words = Words("quantize", {"signed": True, "ranges": "mse"}, open=("ranges",))
    assert words.step("fp8") == Quantize(8, 8, "mse", function="e4m3", inputs="e4m3")
    assert words.step("w8a8 e4m3") == Quantize(8, 8, "mse", function="e4m3", signed=True)
    assert words.canonical(EIGHT_BIT_FLOATS, WHERE) == "fp8"
    usual = Words("quantize", {"function": "e4m3", "inputs": "e4m3"})
    assert usual.canonical("w8a8", WHERE) == "fp8"
    assert usual.step("fp8") == Quantize(8, 8, function="e4m3", inputs="e4m3")
    assert usual.step("w8af") == Quantize(8, None, function="e4m3")


def test_a_choice_takes_the_spaces_defaults_and_may_say_otherwise() -> None:
    words = Words("prune", DEFAULTS["prune"])
    assert words.step(0.5) == Prune(0.5, "taylor", 8, True)
    word = words.canonical({"channels": 0.5, "repair": False, "criterion": "taylor"}, WHERE)
    assert word == "0.5 repair=false"
    assert words.step(word) == Prune(0.5, "taylor", 8, False)


def test_a_key_that_a_knob_decides_is_said_where_a_choice_says_it() -> None:
    words = Words("quantize", {"ranges": "minmax"}, open=("ranges",))
    said = words.canonical({"weights": 8, "activations": 8, "ranges": "minmax"}, WHERE)
    assert said == "w8a8 minmax"
    assert words.step(said, {"ranges": "mse"}) == Quantize(8, 8, "minmax")
    assert words.step("w8a8", {"ranges": "mse"}) == Quantize(8, 8, "mse")


def test_defaults_of_weights_are_not_for_weights_in_float() -> None:
    words = Words("quantize", {"function": "kmeans", "granularity": "tensor"}, open=("rounding",))
    assert words.canonical({"weights": None, "activations": 8}, WHERE) == "wfa8"
    assert words.step("wfa8", {"rounding": "nearest"}) == Quantize(None, 8)
    assert words.step("w4a8") == Quantize(4, 8, function="kmeans", granularity="tensor")
    assert words.canonical("float", WHERE) == "float"


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("prune", {"share": 0.5}, f"Unknown key of {WHERE} 'share'. Valid: channels, criterion"),
        ("prune", "0.5 tailor", f"{WHERE} cannot hold 'tailor'; valid: numbers, or keys of prune"),
        ("prune", "", "cannot hold ''"),
        ("prune", "0.5 chanels=2", "Did you mean 'channels'?"),
        ("prune", True, "cannot hold True; valid: numbers"),
        ("prune", {"criterion": "l1"}, f"{WHERE} needs channels beside criterion=l1"),
        ("prune", {"channels": "half"}, "prune.channels cannot be 'half'"),
        ("sparsify", 124, "cannot hold 124; valid: shares below 1, patterns in quotes"),
        ("sparsify", "4:2", "sparsify.pattern cannot be '4:2'"),
        ("sparsify", {"share": 0.5, "pattern": "2:4"}, "either a share or a pattern"),
        ("lowrank", {"ratio": 0.5, "rank": 4}, "one of ratio, energy and rank"),
        ("quantize", 8, f"{WHERE} cannot hold 8; valid: float, precisions such as w8a8"),
        ("quantize", {"function": "kmeans"}, "needs weights or activations beside function=kmeans"),
        ("quantize", "kmeans", "needs weights or activations beside function=kmeans"),
        ("quantize", "w4 groupy", "quantize.group cannot be 'y'"),
        ("quantize", {"weights": 3, "function": "ternary"}, f"{WHERE}: quantize.weights cannot be"),
        ("quantize", "w4 gptq kmeans", "quantize.rounding cannot be 'gptq' with function kmeans"),
        ("quantize", "fp8 signed", "'e4m3' with signed true; valid: signed false"),
        ("quantize", "fp8 e5m2", "valid: function e4m3, or float weights"),
        ("heads", {"share": 0.5, "criterion": "hessian"}, "valid: l1, l2, activation"),
    ],
)
def test_refuses_in_one_sentence(kind: str, given: Any, says: str) -> None:
    with pytest.raises(UserError) as refused:
        Words(kind).canonical(given, WHERE)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
