"""Each step against a reference that is not ours: Torch-Pruning, NumPy, torch's fake_quantize."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank, Prune, Quantize
from compressors.pruning.channels import prune_channels
from compressors.quantization.layers import calibrate, describe, insert, strip
from compressors.quantization.quantizers import InputQuantizer, WeightQuantizer, round_to_grid
from compressors.quantization.ranges import fit_weights
from compressors.recovery.batchnorm import reestimate
from compressors.stack import Stack
from tests.compressors.lowrank.single import factorised
from tests.compressors.tiny import Images, Residual, seeded

IMAGE = (torch.zeros(1, 2, 8, 8),)


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def test_pruned_counts_and_channels_are_torch_prunings() -> None:
    ours, theirs = seeded(Residual), seeded(Residual)
    prune_channels(ours, IMAGE, {"conv1": Prune(0.5), "layer2.0.conv1": Prune(0.25, "l1")})
    graph = tp.DependencyGraph().build_dependency(theirs, IMAGE)
    for layer, norm, lost in ((theirs.conv1, 2, 4), (theirs.layer2[0].conv1, 1, 4)):
        whole = graph.get_pruning_group(
            layer, tp.prune_conv_out_channels, list(range(layer.out_channels))
        )
        order = tp.importance.GroupMagnitudeImportance(p=norm)(whole).argsort()[:lost].tolist()
        graph.get_pruning_group(layer, tp.prune_conv_out_channels, order).prune()
    ours_state, theirs_state = ours.state_dict(), theirs.state_dict()
    for name, value in theirs_state.items():
        assert torch.equal(ours_state[name], value), name
    x = images()
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_pruning_physically_removes_channels_in_a_whole_group() -> None:
    model = seeded(Residual)
    notes = prune_channels(model, IMAGE, {"conv1": Prune(0.5), "layer2.0.conv2": Prune(0.5)})
    assert notes == ()
    assert model.conv1.out_channels == model.layer1[1].conv2.out_channels == 4
    assert model.bn1.num_features == model.layer1[0].conv1.in_channels == 4
    assert model.layer2[0].shortcut[0].weight.shape == (8, 4, 1, 1)
    assert model.fc.in_features == 8
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_dead_channel_goes_first_and_changes_nothing() -> None:
    model = seeded(Residual)
    block = model.layer2[1]
    with torch.no_grad():
        for index in (3, 11):
            block.conv1.weight[index] = 0
            block.bn1.weight[index] = 0
            block.bn1.bias[index] = 0
            block.conv2.weight[:, index] = 0
        before = model(images())
        prune_channels(model, IMAGE, {"layer2.1.conv1": Prune(2 / 16)})
        assert block.conv1.out_channels == 14
        torch.testing.assert_close(model(images()), before)


def test_a_share_below_half_a_multiple_is_noted() -> None:
    model = seeded(Residual)
    notes = prune_channels(model, IMAGE, {"conv1": Prune(0.25, multiple=8)})
    assert model.conv1.out_channels == 8
    assert notes == ("conv1: all 8 channels kept, the nearest multiple of 8 to 6",)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(20, 12),
        nn.Linear(12, 20, bias=False),
        nn.Conv2d(6, 10, 3, stride=2, padding=1, dilation=1),
        nn.Conv2d(6, 10, (3, 1), padding="same", bias=False, padding_mode="reflect"),
    ],
    ids=str,
)
@pytest.mark.parametrize("rank", [1, 4, 10])
def test_halves_are_numpys_truncated_svd(layer: nn.Linear | nn.Conv2d, rank: int) -> None:
    matrix = layer.weight.detach().flatten(1).numpy().astype(np.float64)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    best = (left[:, :rank] * values[:rank]) @ right[:rank]
    pair = factorised(layer, LowRank(rank=rank))
    first, second = (half.weight.detach().flatten(1).numpy() for half in pair)
    np.testing.assert_allclose(second @ first, best, atol=1e-5)
    x = torch.randn(2, 6, 9, 9) if isinstance(layer, nn.Conv2d) else torch.randn(2, matrix.shape[1])
    whole = deepcopy(layer)
    with torch.no_grad():
        whole.weight.copy_(torch.from_numpy(best).reshape(whole.weight.shape))
        torch.testing.assert_close(pair(x), whole(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_round_as_torchs_fake_quantize_does(bits: int) -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(bits))
    weight[2] = 0  # a dead channel
    quantizer = WeightQuantizer(bits, weight)
    highest = 2 ** (bits - 1) - 1
    scales = quantizer.scales(weight)
    expected = torch.fake_quantize_per_channel_affine(
        weight, scales, torch.zeros(6, dtype=torch.int32), 0, -highest, highest
    )
    torch.testing.assert_close(quantizer(weight), expected, atol=1e-6, rtol=0)
    integers = quantizer.integers(weight)
    assert integers.dtype == torch.int8
    assert int(integers.abs().max()) == highest
    torch.testing.assert_close(integers * scales.view(-1, 1, 1, 1), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    "low_high", [(0.0, 3.0), (-1.3, 2.2), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)]
)
def test_activations_round_as_torchs_fake_quantize_does(
    bits: int, low_high: tuple[float, float]
) -> None:
    quantizer = InputQuantizer(bits, torch.device("cpu"))
    quantizer.set_range(*low_high)
    x = (4 * torch.randn(4096, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    scale, zero = float(quantizer.scale), int(quantizer.zero_point)
    assert 0 <= zero <= 2**bits - 1
    ours = quantizer(x)
    (ours_grad,) = torch.autograd.grad(ours.sum(), x)
    reference = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 2**bits - 1)
    (reference_grad,) = torch.autograd.grad(reference.sum(), x)
    assert float((ours != reference).float().mean()) < 1e-3  # halves may go either way
    assert torch.equal(ours_grad, reference_grad)
    assert float(quantizer(torch.zeros(1))) == 0.0


def test_gradients_pass_a_grid_of_many_scales_where_nothing_is_clamped() -> None:
    x = torch.tensor([[0.4, -3.0], [0.4, -3.0]], requires_grad=True)
    scale = torch.tensor([[1.0], [3.0]])
    rounded = round_to_grid(x, scale, -1, 1)
    rounded.sum().backward()
    assert rounded.tolist() == [[0.0, -1.0], [0.0, -3.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_mse_ranges_round_with_less_error_than_minmax_at_few_bits() -> None:
    weight = torch.randn(8, 256, generator=torch.Generator().manual_seed(2))
    errors = {}
    for ranges in ("minmax", "percentile", "mse"):
        quantizer = WeightQuantizer(3, weight)
        fit_weights(quantizer, weight, ranges)
        errors[ranges] = float((quantizer(weight) - weight).pow(2).mean())
    assert errors["mse"] < errors["percentile"] < errors["minmax"]


def test_activation_ranges_come_from_the_calibration_batches() -> None:
    data = Images()
    inputs = data.all("calibration")[0]
    model = seeded(Residual)
    insert(model, {"conv1": Quantize(None, 8), "fc": Quantize(8, 4, "mse")})
    calibrate(model, data.batches("calibration"))
    found = describe(model)
    assert found["conv1"].weight_bits is found["conv1"].weight_integers is None
    assert found["conv1"].scale == pytest.approx(float(inputs.max() - inputs.min()) / 255)
    assert found["conv1"].zero_point == round(-float(inputs.min()) / found["conv1"].scale)
    assert (found["fc"].weight_bits, found["fc"].activation_bits) == (8, 4)
    assert found["fc"].zero_point == 0


def test_percentile_and_mse_leave_outliers_out() -> None:
    data = Images()
    data.all("calibration")[0][0, 0, 0, 0] = 300.0
    scales = {}
    for ranges in ("minmax", "percentile", "mse"):
        model = seeded(Residual)
        insert(model, {"conv1": Quantize(None, 4, ranges)})
        calibrate(model, data.batches("calibration"))
        scales[ranges] = describe(model)["conv1"].scale
    assert scales["percentile"] < scales["minmax"] / 10
    assert scales["mse"] < scales["minmax"]


def test_stripping_gives_the_plain_model_back() -> None:
    model, plain = seeded(Residual), seeded(Residual)
    insert(model, {"layer1.0.conv1": Quantize(4, 4), "fc": Quantize(8, None)})
    assert not torch.equal(model(images()), plain(images()))
    strip(model)
    assert torch.equal(model(images()), plain(images()))


def test_reestimated_statistics_are_the_plain_mean_over_the_batches() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5)).eval()
    data = Images()
    reestimate(model, data.batches("train"))
    stacked = torch.stack([batch.inputs.mean(dim=(0, 2, 3)) for batch in data.batches("train")])
    torch.testing.assert_close(model[0].running_mean, stacked.mean(dim=0))
    assert not model[0].training
    assert model[0].momentum == 0.1


def test_batches_of_one_sample_are_enough_where_there_are_no_others() -> None:
    data, model = Images(), nn.Sequential(nn.BatchNorm2d(2)).eval()
    reestimate(model, data.batches("train", batch_size=1), most=64)
    torch.testing.assert_close(
        model[0].running_mean, data.all("train")[0].mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-4
    )


def test_statistics_that_cannot_be_taken_stay_as_they_were() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.BatchNorm1d(128)).eval()
    nn.init.uniform_(model[2].running_mean)
    before = {name: value.clone() for name, value in model[2].state_dict().items()}
    reestimate(model, Images().batches("train", batch_size=1))
    assert int(model[0].num_batches_tracked) == 32
    for name, value in model[2].state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_quantised_factorised_layer_has_both_halves_quantised() -> None:
    layer = LayerPolicy("layer2.1.conv1", None, LowRank(0.5), Quantize(8, 8))
    compressed = Stack(seeded(Residual), Images()).apply(Policy(layers=(layer,)))
    assert list(describe(compressed.module)) == ["layer2.1.conv1.0", "layer2.1.conv1.1"]
    rows = [row for row in compressed.record.layers if row.source == "layer2.1.conv1"]
    assert [(row.name, row.rank, row.weight_bits) for row in rows] == [
        ("layer2.1.conv1.0", 8, 8),
        ("layer2.1.conv1.1", 8, 8),
    ]
