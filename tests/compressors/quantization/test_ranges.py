"""Ranges against brute force over fine grids, NumPy's quantiles, and KL written out plainly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from compressors.calibration.collectors import BINS, Histogram
from compressors.policies.steps import Quantize
from compressors.quantization.input_ranges import fit_inputs
from compressors.quantization.ranges import BINS_A_LEVEL, OUTSIDE
from tests.compressors.quantization.helpers import linear, numbers, quantizer, rounded

OUTLIER = torch.tensor([12.0])


def of(function: str, bits: int, ranges: str, **more: object) -> Quantize:
    return Quantize(bits, None, ranges, function, **more)  # type: ignore[arg-type]


def error(x: np.ndarray, scale: float, zero: int, most: int) -> float:
    levels = np.clip(np.round(x / scale) + zero, 0, most)
    return float(np.square((levels - zero) * scale - x).sum())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symmetric_mse_is_close_to_the_best_of_a_thousand_scales(bits: int) -> None:
    weight = torch.cat([numbers(4, 60), numbers(4, 60, seed=1).pow(3)])
    ours = (rounded(weight, of("symmetric", bits, "mse")) - weight).square().sum(1)
    highest = 2 ** (bits - 1) - 1
    for row, found in zip(weight.double().numpy(), ours, strict=True):
        scales = np.abs(row).max() * np.arange(1, 1001) / 1000 / highest
        best = min(error(row, scale, highest, 2 * highest) for scale in scales)
        assert float(found) <= best * 1.03


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_asymmetric_mse_is_close_to_the_best_of_all_pairs_of_ends(bits: int) -> None:
    weight = torch.cat([numbers(2, 40) + 1, numbers(2, 40, seed=3).exp()])
    ours = (rounded(weight, of("asymmetric", bits, "mse")) - weight).square().sum(1)
    most = 2**bits - 1
    for row, found in zip(weight.double().numpy(), ours, strict=True):
        low, high = min(row.min(), 0), max(row.max(), 0)
        best = np.inf
        for lower in low * np.arange(0, 41) / 40:
            for upper in high * np.arange(1, 41) / 40:
                scale = (upper - lower) / most
                zero = int(np.clip(np.round(-lower / scale), 0, most))
                best = min(best, error(row, scale, zero, most))
        assert float(found) <= best * 1.1


@pytest.mark.parametrize(
    ("function", "bits"), [("symmetric", 3), ("asymmetric", 3), ("log", 3), ("e4m3", 8)]
)
def test_mse_errs_no_more_than_any_other_range(function: str, bits: int) -> None:
    weight = torch.cat([numbers(8, 256, seed=2), OUTLIER.expand(8, 1)], 1)
    errors = {
        ranges: (rounded(weight, of(function, bits, ranges)) - weight).square().sum()
        for ranges in ("minmax", "percentile", "mse", "entropy")
    }
    assert errors["mse"] <= min(errors.values()) * 1.0001
    if function != "e4m3":
        assert errors["mse"] < errors["minmax"] * 0.9


def test_percentiles_of_weights_are_numpys() -> None:
    weight = numbers(3, 5000)
    found = quantizer(linear(weight), of("symmetric", 8, "percentile"))
    expected = np.quantile(weight.abs().numpy(), 1 - OUTSIDE, axis=1) / 127
    np.testing.assert_allclose(found.scale.numpy(), expected, rtol=1e-5)
    found = quantizer(linear(weight), of("asymmetric", 8, "percentile"))
    low, high = (np.quantile(weight.numpy(), s, axis=1) for s in (OUTSIDE / 2, 1 - OUTSIDE / 2))
    np.testing.assert_allclose(found.scale.numpy(), (high - low) / 255, rtol=1e-5)


def plain_divergence(
    counts: np.ndarray, middles: np.ndarray, low: float, high: float, values: np.ndarray
) -> float:
    """TensorRT's, a bin at a time."""
    inside = [i for i, middle in enumerate(middles) if low <= middle <= high]
    clipped = {i: counts[i] for i in inside}
    clipped[inside[0]] += counts[: inside[0]].sum()
    clipped[inside[-1]] += counts[inside[-1] + 1 :].sum()
    levels: dict[float, list[int]] = {}
    for i in inside:
        if clipped[i] > 0:
            levels.setdefault(values[i], []).append(i)
    kept = {i: counts[bins].mean() for bins in levels.values() for i in bins}
    total, all_kept = sum(clipped.values()), sum(kept.values())
    if all_kept == 0:
        return np.inf
    found = 0.0
    for i, share in kept.items():
        p, q = clipped[i] / total, max(share / all_kept, 1e-6)
        found += p * np.log(p / q)
    return found


