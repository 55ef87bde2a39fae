"""Policies held against a structure: patterns, refusals, roundings."""

from __future__ import annotations

from typing import Any

import pytest

from compressors.errors import PolicyError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.policy_rules import (
    check,
    expand,
    full_rank,
    kept_channels,
    kept_heads,
    rank_of,
)
from compressors.policies.steps import Heads, LowRank, Prune, Quantize, Sparsify
from compressors.structures.structure import Attention, Block, ChannelGroup, Layer, Structure

NAMES = ("stem", "a.conv1", "a.conv2", "b.conv1", "b.conv2", "head")
INT8 = Quantize(8, 8)


def layer(name: str, groups: int = 1) -> Layer:
    kind = "linear" if name == "head" else "conv2d"
    return Layer(name, kind, 16, 16, (3, 3), groups, parameters=1, macs=1)


STRUCTURE = Structure(
    layers=tuple(layer(name, 16 if name == "b.conv1" else 1) for name in NAMES),
    groups=(
        ChannelGroup("stem", 16, ("stem", "a.conv2", "b.conv2")),
        ChannelGroup("a.conv1", 16, ("a.conv1",)),
    ),
    blocks=(Block("a", ("a.conv1", "a.conv2")), Block("b", ("b.conv1", "b.conv2"))),
)
PARTS = ("query", "key", "value", "output")
WORDS = Structure(
    layers=(
        Layer("table", "embedding", 100, 16, (), 1, parameters=1, macs=1),
        *(Layer(f"attn.{part}", "linear", 16, 16, (), 1, 1, 1) for part in PARTS),
        Layer("up", "conv_transpose2d", 16, 16, (2, 2), 1, 1, 1),
    ),
    groups=(),
    blocks=(),
    attentions=(Attention("attn", 4, *(f"attn.{part}" for part in PARTS)),),
)


@pytest.mark.parametrize(
    ("channels", "share", "multiple", "kept"),
    [
        (16, 0.0, 8, 16),
        (10, 0.0, 8, 10),
        (16, 0.5, 1, 8),
        (16, 0.5, 8, 8),
        (16, 0.25, 8, 16),  # 12 is as near to 16 as to 8: the larger
        (16, 0.3, 8, 8),
        (16, 0.99, 8, 8),
        (16, 0.99, 1, 1),
        (4, 0.5, 8, 4),
        (64, 0.1, 1, 58),
        (10, 0.7, 1, 3),
    ],
)
def test_kept_channels(channels: int, share: float, multiple: int, kept: int) -> None:
    assert kept_channels(channels, Prune(share, multiple=multiple)) == kept


def test_ranks() -> None:
    assert full_rank(layer("stem")) == 16
    assert [rank_of(16, ratio) for ratio in (0.001, 0.5, 1.0)] == [1, 8, 16]


@pytest.mark.parametrize(
    ("heads", "share", "kept"), [(4, 0.0, 4), (4, 0.5, 2), (4, 0.99, 1), (3, 0.5, 2), (1, 0.9, 1)]
)
def test_kept_heads(heads: int, share: float, kept: int) -> None:
    assert kept_heads(heads, share) == kept


def test_a_policy_of_plain_names_expands_to_itself() -> None:
    policy = Policy(remove=("a",), layers=(LayerPolicy("stem", quantize=INT8),))
    assert expand(policy, STRUCTURE) == policy


def test_a_pattern_reaches_the_layers_that_can_take_the_step() -> None:
    everything = LayerPolicy("*", Prune(0.5), LowRank(0.5), INT8)
    expanded = expand(Policy(layers=(everything,)), STRUCTURE)
    check(expanded, STRUCTURE)
    given = {entry.name: entry for entry in expanded.layers}
    assert {name for name, entry in given.items() if entry.prune} == {"stem", "a.conv1"}
    assert {name for name, entry in given.items() if entry.lowrank} == set(NAMES) - {"b.conv1"}
    assert {name for name, entry in given.items() if entry.quantize} == set(NAMES)


def test_an_exact_name_wins_over_a_pattern_step_by_step() -> None:
    exact = LayerPolicy("a.conv1", quantize=Quantize(4, 8))
    pattern = LayerPolicy("a.*", Prune(0.5), quantize=INT8)
    expanded = expand(Policy(layers=(exact, pattern)), STRUCTURE)
    assert expanded.layer("a.conv1") == LayerPolicy("a.conv1", Prune(0.5), None, Quantize(4, 8))
    assert expanded.layer("a.conv2").quantize == INT8


