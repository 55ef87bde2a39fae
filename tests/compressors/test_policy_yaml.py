"""Policies as YAML: identical bytes there and back, and one clear sentence for what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.errors import PolicyError
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.policy_yaml import dump, load, policy_id, read, write
from compressors.policies.steps import LowRank, Prune, Quantize

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
BITS = st.none() | st.integers(2, 8)
PRUNES = st.builds(
    Prune,
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["l1", "l2"]),
    st.integers(1, 64),
)
LOWRANKS = st.builds(LowRank, st.floats(0, 1, exclude_min=True))
QUANTIZES = st.builds(Quantize, BITS, BITS, st.sampled_from(["minmax", "percentile", "mse"]))
LAYERS = st.builds(
    LayerPolicy, NAMES, st.none() | PRUNES, st.none() | LOWRANKS, st.none() | QUANTIZES
)
POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False)
RECOVERIES = st.builds(
    Recovery,
    epochs=st.integers(0, 100),
    learning_rate=POSITIVE,
    temperature=POSITIVE,
    weight=st.floats(0, 1),
    batch_size=st.integers(1, 512),
    optimizer=st.sampled_from(["adamw", "sgd"]),
    schedule=st.sampled_from(["constant", "cosine"]),
    seed=st.integers(0, 2**63),
)
POLICIES = st.builds(
    Policy,
    st.lists(NAMES, max_size=4, unique=True).map(tuple),
    st.lists(LAYERS, max_size=4, unique_by=lambda layer: layer.name).map(tuple),
    RECOVERIES,
)


@given(POLICIES)
@settings(max_examples=300, deadline=None)
def test_round_trip_gives_the_same_policy_and_the_same_bytes(policy: Policy) -> None:
    text = dump(policy)
    again = load(text)
    assert again == policy
    assert dump(again) == text
    assert policy_id(again) == policy_id(policy)


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
        "    prune: {channels: 0.5, criterion: l2, multiple: 8}\n"
        "    lowrank: {ratio: 0.5}\n"
        "    quantize: {weights: 8, activations: float, ranges: minmax}\n"
        "recovery: {epochs: 12, learning_rate: 0.001, temperature: 4.0, weight: 0.5,"
        " batch_size: 64, optimizer: adamw, schedule: cosine, seed: 0}\n"
    )


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
    LAYER + "{quantize: {weights: 16, activations: 8}}": "valid: 2, 3, 4, 5, 6, 7, 8, or float",
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
