"""Each step against a reference that is not ours: NumPy, torch's fake_quantize."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank, Quantize
from compressors.quantization.layers import describe
from compressors.recovery.batchnorm import reestimate
from compressors.stack import Stack
from tests.compressors.lowrank.single import factorised
from tests.compressors.tiny import Images, Residual, seeded


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))


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
