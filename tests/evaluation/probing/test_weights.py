"""Changes of weights, held against the compressed models themselves on every architecture."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from compressors.errors import PolicyError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.policy_rules import expand
from compressors.policies.steps import Heads, LowRank, Prune, Quantize, Sparsify
from compressors.stack import Stack
from compressors.structures.structure import Structure
from compressors.surroundings import Surroundings
from evaluation.probing.cuts import kept_inputs, places
from evaluation.probing.gauss_newton import own_parameter
from evaluation.probing.weights import Weights, original, weight_changes
from tests.compressors.architectures import ARCHITECTURES, build, data_for

NAMES = [name for name in ARCHITECTURES if not name.startswith("hugging")]
MIXING = ("transformer", "own_attention")  # have layer norms, which mix what passes them
EVERYWHERE = [
    LayerPolicy("*", quantize=Quantize(3, None)),
    LayerPolicy("*", quantize=Quantize(4, None, function="asymmetric", rounding="gptq")),
    LayerPolicy("*", quantize=Quantize(3, None, bias_correction=True)),
    LayerPolicy("*", sparsify=Sparsify(share=0.5)),
    LayerPolicy("*", lowrank=LowRank(ratio=0.5)),
]


def policies(structure: Structure) -> list[Policy]:
    """Each step everywhere, and each group's channels and each attention's heads by themselves."""
    found = [Policy(layers=(entry,)) for entry in EVERYWHERE]
    for group in structure.groups:
        found.append(Policy(layers=(LayerPolicy(group.root, prune=Prune(0.5)),)))
    for attention in structure.attentions:
        found.append(Policy(layers=(LayerPolicy(attention.name, heads=Heads(0.5)),)))
    return [expand(policy, structure) for policy in found]


def changed(model: nn.Module, change: Weights) -> nn.Module:
    copy = deepcopy(model)
    for key, added in change.items():
        own_parameter(copy, key, added.shape).data += added
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_were_changed_compute_what_the_compressed_model_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Surroundings, "renew_norms", lambda *_: None)  # which is no weight
    data = data_for(name)
    stack = Stack(build(name), data)
    model = original(stack)
    inputs = next(iter(data.batches("calibration"))).args
    wanted = policies(stack.structure)
    for policy, change in zip(wanted, weight_changes(stack, wanted, Policy(), model), strict=True):
        if change is None and name in MIXING and policy.layers[0].prune:
            continue
        assert change, policy
        with torch.no_grad():
            expected: Tensor = stack.apply(policy).module(*inputs)
            found: Tensor = changed(model, change)(*inputs)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_policies_applied_together_change_what_they_change_apart() -> None:
    stack = Stack(build("mobilenet"), data_for("mobilenet"))
    model = original(stack)
    names = [layer.name for layer in stack.structure.layers]
    steps = [
        {"quantize": Quantize(2, None)},
        {"quantize": Quantize(4, None, rounding="gptq", bias_correction=True)},
        {"sparsify": Sparsify(share=0.5)},
    ]
    wanted = [Policy(layers=(LayerPolicy(name, **step),)) for step in steps for name in names]
    together = weight_changes(stack, wanted, Policy(), model)
    for policy, change in zip(wanted[::4], together[::4], strict=True):
        (alone,) = weight_changes(stack, [policy], Policy(), model)
        assert alone
        assert change
        assert alone.keys() == change.keys()
        assert all(torch.equal(alone[key], change[key]) for key in alone)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(layers=(LayerPolicy("*", quantize=Quantize(8, 8)),)),
        Policy(layers=(LayerPolicy("*", quantize=Quantize(None, 8)),)),
        Policy(layers=(LayerPolicy("*", quantize=Quantize(4, None)),), equalize=True),
        Policy(remove=("layer1.1",)),
    ],
)
def test_more_than_weights_is_no_change_of_weights(policy: Policy) -> None:
    stack = Stack(build("resnet"), data_for("resnet"))
    assert weight_changes(stack, [expand(policy, stack.structure)], Policy(), original(stack)) == [
        None
    ]


def test_around_a_policy_only_what_differs_counts() -> None:
    stack = Stack(build("plain"), data_for("plain"))
    model = original(stack)
    first, second = (layer.name for layer in stack.structure.layers[:2])
    eight = LayerPolicy(second, quantize=Quantize(8, 8))
    around = Policy(layers=(LayerPolicy(first, quantize=Quantize(8, None)), eight))
    lower = Policy(layers=(LayerPolicy(first, quantize=Quantize(2, None)), eight))
    same, change = weight_changes(stack, [around, lower], around, model)
    assert same == {}
    assert change
    assert list(change) == [(first, "weight")]
    rounded = [stack.apply(policy).module.get_submodule(first).weight for policy in (lower, around)]
    torch.testing.assert_close(change[first, "weight"], rounded[0] - rounded[1])


def test_repaired_layers_are_no_part_of_the_original() -> None:
    stack = Stack(build("plain"), data_for("plain"))
    root = stack.structure.groups[0].root
    cut = Policy(layers=(LayerPolicy(root, prune=Prune(0.5, repair=True)),))
    assert weight_changes(stack, [cut], Policy(), original(stack)) == [None]


def test_channels_that_a_layer_norm_mixes_are_not_scored() -> None:
    stack = Stack(build("transformer"), data_for("transformer"))
    roots = [group.root for group in stack.structure.groups]
    cuts = [Policy(layers=(LayerPolicy(root, prune=Prune(0.5)),)) for root in roots]
    found = dict(zip(roots, weight_changes(stack, cuts, Policy(), original(stack)), strict=True))
    assert found["encoder.layers.0.linear1"]
    assert None in found.values()


def test_which_inputs_stayed_is_read_off_the_weights() -> None:
    whole = torch.randn(7, 6, 9, generator=torch.Generator().manual_seed(0))
    assert kept_inputs(whole[[1, 2, 5]], whole) == [1, 2, 5]
    assert kept_inputs(whole[[2, 6]][:, [0, 3, 4]], whole) == [2, 6]
    assert kept_inputs(whole[[2, 6]][:, [0, 3, 4]] + 1, whole) is None
    assert kept_inputs(whole[[6, 2]], whole) is None
    half = whole.bfloat16()
    assert kept_inputs(half[[2, 6]][:, [0, 3, 4]], half) == [2, 6]
    equal = torch.zeros(4, 3)
    assert places(equal[:2], equal) == [0, 1]


def test_a_policy_that_a_model_cannot_take_is_refused() -> None:
    stack = Stack(build("plain"), data_for("plain"))
    unknown = Policy(layers=(LayerPolicy("nowhere", quantize=Quantize(4, None)),))
    with pytest.raises(PolicyError, match="nowhere"):
        weight_changes(stack, [unknown], Policy(), original(stack))
