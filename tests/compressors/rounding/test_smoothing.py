from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from compressors.quantization.smoothing import smoothing_factors

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


@given(
    rows=st.lists(st.lists(FINITE, min_size=3, max_size=3), min_size=1, max_size=4),
    inputs=st.lists(FINITE, min_size=3, max_size=3),
    alpha=st.floats(0, 1),
)
def test_factors_are_positive_and_finite(
    rows: list[list[float]], inputs: list[float], alpha: float
) -> None:
    weight, magnitudes = torch.tensor(rows), torch.tensor(inputs)
    factors = smoothing_factors(weight, magnitudes, alpha)
    assert factors.shape == (3,)
    assert bool((factors > 0).all() & factors.isfinite().all())
    assert bool((factors[(magnitudes == 0) | (weight == 0).all(0)] == 1).all())


def test_they_are_the_published_ones() -> None:
    weight = torch.tensor([[0.5, -2.0], [-1.0, 0.1]])
    factors = smoothing_factors(weight, torch.tensor([16.0, 0.25]), 0.5)
    assert torch.allclose(factors, torch.tensor([4 / 1, 0.5 / 2**0.5]))
    assert torch.allclose(
        smoothing_factors(weight, torch.tensor([16.0, 0.25]), 0.75),
        torch.tensor([16**0.75, 0.25**0.75 / 2**0.25]),
    )


def test_outliers_cost_less_when_both_sides_are_rounded() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 32, generator=generator)
    x[:, 3] *= 60
    weight = torch.randn(16, 32, generator=generator)

    def rounded(t: torch.Tensor) -> torch.Tensor:
        scale = t.abs().max() / 127
        return (t / scale).round() * scale

    factors = smoothing_factors(weight, x.abs().amax(0), 0.5)
    plain = rounded(x) @ rounded(weight).T
    smooth = rounded(x / factors) @ rounded(weight * factors).T
    wanted = x @ weight.T
    assert (smooth - wanted).square().mean() < 0.3 * (plain - wanted).square().mean()


def test_bfloat16_weights_are_welcome() -> None:
    factors = smoothing_factors(torch.ones(2, 3).bfloat16(), torch.full((3,), 4.0), 0.5)
    assert torch.allclose(factors, torch.full((3,), 2.0))
