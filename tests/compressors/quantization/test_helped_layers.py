"""Layers whose rounding is helped: rounded for their inputs, smoothed, their bias corrected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.policies.steps import Quantize
from compressors.quantization import fitting
from compressors.quantization.layers import describe, strip
from compressors.quantization.rounding import round_weights
from tests.compressors.quantization.helpers import group_of, numbers, quantised


@pytest.mark.parametrize("rounding", ["gptq", "learned"])
@pytest.mark.parametrize("function", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
@pytest.mark.parametrize("smooth", [0.0, 0.5])
def test_weights_rounded_otherwise_lie_on_the_grid_and_give_less_error(
    rounding: str, function: str, granularity: str, smooth: float
) -> None:
    mix = numbers(24, 24, seed=1)
    x = numbers(256, 24) @ mix
    layer = nn.Linear(24, 8)
    errors = {}
    for kind in ("nearest", rounding):
        entry = Quantize(
            3,
            8,
            "minmax",
            function,
            granularity,
            group_of(granularity, 10),
            kind,
            smooth=smooth,  # type: ignore[arg-type]
        )
        model = quantised(layer, x, entry)
        if kind != "nearest":
            torch.testing.assert_close(model[0].rounded_weight(), model[0].smoothed_weight())
        errors[kind] = float((model(x) - layer(x)).detach().square().mean())
    assert errors[rounding] < errors["nearest"]


def test_smoothing_changes_nothing_in_float_and_helps_where_inputs_have_outliers() -> None:
    x = numbers(400, 16)
    x[:, 3] *= 80
    layer, errors = nn.Linear(16, 8), {}
    for smooth in (0.0, 0.5):
        model = quantised(layer, x, Quantize(8, 8, smooth=smooth))
        errors[smooth] = float((model(x) - layer(x)).detach().square().mean())
    assert errors[0.5] < errors[0.0] / 2
    wrapper = model[0]
    assert wrapper.smoothing is not None
    assert float(wrapper.smoothing[3]) > 4 * float(wrapper.smoothing[0])
    wrapper.weight_quantizer = wrapper.input_quantizer = None
    torch.testing.assert_close(model(x), layer(x), rtol=1e-4, atol=1e-4)
    strip(model)
    assert torch.equal(model(x), layer(x))


@pytest.mark.parametrize("smooth", [0.0, 0.5])
def test_bias_correction_takes_the_mean_error_out(smooth: float) -> None:
    x = numbers(400, 16) + 2
    layer = nn.Linear(16, 8)
    shift = {}
    for correct in (False, True):
        entry = Quantize(3, 8, bias_correction=correct, smooth=smooth)
        model = quantised(layer, x, entry)
        model[0].input_quantizer = None
        shift[correct] = float((model(x) - layer(x)).detach().mean(0).abs().max())
    assert shift[False] > 1e-2
    assert shift[True] < 1e-5


def test_half_precision_and_smoothing_lose_no_integer_that_was_rounded_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Tensor] = []

    def kept(*args: Any) -> Tensor:
        made.append(round_weights(*args))
        return made[0]

    monkeypatch.setattr(fitting, "round_weights", kept)
    x = (numbers(80, 32) * (numbers(32, seed=2) * 2).exp()).bfloat16()
    entry = Quantize(8, 8, rounding="gptq", smooth=0.5)
    model = quantised(nn.Linear(32, 32, dtype=torch.bfloat16), x, entry)
    facts = describe(model)["0"]
    assert facts.weight_scales is not None
    wanted = (made[0] / facts.weight_scales[:, None]).round()
    assert torch.equal(facts.weight_integers, wanted.to(torch.int8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("entry", [Quantize(4, 8), Quantize(3, 8, rounding="gptq", smooth=0.5)])
def test_layers_of_other_precisions_keep_them(dtype: torch.dtype, entry: Quantize) -> None:
    x = numbers(40, 16).to(dtype)
    layer = nn.Linear(16, 8, dtype=dtype)
    model = quantised(layer, x, entry)
    assert model(x).dtype == model[0].weight.dtype == dtype
    assert bool(model(x).isfinite().all())
    error = (model(x) - layer(x)).double().square().mean()
    assert float(error) < 0.05 * float(layer(x).double().square().mean())
