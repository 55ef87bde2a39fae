"""Fits against NumPy's least squares, and what they are worth on networks that were trained."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.cache import ContentCache
from compressors.calibration.collectors import columns
from compressors.calibration.statistics import Calibration, Statistics
from compressors.policies.steps import Prune
from compressors.pruning import repair
from compressors.pruning.channels import prune_channels
from compressors.pruning.repair import fit_layer
from tests.compressors.architectures import build, data_for, example_for
from tests.compressors.pruning.digits import (
    Convolutions,
    Rows,
    agreement,
    digits,
    outputs,
    trained,
)
from tests.compressors.tiny import Images

HALVES = {
    Rows: ["encoder.layers.0.linear1", "encoder.layers.1.linear1"],
    Convolutions: ["0", "3", "6", "10"],
}


def mixed(rows: int, features: int, seed: int) -> Tensor:
    """Inputs that depend on each other, and are not zero on average."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, generator=generator)
    return x @ torch.randn(features, features, generator=generator) + 0.5


def fit(layer: nn.Module, x: Tensor, lost: list[int], mean: Tensor | None) -> repair.Fit:
    vectors = columns(layer, x)[0]
    found = fit_layer(layer, lost, vectors.T @ vectors / len(vectors), mean)
    assert found is not None
    return found


def test_a_linear_layer_is_fitted_as_numpy_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "RIDGE", 1e-9)
    x, layer, lost = mixed(400, 8, 0), nn.Linear(8, 5), [1, 4, 5]
    stays = [0, 2, 3, 6, 7]
    with torch.no_grad():
        wanted = layer(x).numpy().astype(np.float64)
    design = np.column_stack([x[:, stays].numpy().astype(np.float64), np.ones(len(x))])
    best, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    found = fit(layer, x, lost, x.mean(0))
    assert found.bias is not None
    np.testing.assert_allclose(found.weight[:, stays].numpy(), best[:-1].T, atol=1e-3)
    np.testing.assert_allclose(found.bias.numpy(), best[-1], atol=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=False), (20, 6, 9, 9)),
        (nn.Conv1d(6, 5, 3, dilation=2), (20, 6, 30)),
    ],
    ids=str,
)
def test_a_convolution_is_fitted_as_numpy_fits_it(
    layer: nn.Conv1d | nn.Conv2d, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "RIDGE", 1e-9)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    x = x + x[:, [1, 2, 3, 4, 5, 0]]
    vectors = columns(layer, x)[0].numpy().astype(np.float64)
    matrix = layer.weight.detach().flatten(1).numpy().astype(np.float64)
    taps = matrix.shape[1] // 6
    stays = [channel * taps + tap for channel in (0, 2, 3, 5) for tap in range(taps)]
    best, *_ = np.linalg.lstsq(vectors[:, stays], vectors @ matrix.T, rcond=None)
    found = fit(layer, x, [1, 4], None)
    assert found.bias is None
    np.testing.assert_allclose(found.weight[:, stays].numpy(), best.T, atol=1e-3)


def test_an_input_that_repeats_another_is_made_good_for_entirely() -> None:
    x = mixed(200, 6, 3)
    x[:, 4] = 2 * x[:, 0] + 3  # with a free bias, a sum of what stays
    layer = nn.Linear(6, 3)
    found = fit(layer, x, [4], x.mean(0))
    stays = [0, 1, 2, 3, 5]
    with torch.no_grad():
        before = layer(x)
        after = F.linear(x[:, stays], found.weight[:, stays].float(), found.bias.float())
        plain = F.linear(x[:, stays], layer.weight[:, stays], layer.bias)
    assert float((after - before).norm()) < 0.05 * float((plain - before).norm())


def test_inputs_that_are_never_seen_leave_the_weights_as_they_were() -> None:
    layer = nn.Linear(4, 3)
    found = fit_layer(layer, [0], torch.zeros(4, 4), torch.zeros(4))
    assert found is None or torch.equal(found.weight[:, 1:], layer.weight.double()[:, 1:])


@pytest.mark.parametrize("criterion", ["l2", "activation", "taylor", "wanda", "hessian"])
@pytest.mark.parametrize("kind", HALVES)
def test_half_the_width_with_repair_agrees_far_better_on_unseen_data(
    kind: type[nn.Module], criterion: str
) -> None:
    whole, calibration = trained(kind), Calibration(digits())
    lost = {}
    for repaired in (False, True):
        model = deepcopy(whole)
        known = Statistics(model, calibration, ContentCache())
        roots = {name: Prune(0.5, criterion, repair=repaired) for name in HALVES[kind]}
        assert prune_channels(model, (digits().all("test")[0][:1],), roots, known) == ()
        lost[repaired] = 1 - agreement(model, whole)
    assert lost[True] < 0.3 * lost[False]
    assert lost[True] < 0.03


def test_a_layer_that_reads_several_groups_is_fitted_to_all_that_it_loses() -> None:
    model, example = build("densenet"), example_for("densenet")
    roots = {
        "stem": Prune(0.25),
        "dense1.0.conv": Prune(0.5),
        "dense1.1.conv": Prune(0.5, repair=True),
    }
    whole, reader = deepcopy(model), model.transition[2]
    known = Statistics(model, Calibration(data_for("densenet")), ContentCache())
    gram = known.grams(["transition.2"])["transition.2"][0]
    before = model.transition[2].weight.detach().clone().flatten(1)
    kept_scales = model.transition[0].weight.detach().clone()
    assert prune_channels(model, example, roots, known) == ()
    assert reader.in_channels == 6 + 2 + 2
    stays = torch.isin(kept_scales, model.transition[0].weight).nonzero().flatten().tolist()
    lost = sorted(set(range(16)) - set(stays))
    assert len(stays) == 10
    expected = fit_layer(whole.transition[2], lost, gram, None)
    assert expected is not None
    torch.testing.assert_close(reader.weight.flatten(1).double(), expected.weight[:, stays])
    assert not torch.equal(reader.weight.flatten(1), before[:, stays])


def test_a_layer_keeps_its_weights_where_none_of_its_groups_asks_for_repair() -> None:
    model, example = build("plain"), example_for("plain")
    weights = model[9].weight.detach().clone()
    known = Statistics(model, Calibration(Images()), ContentCache())
    prune_channels(model, example, {"0": Prune(0.5, repair=True), "4": Prune(0.5)}, known)
    kept = [c for c in range(48) if bool((model[9].weight[0] == weights[0, c]).any())]
    assert torch.equal(model[9].weight, weights[:, kept])


def test_what_cannot_be_fitted_is_noted_and_cut_all_the_same() -> None:
    model, example = build("decoder"), example_for("decoder")
    known = Statistics(model, Calibration(Images()), ContentCache())
    notes = prune_channels(model, example, {"down": Prune(0.5, repair=True)}, known)
    assert model.up.in_channels == 5
    assert notes == (
        "up: not fitted anew, as it is no linear, conv1d or conv2d layer of one group",
    )


def test_a_repaired_model_is_the_same_each_time() -> None:
    models = []
    for _ in range(2):
        model = deepcopy(trained(Rows))
        known = Statistics(model, Calibration(digits()), ContentCache())
        roots = {name: Prune(0.5, "hessian", repair=True) for name in HALVES[Rows]}
        prune_channels(model, (digits().all("test")[0][:1],), roots, known)
        models.append(outputs(model))
    assert torch.equal(*models)
