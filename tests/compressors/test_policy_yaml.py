"""Policies as YAML: identical bytes there and back, and one clear sentence for what is wrong."""

from __future__ import annotations

import os
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from compressors.errors import PolicyError
from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy, Recovery, Rounds
from compressors.policies.policy_yaml import dump, load, policy_id, read, write
from compressors.policies.steps import Heads, LowRank, Prune, Quantize, Sparsify
from tests.compressors.drawn import (
    HEADS,
    LAYERS,
    LOWRANKS,
    POLICIES,
    PRUNES,
    QUANTIZES,
    RECOVERIES,
    ROUNDS,
    SPARSIFIES,
)


def test_the_strategies_fill_every_field() -> None:
    """A key that is added later must be drawn here too."""
    made = {
        Prune: PRUNES,
        Heads: HEADS,
        LowRank: LOWRANKS,
        Quantize: QUANTIZES,
        Sparsify: SPARSIFIES,
        LayerPolicy: LAYERS,
        Recovery: RECOVERIES,
        Rounds: ROUNDS,
        Policy: POLICIES,
    }
    for kind, strategy in made.items():
        for field in fields(kind):
            if field.name != "version":
                wanted = partial(_says, field.name, field.default)
                find(strategy, wanted, settings=settings(phases=[Phase.generate], database=None))


def _says(name: str, default: Any, made: Any) -> bool:
    return getattr(made, name) not in (default, ())


@given(POLICIES)
@settings(max_examples=150, deadline=None)
def test_round_trip_gives_the_same_policy_and_the_same_bytes(policy: Policy) -> None:
    text = dump(policy)
    again = load(text)
    assert again == policy
    assert dump(again) == text
    assert policy_id(again) == policy_id(policy)


def test_inputs_in_floats_are_asked_for_by_a_key_and_older_policies_mean_what_they_meant() -> None:
    text = f"version: 1\nlayers:\n  fc:\n    quantize: {{{EIGHT_BIT_FLOATS}}}\n"
    policy = load(text)
    assert policy.layer("fc").quantize == Quantize(8, 8, function="e4m3", inputs="e4m3")
    assert dump(policy) == text
    older = load(text.replace(", inputs: e4m3", ""))
    assert older.layer("fc").quantize == Quantize(8, 8, function="e4m3", inputs="affine")
    assert policy_id(older) == "d4fb7d0a4c4b"  # as it was before there was the key
    assert policy_id(older) != policy_id(policy)


@given(st.text(max_size=60) | POLICIES.map(dump).flatmap(lambda t: st.sampled_from(cuts(t))))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    try:
        policy = load(text)
    except PolicyError:
        return  # any other exception is a defect
    assert load(dump(policy)) == policy


