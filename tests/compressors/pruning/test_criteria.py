"""Every criterion against an independent computation of what it is said to be."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.data import Batch
from compressors.policies.steps import Criterion, Prune
from compressors.pruning.channels import prune_channels
from compressors.pruning.criteria import importance
from compressors.pruning.obs import DAMPING
from compressors.pruning.plan import channel_plan
from compressors.structures.channel_groups import dependency_graph, group_of
from compressors.structures.inspection import inspect_model
from tests.compressors.architectures import FIVE, build, data_for, example_for
from tests.compressors.tiny import Images


def statistics(model: nn.Module, data: object) -> Statistics:
    return Statistics(model, Calibration(data), ContentCache())


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize(
    ("criterion", "theirs"),
    [
        ("l1", tp.importance.GroupMagnitudeImportance(p=1)),
        ("l2", tp.importance.GroupMagnitudeImportance(p=2)),
        ("batchnorm", tp.importance.BNScaleImportance(normalizer=None)),
    ],
    ids=["l1", "l2", "batchnorm"],
)
def test_magnitudes_are_torch_prunings(name: str, criterion: Criterion, theirs: object) -> None:
    model, example = build(name), example_for(name)
    groups = inspect_model(model, example).groups
    plan = channel_plan(model, example, [group.root for group in groups])
    compared = 0
    with dependency_graph(model, example) as graph:
        for group in groups:
            expected = theirs(group_of(graph, model.get_submodule(group.root)))
            if expected is None:
                continue
            known = statistics(model, data_for(name))
            scores, note = importance(model, plan[group.root], group.channels, criterion, known)
            assert note is None
            expected = expected.double() / expected.double().mean()
            torch.testing.assert_close(scores / scores.mean(), expected, rtol=1e-5, atol=1e-6)
            compared += 1
    assert compared or (name, criterion) == ("transformer", "batchnorm")


class Two(nn.Module):
    """Channels that two layers read: a convolution, and a linear layer after a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(6 * 16, 3)
        self.other = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        flat = F.max_pool2d(x, 2).flatten(1)
        return self.head(flat) + self.other(F.relu(self.second(x)).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def two() -> Two:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Two().eval()


def scores_of(model: nn.Module, criterion: Criterion) -> np.ndarray:
    data = Images()
    plan = channel_plan(model, (data.all("calibration")[0][:1],), ["first"])
    scores, note = importance(model, plan["first"], 6, criterion, statistics(model, data))
    assert note is None
    return scores.numpy()


def seen_by(model: Two) -> tuple[np.ndarray, np.ndarray]:
    """What the two readers read, as samples x channels x positions."""
    with torch.no_grad():
        maps = F.relu(model.first(Images().all("calibration")[0]))
        return maps.flatten(2).numpy(), F.max_pool2d(maps, 2).flatten(2).numpy()


def relative(scores: np.ndarray) -> np.ndarray:
    return scores / scores.mean()


def test_activation_is_the_mean_magnitude_where_the_channel_is_read(two: Two) -> None:
    maps, pooled = seen_by(two)
    by_map = np.abs(maps).mean(axis=(0, 2))
    by_feature = np.abs(pooled).mean(axis=0)  # 16 features a channel
    expected = relative(by_map) + relative(by_feature.sum(axis=1))
    np.testing.assert_allclose(relative(scores_of(two, "activation")), relative(expected), 1e-4)


def test_zeros_is_the_share_of_what_is_not_zero(two: Two) -> None:
    maps, pooled = seen_by(two)
    by_map = (maps != 0).mean(axis=(0, 2))
    by_feature = (pooled != 0).mean(axis=0)
    expected = relative(by_map) + relative(by_feature.sum(axis=1))
    np.testing.assert_allclose(relative(scores_of(two, "zeros")), relative(expected), 1e-4)


def test_wanda_is_magnitude_by_norm_of_the_inputs(two: Two) -> None:
    maps, pooled = seen_by(two)
    kernels = np.abs(two.second.weight.detach().numpy()).sum(axis=(0, 2, 3))
    by_map = kernels * np.sqrt((maps**2).mean(axis=(0, 2)))
    matrix = np.abs(two.head.weight.detach().numpy()).sum(axis=0).reshape(6, 16)
    by_feature = matrix * np.sqrt((pooled**2).mean(axis=0))
    expected = relative(by_map) + relative(by_feature.sum(axis=1))
    np.testing.assert_allclose(relative(scores_of(two, "wanda")), relative(expected), 1e-4)


def test_taylor_is_the_mean_square_first_order_change_of_the_loss(two: Two) -> None:
    data, model = Images(), deepcopy(two)
    total = np.zeros(6)
    batches = list(data.batches("calibration"))
    for batch in batches:
        model.zero_grad()
        data.loss(model(batch.inputs), batch.targets).backward()
        kernels = (model.second.weight * model.second.weight.grad).detach().numpy() ** 2
        matrix = (model.head.weight * model.head.weight.grad).detach().numpy() ** 2
        total += kernels.sum(axis=(0, 2, 3)) + matrix.sum(axis=0).reshape(6, 16).sum(axis=1)
    np.testing.assert_allclose(scores_of(two, "taylor"), total / len(batches) / 2, 1e-4)


def test_hessian_is_the_error_that_is_left_when_the_other_columns_are_solved_for(two: Two) -> None:
    known = statistics(two, Images()).grams(["second", "head"])
    expected = np.zeros(6)
    for name, width in (("second", 9), ("head", 16)):
        matrix = two.get_submodule(name).weight.detach().flatten(1).numpy().astype(np.float64)
        moments = known[name][0].numpy().astype(np.float64)
        moments += DAMPING * np.diag(moments).mean() * np.eye(len(moments))
        errors = []
        for channel in range(6):
            gone = np.arange(channel * width, (channel + 1) * width)
            stays = np.setdiff1d(np.arange(len(moments)), gone)
            change = np.zeros_like(matrix)
            change[:, gone] = -matrix[:, gone]
            change[:, stays] = np.linalg.solve(
                moments[np.ix_(stays, stays)], moments[np.ix_(stays, gone)] @ matrix[:, gone].T
            ).T
            errors.append(np.einsum("oi,ij,oj->", change, moments, change))
        expected += relative(np.array(errors))
    np.testing.assert_allclose(scores_of(two, "hessian"), expected / 2, 1e-4)


def test_a_criterion_that_finds_nothing_gives_way_to_l2_and_says_so() -> None:
    model, example = build("decoder"), example_for("decoder")
    twin = deepcopy(model)
    notes = prune_channels(
        model, example, {"down": Prune(0.5, "hessian")}, statistics(model, Images())
    )
    prune_channels(twin, example, {"down": Prune(0.5)}, statistics(twin, Images()))
    assert notes == (
        "down: channels judged by l2 in place of hessian, as no linear, conv1d or conv2d layer of"
        " one group and at most 8192 columns reads them",
    )
    for name, value in twin.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_all_that_several_groups_need_is_collected_in_one_pass() -> None:
    model, example = build("plain"), example_for("plain")
    passes: list[Tensor] = []
    known = statistics(model, Images())
    handle = model.register_forward_pre_hook(lambda module, args: passes.append(args[0]))
    prune_channels(model, example, {"0": Prune(0.5, "wanda"), "9": Prune(0.5, "wanda")}, known)
    handle.remove()
    calibration = sum(isinstance(batch, Batch) for batch in Images().batches("calibration"))
    assert len(passes) == calibration + 2  # and one for the graph, one to know the model again
