"""Bundles that leave: whole ones, by the sum of their scores, to counts that can be."""

from __future__ import annotations

from copy import deepcopy
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.policies.policy_rules import kept_channels
from compressors.policies.steps import Criterion, Prune
from compressors.pruning.channels import prune_channels
from compressors.pruning.criteria import importance
from compressors.pruning.plan import channel_plan
from compressors.structures.inspection import inspect_model
from tests.compressors.architectures import build, data_for, example_for
from tests.compressors.tiny import Images

EXAMPLE = example_for("resnext")


def statistics(model: nn.Module) -> Statistics:
    return Statistics(model, Calibration(data_for("resnext")), ContentCache())


def answers(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(Images().all("test")[0])


def with_a_dead_bundle(dead: tuple[int, ...]) -> nn.Module:
    """Nothing comes through these channels of either side of the convolution in groups."""
    model = build("resnext")
    block = model.blocks[1]
    with torch.no_grad():
        for layer, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
            for values in (layer.weight, norm.weight, norm.bias):
                values[list(dead)] = 0
        block.conv2.weight[:, dead[0]] = 0
        block.conv3.weight[:, list(dead)] = 0
    return model


@pytest.mark.parametrize("criterion", get_args(Criterion))
@pytest.mark.parametrize("repair", [False, True])
def test_a_dead_bundle_goes_first_and_changes_nothing(criterion: str, repair: bool) -> None:
    dead = (1, 5, 9, 13)
    model = with_a_dead_bundle(dead)
    whole, before = deepcopy(model), answers(model)
    roots = {f"blocks.1.conv{i}": Prune(0.25, criterion, repair=repair) for i in (1, 2)}
    prune_channels(model, EXAMPLE, roots, statistics(model))
    kept = [channel for channel in range(16) if channel not in dead]
    block, old = model.blocks[1], whole.blocks[1]
    assert torch.equal(block.conv1.weight, old.conv1.weight[kept])
    assert torch.equal(block.conv2.weight, old.conv2.weight[kept][:, [0, 2, 3]])
    torch.testing.assert_close(answers(model), before, atol=1e-3 if repair else 1e-5, rtol=1e-3)


def test_a_bundle_is_worth_the_sum_of_its_channels() -> None:
    model = build("resnext")
    with torch.no_grad():
        model.blocks[1].conv1.weight[2] = 100  # one of (2, 6, 10, 14) saves them all
        model.blocks[1].conv1.weight[[6, 10, 14]] = 0
    roots = {"blocks.1.conv1": Prune(0.75, "l2")}
    prune_channels(model, EXAMPLE, roots, statistics(model))
    assert (model.blocks[1].conv1.weight == 100).flatten(1).all(1).tolist() == [True] + 3 * [False]


@pytest.mark.parametrize("criterion", ["l2", "taylor", "wanda"])
def test_what_a_reader_in_groups_says_is_what_one_with_zeros_between_says(criterion: str) -> None:
    """A convolution in groups is one of a single group whose other weights are zero."""
    model = build("resnext")
    other, block = deepcopy(model), model.blocks[1]
    dense = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    with torch.no_grad():
        dense.weight.zero_()
        for group in range(4):
            rows = slice(4 * group, 4 * group + 4)
            dense.weight[rows, rows] = block.conv2.weight[rows]
    other.blocks[1].conv2 = dense
    scores = []
    for one in (model, other):
        parts = channel_plan(one, EXAMPLE, ["blocks.1.conv1"])["blocks.1.conv1"]
        found, note = importance(one, parts, 16, criterion, statistics(one))
        assert note is None
        scores.append(found)
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("share", "multiple", "bundle", "kept"),
    [(0.5, 1, 4, 8), (0.4, 1, 4, 8), (0.3, 1, 4, 12), (0.5, 6, 4, 12), (0.9, 1, 4, 4)],
)
def test_counts_are_multiples_of_the_bundle_too(
    share: float, multiple: int, bundle: int, kept: int
) -> None:
    assert kept_channels(16, Prune(share, multiple=multiple), bundle) == kept


@pytest.mark.parametrize(
    ("prune", "kept", "said"),
    [
        (Prune(0.5), 8, None),
        (Prune(0.4), 8, "8 of 16 channels kept, the nearest multiple of 4 to 9.6"),
        (Prune(0.5, multiple=3), 12, "12 of 16 channels kept, the nearest multiple of 12 to 8"),
        (Prune(0.1), 16, "all 16 channels kept, the nearest multiple of 4 to 14.4"),
    ],
    ids=str,
)
def test_a_count_that_cannot_be_is_noted(prune: Prune, kept: int, said: str | None) -> None:
    model = build("resnext")
    notes = prune_channels(model, EXAMPLE, {"blocks.1.conv1": prune}, statistics(model))
    assert model.blocks[1].conv1.out_channels == model.blocks[1].conv2.in_channels == kept
    why = f"blocks.1.conv1: {said}, as a convolution in groups loses 4 at once"
    assert notes == (() if said is None else (why,))


def test_rounds_go_down_to_one_channel_a_group_and_end_where_one_cut_ends() -> None:
    structure = inspect_model(build("resnext"), EXAMPLE)
    originals = {group.root: group.channels for group in structure.groups}
    roots = {root: Prune(0.8 if "conv2" in root else 0.5) for root in originals}
    once, often = build("resnext"), build("resnext")
    prune_channels(once, EXAMPLE, roots, statistics(once))
    for done in (0.5, 0.9, 1.0):
        prune_channels(often, EXAMPLE, roots, statistics(often), originals, done=done)
    assert often.blocks[1].conv2.weight.shape == (4, 2, 3, 3)
    assert [p.shape for p in often.parameters()] == [p.shape for p in once.parameters()]
    assert bool(answers(often).isfinite().all())


def test_a_reader_in_groups_is_noted_where_repair_is_asked_for() -> None:
    model = build("resnext")
    roots = {f"blocks.1.conv{i}": Prune(0.5, repair=True) for i in (1, 2)}
    notes = prune_channels(model, EXAMPLE, roots, statistics(model))
    why = "not fitted anew, as it is no linear, conv1d or conv2d layer of one group"
    assert notes == (f"blocks.1.conv2: {why}",)