def cuts(text: str) -> list[str]:
    return [text[: len(text) * part // 8] for part in range(1, 8)]


def test_the_canonical_text_is_what_the_documentation_shows() -> None:
    policy = Policy(
        remove=("layer1.1",),
        layers=(
            LayerPolicy("layer1.0.conv1", Prune(0.5, multiple=8), LowRank(0.5), Quantize(8, None)),
        ),
        recovery=Recovery(epochs=12),
    )
    assert dump(policy) == (
        "version: 1\n"
        "remove: [layer1.1]\n"
        "layers:\n"
        "  layer1.0.conv1:\n"
        "    prune: {channels: 0.5, multiple: 8}\n"
        "    lowrank: {ratio: 0.5}\n"
        "    quantize: {weights: 8, activations: float}\n"
        "recovery: {epochs: 12}\n"
    )


def test_what_is_at_its_default_is_not_said_and_changes_no_id() -> None:
    """A key that is added later, with a default that changes nothing, keeps every policy's id."""
    entry = "conv1:\n    quantize: {weights: 8, activations: float"
    short = load(f"version: 1\nlayers:\n  {entry}}}\n")
    long = load(
        "version: 1\nstudent: original\nremove: []\nequalize: false\nrounds: {count: 1}\n"
        "recovery: {epochs: 0, teacher: original, hints: []}\n"
        f"layers:\n  {entry}, ranges: minmax, function: symmetric, smooth: 0}}\n"
    )
    assert long == short
    assert dump(long) == dump(short) == f"version: 1\nlayers:\n  {entry}}}\n"


def test_ids_tell_policies_apart_and_not_their_order_or_spelling() -> None:
    first, second = LayerPolicy("a", Prune(0.5)), LayerPolicy("b", Prune(0.25))
    assert policy_id(Policy(layers=(first, second))) == policy_id(Policy(layers=(second, first)))
    assert policy_id(Policy(layers=(first,))) != policy_id(Policy(layers=(second,)))
    assert policy_id(load("version: 1")) == policy_id(Policy())
    assert len(policy_id(Policy())) == 12


def test_hand_written_text_may_be_short_and_use_plain_numbers() -> None:
    text = """
version: 1
layers:
  0: {quantize: {weights: 8, activations: float}}
  1.0: {prune: {channels: 0}}
recovery: {learning_rate: 1e-3, epochs: 2}
"""
    policy = load(text)
    assert [layer.name for layer in policy.layers] == ["0", "1.0"]
    assert policy.layer("0").quantize == Quantize(8, None)
    assert policy.recovery == Recovery(epochs=2, learning_rate=1e-3)


EIGHT_BIT_FLOATS = "weights: 8, activations: 8, function: e4m3, inputs: e4m3"
LAYER = "version: 1\nlayers:\n  conv1: "
BAD = {
    "": "empty",
    "version: 2": "line 1: version cannot be 2; valid: 1",
    "version: true": "version cannot be True",
    "layers: {}": "'version' of policy is missing|'version' is missing",
    "[1, 2": "line 1: not valid YAML",
    "- a": "must be a mapping",
    "version: 1\nlayer: {}": "line 2: Unknown key of policy 'layer'. Did you mean 'layers'",
    "version: 1\nversion: 1": "line 2: the key 'version' of policy is written twice",
    "version: 1\nlayers:": "layers must be a mapping",
    "version: 1\nremove: layer1": "remove must be a list",
    "version: 1\nremove: [a, a]": "remove names 'a' twice",
    "version: 1\nremove: !!python/object/apply:os.system [ls]": "is not allowed",
    LAYER + "{prune: {chanels: 0.5}}": "line 3: Unknown key of prune 'chanels'",
    LAYER + "{prune: {criterion: l2}}": "the key 'channels' of prune is missing",
    LAYER + "{prune: {channels: 1.0}}": "prune.channels cannot be 1.0; valid: 0 <= share < 1",
    LAYER + "{prune: {channels: .nan}}": "prune.channels cannot be nan",
    LAYER + "{prune: {channels: half}}": "prune.channels cannot be 'half'",
    LAYER + "{prune: {channels: 0.5, criterion: l3}}": "valid: l1, l2",
    LAYER + "{lowrank: {ratio: 0}}": "lowrank.ratio cannot be 0",
    LAYER + "{quantize: {weights: 0, activations: 8}}": "quantize.weights cannot be 0",
    LAYER + "{quantize: {weights: 9, activations: 8}}": "valid: 1, 2, 3, 4, 5, 6, 7, 8, 16, or fl",
    LAYER + "{quantize: {weights: 8, activations: 16}}": "valid: 2, 3, 4, 5, 6, 7, 8, or float",
    LAYER + "{quantize: {weights: 3, activations: 8, function: ternary}}": "valid: 2 bits, or at 3",
    LAYER + "{quantize: {weights: 4, activations: float, dynamic: true}}": "with float activations",
    LAYER + "{quantize: {weights: float, activations: 8, rounding: gptq}}": "with float weights",
    LAYER + "{quantize: {weights: float, activations: 8, function: log}}": "cannot be 'log'",
    LAYER + "{quantize: {weights: float, activations: 8, granularity: group}}": "leave it out",
    LAYER + "{quantize: {weights: float, activations: 8, bias_correction: true}}": "leave it out",
    LAYER + "{quantize: {weights: 4, activations: float, signed: true}}": "takes activations",
    LAYER + "{quantize: {weights: 8, activations: 8, dynamic: 1}}": "valid: true, false",
    LAYER + "{quantize: {weights: 8, activations: 8, function: e5m2, inputs: e5m2}}": (
        "quantize.inputs cannot be 'e5m2'; valid: affine, e4m3"
    ),
    LAYER + "{quantize: {weights: 8, activations: 6, function: e4m3, inputs: e4m3}}": (
        "'e4m3' with 6 bits; valid: activations 8, or inputs affine"
    ),
    LAYER + "{quantize: {weights: 8, activations: float, function: e4m3, inputs: e4m3}}": (
        "'e4m3' with float activations; valid: activations 8, or inputs affine"
    ),
    LAYER + "{quantize: {weights: 8, activations: 8, inputs: e4m3}}": (
        "with weights of function symmetric; valid: function e4m3, or float weights"
    ),
    **{
        LAYER + f"{{quantize: {{{EIGHT_BIT_FLOATS}, {key}: true}}}}": (
            f"'e4m3' with {key} true; valid: {key} false, or inputs affine"
        )
        for key in ("dynamic", "signed")
    },
    LAYER + "{heads: {share: 0.5, criterion: hessian}}": "valid: l1, l2, activation, taylor, wanda",
    LAYER + "{sparsify: {share: 0.5, pattern: '2:4'}}": "either a share or a pattern",
    LAYER + "{sparsify: {pattern: 2:4}}": "sparsify.pattern cannot be 124; valid: n:m",
    LAYER + "{sparsify: {pattern: '4:2'}}": "sparsify.pattern cannot be '4:2'",
    LAYER + "{sparsify: {pattern: '2:4', scope: model}}": "sparsify.scope cannot be 'model'",
    LAYER + "{lowrank: {ratio: 0.5, rank: 3}}": "one of ratio, energy and rank",
    LAYER + "{lowrank: {rank: 0}}": "lowrank.rank cannot be 0",
    LAYER
    + "{lowrank: {energy: 0.9, form: tucker, aware: true}}": "cannot be true with form tucker",
    "version: 1\nrounds: {count: 0}": "rounds.count cannot be 0",
    "version: 1\nequalize: 1": "equalize cannot be 1; valid: true, false",
    "version: 1\nrecovery: {hints: layer1}": "hints must be a list",
    "version: 1\nrecovery: {features: -1}": "recovery.features cannot be -1; valid: a number fr",
    LAYER + "{quantize: {weights: 8}}": "'activations' of quantize is missing",
    LAYER + "{quantize: {weights: 8, activations: 8, bits: 8}}": "Unknown key of quantize 'bits'",
    LAYER + "{quantise: {}}": "Did you mean 'quantize'",
    LAYER + "{quantize: [8, 8]}": "quantize must be a mapping",
    LAYER + "{quantize: {weights: 8,": "not valid YAML",
    "version: 1\nrecovery: {epochs: 1.5}": "recovery.epochs cannot be 1.5",
    "version: 1\nrecovery: {epochs: -1}": "valid: a whole number from 0",
    "version: 1\nrecovery: {learning_rate: 0}": "recovery.learning_rate cannot be 0",
    "version: 1\nrecovery: {optimizer: adam}": "valid: adamw, sgd",
    "version: 1\nrecovery: {seed: 2001-01-01}": "is not allowed",
    "version: 1\nrecovery: {seed: " + "1" * 5000 + "}": "recovery.seed cannot be",
    "[" * 4000: "nested too deeply|not valid YAML",
    "a: &x [*x]\nversion: 1": "Unknown key of policy 'a'",
    "version: 1\n---\nversion: 1": "not valid YAML",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_bad_text_is_refused_in_one_sentence_with_file_and_reason(text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(text, source="mine.yaml")
    message = str(caught.value)
    assert message.startswith("mine.yaml")
    assert "\n" not in message
    assert any(part in message for part in BAD[text].split("|")), message


def test_a_tag_in_a_file_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = f"version: 1\nremove: !!python/object/apply:os.mkdir ['{marker}']\n"
    with pytest.raises(PolicyError):
        load(text)
    assert not marker.exists()


def test_files_are_written_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    policy = Policy(remove=("layer1.1",))
    write(policy, path)
    assert read(path) == policy
    assert path.read_bytes() == dump(policy).encode()
    assert os.listdir(tmp_path) == ["policy.yaml"]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.yaml", tmp_path, binary):
        with pytest.raises(PolicyError, match=path.name):
            read(path)


@given(POLICIES)
@settings(deadline=None)
def test_the_text_is_that_of_the_plain_writer(policy: Policy) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_yaml, "_FAST", yaml.SafeDumper)
        plain = dump(policy)
    assert dump(policy) == plain
