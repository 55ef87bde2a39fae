from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compressors.quantization.bias_correction import correct_bias
from tests.compressors.rounding import digits

LAYERS = {
    "linear": lambda bias: nn.Linear(6, 5, bias=bias),
    "conv1d": lambda bias: nn.Conv1d(6, 4, 3, stride=2, bias=bias),
    "conv2d": lambda bias: nn.Conv2d(6, 4, 3, dilation=2, bias=bias),
    "grouped": lambda bias: nn.Conv2d(6, 9, (3, 1), groups=3, bias=bias),
    "depthwise": lambda bias: nn.Conv2d(6, 12, 3, groups=6, bias=bias),
    "transposed": lambda bias: nn.ConvTranspose2d(6, 4, 2, stride=2, bias=bias),
    "transposed in groups": lambda bias: nn.ConvTranspose2d(6, 4, 2, 2, groups=2, bias=bias),
}


def inputs(name: str, even: bool) -> Tensor:
    """Inputs with means far from 0; the even ones are alike at all positions."""
    shape = {"linear": (), "conv1d": (9,)}.get(name, (9, 9))
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(40, 6, *[1] * len(shape) if even else shape, generator=generator)
    means = torch.arange(1.0, 7).view(6, *[1] * len(shape))
    return (x + means).expand(40, 6, *shape)


def mean_of(outputs: Tensor) -> Tensor:
    return outputs.transpose(0, 1).flatten(1).mean(1)


@torch.no_grad()
def corrected(layer: nn.Module, x: Tensor) -> tuple[float, float, str | None]:
    """How far mean outputs are off before and after, and the note."""
    original = layer.weight.clone()
    wanted = mean_of(layer(x))
    layer.weight.copy_((original * 6).round() / 6)
    rounded = layer.weight.clone()
    before = float((mean_of(layer(x)) - wanted).abs().max())
    note = correct_bias(layer, original, rounded, mean_of(x))
    assert torch.equal(layer.weight, rounded)
    return before, float((mean_of(layer(x)) - wanted).abs().max()), note


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_the_mean_output_is_what_it_was(name: str, bias: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = LAYERS[name](bias)
    before, after, note = corrected(layer, inputs(name, even=True))
    assert before > 0.05
    assert after < 1e-4
    assert (note is None) == bias
    assert isinstance(layer.bias, nn.Parameter)


def test_positions_that_differ_a_little_leave_a_little() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Conv2d(6, 4, 3, padding=1)
    before, after, _ = corrected(layer, inputs("conv2d", even=False))
    assert after < 0.5 * before


@pytest.mark.parametrize("name", digits.LAYERS)
@torch.no_grad()
def test_the_output_error_falls_on_real_inputs(name: str) -> None:
    source, x = digits.layer_of(name), digits.inputs_of(name)[: digits.SEEN]
    kind = type(source)
    layer = kind.__new__(kind)
    layer.__dict__.update(source.__dict__)
    layer._parameters = {key: nn.Parameter(p.clone()) for key, p in source._parameters.items()}
    wanted = source(x)
    largest = source.weight.flatten(1).abs().amax(1).view(-1, *[1] * (source.weight.dim() - 1))
    layer.weight.copy_((source.weight / largest * 3).round() / 3 * largest)
    before = (layer(x) - wanted).square().mean()
    correct_bias(layer, source.weight, layer.weight.clone(), mean_of(x))
    assert (layer(x) - wanted).square().mean() < 0.95 * before


def test_bfloat16_stays_so() -> None:
    layer = nn.Linear(6, 5, bias=False).bfloat16()
    correct_bias(layer, layer.weight + 1, layer.weight, torch.ones(6))
    assert layer.bias.dtype == torch.bfloat16
    assert torch.allclose(layer.bias.float(), torch.full((5,), 6.0), rtol=0.02)
