"""Channels that leave, against Torch-Pruning's own removal, and what has to stay true around it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.policies.policy_rules import kept_channels
from compressors.policies.steps import Prune
from compressors.pruning.channels import prune_channels
from compressors.pruning.plan import channel_plan
from compressors.structures.channel_groups import dependency_graph, group_of
from compressors.structures.inspection import inspect_model
from tests.compressors.architectures import ARCHITECTURES, FIVE, build, data_for, example_for
from tests.compressors.tiny import Images, Residual, seeded

IMAGE = (torch.zeros(1, 2, 8, 8),)


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def statistics(model: nn.Module, data: object | None = None) -> Statistics:
    return Statistics(model, Calibration(data or Images()), ContentCache())


def same_state(one: nn.Module, other: nn.Module) -> None:
    expected = other.state_dict()
    assert list(one.state_dict()) == list(expected)
    for name, value in one.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("name", FIVE)
def test_what_is_removed_is_what_torch_pruning_removes(name: str) -> None:
    ours, theirs, example = build(name), build(name), example_for(name)
    groups = inspect_model(ours, example).groups
    assert groups
    roots = {group.root: Prune(0.5, "l1") for group in groups}
    assert prune_channels(ours, example, roots, statistics(ours, data_for(name))) == ()
    ranks = {}
    importance = tp.importance.GroupMagnitudeImportance(p=1)
    with dependency_graph(theirs, example) as graph:
        for group in groups:
            scores = importance(group_of(graph, theirs.get_submodule(group.root)))
            ranks[group.root] = torch.argsort(scores.double(), stable=True)
        for group in groups:
            lost = group.channels - kept_channels(group.channels, roots[group.root])
            least = sorted(ranks[group.root][:lost].tolist())
            group_of(graph, theirs.get_submodule(group.root), least).prune()
    same_state(ours, theirs)
    with torch.no_grad():
        assert torch.equal(ours(images()), theirs(images()))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_family_loses_half_of_all_its_channels_and_runs(
    name: str, dtype: torch.dtype
) -> None:
    model, example = build(name, dtype), example_for(name, dtype)
    groups = inspect_model(model, example).groups
    before = sum(p.numel() for p in model.parameters())
    roots = {group.root: Prune(0.5, "wanda", repair=True) for group in groups}
    prune_channels(model, example, roots, statistics(model, data_for(name, dtype)))
    if groups:
        assert sum(p.numel() for p in model.parameters()) < before
    assert {p.dtype for p in model.parameters()} == {dtype}
    with torch.no_grad():
        assert bool(model(*example).isfinite().all())


def test_a_whole_group_loses_its_channels() -> None:
    model = seeded(Residual)
    model.fc.requires_grad_(False)
    roots = {"conv1": Prune(0.5), "layer2.0.conv2": Prune(0.5)}
    assert prune_channels(model, IMAGE, roots, statistics(model)) == ()
    assert model.conv1.out_channels == model.layer1[1].conv2.out_channels == 4
    assert model.bn1.num_features == model.layer1[0].conv1.in_channels == 4
    assert model.layer2[0].shortcut[0].weight.shape == (8, 4, 1, 1)
    assert model.fc.in_features == 8
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    assert wanted == {name: not name.startswith("fc.") for name in wanted}


@pytest.mark.parametrize("criterion", ["l1", "l2", "batchnorm", "wanda", "taylor", "hessian"])
def test_dead_channels_go_first_and_change_nothing(criterion: str) -> None:
    model = seeded(Residual)
    block = model.layer2[1]
    with torch.no_grad():
        for index in (3, 11):
            block.conv1.weight[index] = 0
            block.bn1.weight[index] = 0
            block.bn1.bias[index] = 0
            block.conv2.weight[:, index] = 0
        before = model(images())
        roots = {"layer2.1.conv1": Prune(2 / 16, criterion)}
        assert prune_channels(model, IMAGE, roots, statistics(model)) == ()
        assert block.conv1.out_channels == 14
        torch.testing.assert_close(model(images()), before)


def test_a_share_below_half_a_multiple_is_noted() -> None:
    model = seeded(Residual)
    roots = {"conv1": Prune(0.25, multiple=8)}
    notes = prune_channels(model, IMAGE, roots, statistics(model))
    assert model.conv1.out_channels == 8
    assert notes == ("conv1: all 8 channels kept, the nearest multiple of 8 to 6",)


def test_nothing_to_prune_costs_nothing() -> None:
    model = seeded(Residual)
    known = statistics(model)
    model.forward = None  # whoever runs it fails
    assert prune_channels(model, IMAGE, {}, known) == ()
    assert prune_channels(model, IMAGE, {"conv1": Prune(0.0, "taylor")}, known) == ()


def test_a_plan_serves_every_copy_of_the_model() -> None:
    model = build("densenet")
    example = example_for("densenet")
    names = [group.root for group in inspect_model(model, example).groups]
    plan = channel_plan(model, example, names)
    roots = {name: Prune(0.5, "activation", repair=True) for name in names}
    with_plan, without = deepcopy(model), deepcopy(model)
    prune_channels(with_plan, example, roots, statistics(with_plan), plan=plan)
    prune_channels(without, example, roots, statistics(without))
    same_state(with_plan, without)


def test_rounds_end_at_the_count_that_one_cut_ends_at() -> None:
    roots = {"conv1": Prune(0.4), "layer2.0.conv2": Prune(0.7, multiple=2)}
    originals = {"conv1": 8, "layer2.0.conv2": 16}
    once, often = seeded(Residual), seeded(Residual)
    prune_channels(once, IMAGE, roots, statistics(once))
    counts = []
    for done in (0.3, 0.6, 0.95, 1.0):
        prune_channels(often, IMAGE, roots, statistics(often), originals, done=done)
        counts.append((often.conv1.out_channels, often.layer2[0].conv2.out_channels))
    assert counts == [(7, 12), (6, 10), (5, 6), (5, 4)]
    assert counts[-1] == (once.conv1.out_channels, once.layer2[0].conv2.out_channels)