def test_patterns_leave_the_layers_of_removed_blocks_out() -> None:
    expanded = expand(Policy(("?",), (LayerPolicy("*", quantize=INT8),)), STRUCTURE)
    assert expanded.remove == ("a", "b")
    assert [entry.name for entry in expanded.layers] == ["head", "stem"]
    check(expanded, STRUCTURE)


def test_two_patterns_may_not_give_one_step_twice() -> None:
    layers = (LayerPolicy("a.*", quantize=INT8), LayerPolicy("*.conv1", quantize=INT8))
    with pytest.raises(PolicyError, match=r"both give quantize to layer 'a\.conv1'"):
        expand(Policy(layers=layers), STRUCTURE)
    different = (LayerPolicy("a.*", quantize=INT8), LayerPolicy("*.conv2", lowrank=LowRank(0.5)))
    assert expand(Policy(layers=different), STRUCTURE).layer("a.conv2").lowrank


def test_a_pattern_gives_heads_to_attentions_and_the_rest_to_their_layers() -> None:
    entries = (LayerPolicy("attn*", heads=Heads(0.5)), LayerPolicy("*", quantize=Quantize(4, None)))
    expanded = expand(Policy(layers=entries), WORDS)
    check(expanded, WORDS)
    assert [entry.name for entry in expanded.layers if entry.heads] == ["attn"]
    assert {e.name for e in expanded.layers if e.quantize} == {x.name for x in WORDS.layers}


@pytest.mark.parametrize(
    ("name", "step", "sentence"),
    [
        ("attn", {"quantize": INT8}, "'attn' is an attention, which takes heads alone"),
        ("attn.key", {"heads": Heads(0.5)}, "it is no attention; valid: attn"),
        ("table", {"quantize": INT8}, "an embedding reads whole numbers"),
        ("table", {"quantize": Quantize(4, None, rounding="gptq")}, "gptq is for linear, conv1d"),
        ("table", {"quantize": Quantize(4, None, rounding="learned")}, "valid: nearest"),
        ("table", {"lowrank": LowRank(0.5, aware=True)}, "aware is for linear, conv1d, conv2d"),
        ("up", {"sparsify": Sparsify(0.5, criterion="wanda")}, "valid: magnitude, taylor"),
        ("up", {"quantize": Quantize(8, 8, smooth=0.5)}, "smooth is for linear layers"),
        ("attn.key", {"lowrank": LowRank(0.5, form="spatial")}, "valid: channel"),
    ],
)
def test_each_step_is_for_the_layers_that_can_take_it(
    name: str, step: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        check(Policy(layers=(LayerPolicy(name, **step),)), WORDS)
    assert sentence in str(caught.value)
    assert f"{next(iter(step))} cannot be given to layer '{name}'" in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (Policy(layers=(LayerPolicy("x*", quantize=INT8),)), "'x*' matches no layer"),
        (Policy(remove=("x*",)), "'x*' matches no removable block"),
        (Policy(layers=(LayerPolicy("b.*", Prune(0.5)),)), "can take prune; 'b.conv1', for one: "),
        (Policy(layers=(LayerPolicy("[b].conv1", lowrank=LowRank(0.5)),)), "can take lowrank"),
        (Policy(layers=(LayerPolicy("a.*", heads=Heads(0.5)),)), "valid: none in this model"),
    ],
)
def test_patterns_that_reach_nothing_are_refused(policy: Policy, sentence: str) -> None:
    with pytest.raises(PolicyError) as caught:
        expand(policy, STRUCTURE)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (Policy(layers=(LayerPolicy("stam", quantize=INT8),)), "Did you mean 'stem'?"),
        (Policy(remove=("c",)), "Unknown removable block 'c'"),
        (
            Policy(("a",), (LayerPolicy("a.conv1", quantize=INT8),)),
            "'a.conv1' is inside the removed block 'a'",
        ),
        (Policy(layers=(LayerPolicy("b.conv2", Prune(0.5)),)), "go with those of 'stem'"),
        (Policy(layers=(LayerPolicy("head", Prune(0.5)),)), "valid: stem, a.conv1"),
        (Policy(layers=(LayerPolicy("b.conv1", lowrank=LowRank(0.5)),)), "it has 16 groups"),
    ],
)
def test_what_the_model_cannot_take_is_refused(policy: Policy, sentence: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check(policy, STRUCTURE)
    assert sentence in str(caught.value)