def histogram(x: np.ndarray) -> tuple[Histogram, np.ndarray]:
    counts, edges = np.histogram(x, BINS)
    bounds = torch.tensor([x.min(), x.max()], dtype=torch.float64)
    return Histogram(torch.from_numpy(counts).double(), bounds), (edges[1:] + edges[:-1]) / 2


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_entropy_of_inputs_is_the_least_divergence_of_all_shares(bits: int) -> None:
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(0.5, 1, 20_000), generator.laplace(0, 3, 200)])
    seen, middles = histogram(x)
    low, high = fit_inputs(seen, 0.0, bits, "entropy")
    most, found = 2**bits - 1, {}
    for share in np.arange(1, 41) / 40:
        scale = (x.max() - x.min()) * share / most
        zero = np.clip(np.round(-x.min() * share / scale), 0, most)
        values = (np.clip(np.round(middles / scale), -zero, most - zero)) * scale
        ends = x.min() * share, x.max() * share
        found[share] = plain_divergence(seen.counts.numpy(), middles, *ends, values)
    best = min(found, key=lambda share: (found[share], -share))
    assert (low, high) == pytest.approx((x.min() * best, x.max() * best))
    assert best < 1


def test_entropy_of_weights_is_the_least_divergence_of_all_shares() -> None:
    weight = torch.cat([numbers(1, 4000), 3 * numbers(1, 40, seed=1).pow(3)], 1)
    found = quantizer(linear(weight), of("symmetric", 4, "entropy"))
    row, most = weight[0].double().numpy(), float(weight.abs().max())
    counts, edges = np.histogram(row, 16 * BINS_A_LEVEL, (-most, most))
    middles, shares = (edges[1:] + edges[:-1]) / 2, {}
    for share in np.arange(1, 41) / 40:
        scale = most * share / 7
        values = np.clip(np.round(middles / scale), -7, 7) * scale
        shares[share] = plain_divergence(counts, middles, -most * share, most * share, values)
    best = min(shares, key=lambda share: shares[share])
    assert float(found.scale) == pytest.approx(most * best / 7, rel=1e-5)
    assert best < 1


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_of_inputs_is_close_to_the_best_of_all_pairs_of_ends(bits: int) -> None:
    generator = np.random.default_rng(1)
    x = np.concatenate([generator.normal(0.3, 1, 20_000), [9.0, -4.0]])
    seen, _ = histogram(x)
    low, high = fit_inputs(seen, 0.0, bits, "mse")
    most = 2**bits - 1

    def total(lower: float, upper: float) -> float:
        scale = (upper - lower) / most
        return error(x, scale, int(np.clip(np.round(-lower / scale), 0, most)), most)

    pairs = [(x.min() * i / 25, x.max() * j / 25) for i in range(1, 26) for j in range(1, 26)]
    assert total(low, high) <= min(total(*pair) for pair in pairs) * 1.02


def test_ranges_of_inputs_in_floats_are_the_best_of_all_shares() -> None:
    generator = np.random.default_rng(1)
    x = np.concatenate([generator.normal(0.3, 1, 20_000), generator.laplace(0, 3, 200)])
    seen, middles = histogram(x)
    largest, lost, left = np.abs(x).max(), {}, {}
    for share in np.arange(1, 41) / 40:
        scale = largest * share / 448
        clipped = np.clip(middles / scale, -448, 448).astype(np.float32)
        values = clipped.astype(ml_dtypes.float8_e4m3fn).astype(float) * scale
        lost[share] = float(((values - middles) ** 2 * seen.counts.numpy()).sum())
        ends = -largest * share, largest * share
        left[share] = plain_divergence(seen.counts.numpy(), middles, *ends, values)
    for ranges, found in (("mse", lost), ("entropy", left)):
        low, high = fit_inputs(seen, 0.0, 8, ranges, "e4m3")  # type: ignore[arg-type]
        best = min(found, key=lambda share: (found[share], -share))
        assert high == -low
        assert high / largest == pytest.approx(best, abs=0.03)
    assert fit_inputs(seen, 0.0, 8, "minmax", "e4m3") == (x.min(), x.max())


def test_values_that_are_exactly_zero_do_not_sway_entropy_and_mse() -> None:
    x = np.abs(np.random.default_rng(2).normal(0, 1, 20_000))
    sparse = np.concatenate([x, np.zeros(60_000)])
    for ranges in ("mse", "entropy"):
        alone = fit_inputs(histogram(np.append(x, 0.0))[0], 0.0, 4, ranges)  # type: ignore[arg-type]
        among = fit_inputs(histogram(sparse)[0], 0.75, 4, ranges)  # type: ignore[arg-type]
        assert among == pytest.approx(alone)


def test_ranges_of_inputs_hold_zero_and_leave_outliers_out() -> None:
    x = np.append(np.random.default_rng(3).normal(5, 0.5, 20_000), 500.0)
    seen, _ = histogram(x)
    assert fit_inputs(seen, 0.0, 8, "minmax") == (0.0, 500.0)
    assert fit_inputs(seen, 0.0, 8, "percentile")[1] < 10
    assert fit_inputs(seen, 0.0, 4, "mse")[1] < 500
    constant = Histogram(torch.zeros(BINS), torch.tensor([2.0, 2.0]))
    assert fit_inputs(constant, 0.0, 8, "mse") == (0.0, 2.0)
