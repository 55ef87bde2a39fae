"""Number formats against references that are not ours: torch, scikit-learn, ml_dtypes, counting."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import nn

from compressors.policies.steps import Quantize
from compressors.quantization.description import stored
from compressors.quantization.straight_through import round_to_grid
from tests.compressors.quantization.helpers import (
    EVERY_FORMAT,
    ONE_WIDTH,
    group_of,
    linear,
    numbers,
    quantizer,
    rounded,
)


def of(function: str, bits: int, **more: object) -> Quantize:
    return Quantize(bits, None, function=function, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_symmetric_weights_round_as_torchs_fake_quantize_does(bits: int) -> None:
    layer = nn.Conv2d(4, 6, 3)
    layer.weight.data[2] = 0  # a dead channel
    weight = layer.weight.detach()
    found = quantizer(layer, of("symmetric", bits))
    highest = 2 ** (bits - 1) - 1
    largest = weight.flatten(1).abs().amax(1)
    torch.testing.assert_close(found.scale[largest > 0], (largest / highest)[largest > 0])
    expected = torch.fake_quantize_per_channel_affine(
        weight, found.scale, torch.zeros(6, dtype=torch.int32), 0, -highest, highest
    )
    torch.testing.assert_close(found(layer.weight), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_asymmetric_weights_round_as_torchs_fake_quantize_does(bits: int, granularity: str) -> None:
    layer = linear(numbers(6, 50) + torch.linspace(-2, 2, 6)[:, None])
    weight = layer.weight.detach()
    found = quantizer(layer, of("asymmetric", bits, granularity=granularity))
    assert found.zero is not None
    assert torch.equal(found.zero, found.zero.round())
    most = 2**bits - 1
    if granularity == "channel":
        zero = found.zero.to(torch.int32)
        expected = torch.fake_quantize_per_channel_affine(weight, found.scale, zero, 0, 0, most)
    else:
        scale, zero = float(found.scale), int(found.zero)
        expected = torch.fake_quantize_per_tensor_affine(weight, scale, zero, 0, most)
    assert float(((found(weight) - expected).abs() > 1e-5).float().mean()) < 0.01  # halves
    torch.testing.assert_close(found(weight).mean(), expected.mean(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_log_levels_are_the_nearest_powers_of_two(bits: int) -> None:
    weight = numbers(3, 200, seed=bits) * torch.tensor([[0.01], [1.0], [30.0]])
    weight[1, :5] = 0
    found = rounded(weight, of("log", bits))
    for row, ours in zip(weight.double(), found.double(), strict=True):
        exponent = np.log2(float(ours.abs().max()))
        assert exponent == round(exponent)
        powers = 2.0 ** (exponent - np.arange(2 ** (bits - 1) - 1))
        levels = torch.from_numpy(np.concatenate([-powers, [0.0], powers]))
        best = (row[:, None] - levels).abs().min(1).values
        torch.testing.assert_close((row - ours).abs(), best, atol=1e-12, rtol=1e-12)
    assert bool((found[1, :5] == 0).all())


@pytest.mark.parametrize(
    ("function", "theirs"), [("e4m3", ml_dtypes.float8_e4m3fn), ("e5m2", ml_dtypes.float8_e5m2)]
)
def test_eight_bit_floats_are_those_of_ml_dtypes(function: str, theirs: type) -> None:
    weight = numbers(4, 500)
    layer = linear(weight)
    found = quantizer(layer, of(function, 8))
    largest = float(ml_dtypes.finfo(theirs).max)
    torch.testing.assert_close(found.scale, weight.abs().amax(1) / largest)
    units = (weight / found.scale[:, None]).numpy().astype(theirs).astype(np.float32)
    assert torch.equal(found(layer.weight).detach(), torch.from_numpy(units) * found.scale[:, None])
    assert int(found.codes(weight).max()) <= 255


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_k_means_is_as_good_as_scikit_learns_best_of_ten(bits: int) -> None:
    weight = torch.cat([numbers(2, 300), numbers(2, 300, seed=1).pow(3)])
    error = (rounded(weight, of("kmeans", bits)) - weight).square().sum(1)
    for row, ours in zip(weight.numpy(), error, strict=True):
        theirs = KMeans(2**bits, n_init=10, random_state=0).fit(row[:, None].astype(np.float64))
        assert float(ours) <= theirs.inertia_ * 1.02


def test_a_codebook_of_few_values_is_exact() -> None:
    values = torch.tensor([-1.5, 0.25, 3.0, 0.0])
    weight = values[torch.randint(0, 4, (3, 64), generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(rounded(weight, of("kmeans", 2)), weight)
    assert torch.equal(rounded(torch.ones(2, 5), of("kmeans", 4)), torch.ones(2, 5))


def test_ternary_is_the_best_of_all_scales_and_choices() -> None:
    weight = numbers(5, 7)
    ours = (rounded(weight, of("ternary", 2)) - weight).square().sum(1)
    signs = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=7)))
    scales = (weight @ signs.T) / signs.square().sum(1).clamp(min=1)
    errors = (weight[:, None] - scales[:, :, None] * signs).square().sum(2)
    torch.testing.assert_close(ours, errors.amin(1))


def test_binary_weights_are_their_signs_times_the_mean_magnitude() -> None:
    weight = numbers(4, 30)
    expected = weight.sign() * weight.abs().mean(1, keepdim=True)
    torch.testing.assert_close(rounded(weight, of("binary", 1)), expected)


@pytest.mark.parametrize(("function", "bits"), EVERY_FORMAT)
def test_rows_of_zeros_stay_zeros(function: str, bits: int) -> None:
    weight = numbers(4, 30)
    weight[2] = 0
    torch.testing.assert_close(rounded(weight, of(function, bits))[2], weight[2])


@pytest.mark.parametrize(("function", "bits"), EVERY_FORMAT)
@given(
    granularity=st.sampled_from(["channel", "tensor", "group"]),
    seed=st.integers(0, 2**31),
    spread=st.floats(-12, 12),
    columns=st.integers(1, 20),
)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_format_keeps_what_formats_promise(
    function: str, bits: int, granularity: str, seed: int, spread: float, columns: int
) -> None:
    weight = numbers(3, columns, seed=seed) * 2.0**spread
    weight[1, : columns // 2] = 0
    layer = linear(weight)
    group = group_of(granularity, 6)
    found = quantizer(layer, of(function, bits, granularity=granularity, group=group))
    once = found(layer.weight)
    assert bool(once.isfinite().all())
    torch.testing.assert_close(found(once), once, rtol=1e-6, atol=0)
    codes = found.codes(layer.weight)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < 2**bits
    assert torch.equal(stored(found, layer.weight).values(), once)
    if function not in ("binary", "kmeans"):
        assert bool((once[weight == 0] == 0).all())
    once.sum().backward()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.isfinite().all())
    assert float(layer.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize(("function", "bits"), ONE_WIDTH)
def test_masked_weights_are_zero_in_every_format_and_have_no_say(function: str, bits: int) -> None:
    mask = torch.rand(4, 40, generator=torch.Generator().manual_seed(1)) > 0.6
    layer = linear(numbers(4, 40) * mask)
    entry = of(function, bits, ranges="percentile")
    found = quantizer(layer, entry, mask)
    assert bool((found(layer.weight)[~mask] == 0).all())
    assert torch.equal(stored(found, layer.weight).values(), found(layer.weight))
    for row, kept, scale in zip(layer.weight.detach(), mask, found.scale, strict=True):
        alone = quantizer(linear(row[kept][None]), entry).scale
        if function != "kmeans":  # its scale is the mean over all; levels are relative to it
            torch.testing.assert_close(scale, alone[0])


@pytest.mark.parametrize(("function", "bits"), ONE_WIDTH)
def test_a_weight_that_is_no_number_is_not_hidden(function: str, bits: int) -> None:
    layer = linear(numbers(2, 8))
    found = quantizer(layer, of(function, bits))
    broken = layer.weight.detach().clone()
    broken[0, 3] = float("nan")
    assert bool(found(broken)[0, 3].isnan())


@pytest.mark.parametrize(("function", "bits"), ONE_WIDTH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_round_as_single_precision_does(
    function: str, bits: int, dtype: torch.dtype
) -> None:
    weight = numbers(3, 30).to(torch.bfloat16)
    ours = rounded(weight.to(dtype), of(function, bits))
    assert ours.dtype == dtype
    single = rounded(weight.float(), of(function, bits))
    torch.testing.assert_close(ours.double(), single.to(dtype).double(), rtol=1e-6, atol=1e-6)


def test_groups_of_columns_have_scales_of_their_own_the_last_one_shorter() -> None:
    weight = numbers(2, 7)
    found = rounded(weight, of("binary", 1, granularity="group", group=3))
    for columns in (slice(0, 3), slice(3, 6), slice(6, 7)):
        part = weight[:, columns]
        expected = part.sign() * part.abs().mean(1, keepdim=True)
        torch.testing.assert_close(found[:, columns], expected)


def test_gradients_pass_a_grid_of_many_scales_where_nothing_is_clamped() -> None:
    x = torch.tensor([[0.4, -3.0], [0.4, -3.0]], requires_grad=True)
    scale = torch.tensor([[1.0], [3.0]])
    values = round_to_grid(x, scale, -1, 1)
    values.sum().backward()
    assert values.tolist() == [[0.0, -1.0], [0.0, -3.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.0], [1.0, 1.0]]
