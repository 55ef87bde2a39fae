"""Grids in training: following statistics, fixed, learned; and ranges found again."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from compressors.calibration.cache import ContentCache
from compressors.policies.steps import Quantize
from compressors.quantization.layers import (
    describe,
    freeze_scales,
    insert,
    recalibrate,
    set_scales,
)
from tests.compressors.quantization.helpers import (
    ONE_WIDTH,
    Given,
    group_of,
    inserted,
    linear,
    numbers,
    quantizer,
    statistics_of,
)
from tests.compressors.tiny import Images, Residual, seeded

MODES = ("statistics", "fixed", "learned")


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("function", ["symmetric", "asymmetric"])
def test_learned_steps_of_weights_have_torchs_gradients(bits: int, function: str) -> None:
    layer = linear(numbers(5, 40))
    entry = Quantize(bits, None, "mse", function)  # type: ignore[arg-type]
    found = quantizer(layer, entry)
    lowest = -(2 ** (bits - 1) - 1) if function == "symmetric" else 0
    highest = -lowest or 2**bits - 1
    scale = found.scale.clone().requires_grad_(True)
    zero = torch.zeros(5) if found.zero is None else found.zero
    found.set_mode("learned", layer.weight)
    upstream = numbers(5, 40, seed=9)
    factor = 1 / (40 * highest) ** 0.5
    reference = torch._fake_quantize_learnable_per_channel_affine(
        layer.weight, scale, zero, 0, lowest, highest, factor
    )
    expected = torch.autograd.grad((reference * upstream).sum(), (layer.weight, scale))
    assert found.log_step is not None
    ours = torch.autograd.grad(
        (found(layer.weight) * upstream).sum(), (layer.weight, found.log_step)
    )
    torch.testing.assert_close(found(layer.weight), reference)
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1] * found.scale, expected[1])


@pytest.mark.parametrize(("function", "bits"), ONE_WIDTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("granularity", ["channel", "group"])
def test_a_mode_changes_nothing_until_weights_do(
    function: str, bits: int, mode: str, granularity: str
) -> None:
    layer = linear(numbers(4, 30) + 0.3)
    layer.weight.data[2] = 0
    group = group_of(granularity, 12)
    entry = Quantize(bits, None, "mse", function, granularity, group)  # type: ignore[arg-type]
    found = quantizer(layer, entry)
    before = found(layer.weight).detach()
    keys = list(found.state_dict())
    found.set_mode(mode, layer.weight)  # type: ignore[arg-type]
    torch.testing.assert_close(found(layer.weight).detach(), before)
    found(layer.weight).square().sum().backward()
    for parameter in (layer.weight, *found.parameters()):
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
    learns = mode == "learned" and function != "log"
    assert len(list(found.parameters())) == learns
    found.freeze(layer.weight)
    torch.testing.assert_close(found(layer.weight).detach(), before)
    assert list(found.state_dict()) == keys
    assert not list(found.parameters())


@pytest.mark.parametrize(("function", "bits"), ONE_WIDTH)
@pytest.mark.parametrize("mode", MODES)
def test_a_row_of_zeros_can_be_trained(function: str, bits: int, mode: str) -> None:
    layer = linear(numbers(4, 30))
    layer.weight.data[2] = 0
    found = quantizer(layer, Quantize(bits, None, "mse", function))  # type: ignore[arg-type]
    found.set_mode(mode, layer.weight)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam([layer.weight, *found.parameters()], 1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        (found(layer.weight) - 1).square().sum().mul(1e6).backward()
        optimizer.step()
    assert bool(found(layer.weight).isfinite().all())


@pytest.mark.parametrize(("function", "bits"), ONE_WIDTH)
def test_scales_follow_the_weights_or_stay(function: str, bits: int) -> None:
    layer = linear(numbers(4, 30))
    entry = Quantize(bits, None, "mse", function)  # type: ignore[arg-type]
    found = {mode: quantizer(layer, entry) for mode in MODES[:2]}
    before = found["fixed"](layer.weight).detach()
    for mode, one in found.items():
        one.set_mode(mode, layer.weight)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.mul_(4)
    torch.testing.assert_close(found["statistics"](layer.weight).detach(), 4 * before)
    found["statistics"].freeze(layer.weight)
    torch.testing.assert_close(found["statistics"](layer.weight).detach(), 4 * before)
    if bits < 8:
        most = found["fixed"](layer.weight).detach().abs().max()
        assert float(most) < 2 * float(before.abs().max())


def train(model: nn.Module, steps: int = 8) -> list[float]:
    data, losses = Images(), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    images, targets = data.all("train")
    for _ in range(steps):
        loss = data.loss(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "entry",
    [
        Quantize(2, 4, "mse"),
        Quantize(2, 8, "mse", "asymmetric", "group", 7),
        Quantize(3, 8, function="kmeans", granularity="tensor", dynamic=True),
    ],
    ids=lambda entry: entry.function,
)
def test_training_lessens_the_loss_and_leaves_an_ordinary_model(mode: str, entry: Quantize) -> None:
    model = seeded(Residual)
    names = ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "fc"]
    settings = dict.fromkeys(names, entry)
    found, cache = statistics_of(model), ContentCache()
    insert(model, settings, found, cache)
    untrained = deepcopy(model)
    set_scales(model, mode)  # type: ignore[arg-type]
    count = len(list(model.parameters())) - len(list(untrained.parameters()))
    fixed_inputs = 0 if entry.dynamic else 4
    assert count == (4 + fixed_inputs if mode == "learned" else 0)
    losses = train(model)
    assert losses[-1] < losses[0]
    if mode == "learned":
        scales = [p for name, p in model.named_parameters() if name.endswith("log_step")]
        assert all(float(p.detach().abs().sum()) > 0 for p in scales)
    images = Images().all("validation")[0]
    with torch.no_grad():
        before = model(images)
        freeze_scales(model)
        torch.testing.assert_close(model(images), before)
        untrained.load_state_dict(model.state_dict())
        assert torch.equal(untrained(images), model(images))
    for name, facts in describe(model).items():
        assert facts.stored is not None
        wrapper = model.get_submodule(name)
        torch.testing.assert_close(facts.stored.values(), wrapper.rounded_weight())


def test_a_small_plain_step_moves_a_learned_scale_as_lsq_does() -> None:
    layer = linear(numbers(1, 50))
    found = quantizer(layer, Quantize(4, None, "mse"))
    scale = found.scale.clone().requires_grad_(True)
    zero, factor = torch.zeros(1), 1 / (50 * 7) ** 0.5
    reference = torch._fake_quantize_learnable_per_channel_affine(
        layer.weight, scale, zero, 0, -7, 7, factor
    )
    reference.square().sum().backward()
    found.set_mode("learned", layer.weight)
    optimizer = torch.optim.SGD(found.parameters(), 1e-4)
    found(layer.weight).square().sum().backward()
    optimizer.step()
    before = found.scale.clone()
    found.freeze(layer.weight)
    assert scale.grad is not None
    torch.testing.assert_close(found.scale - before, -1e-4 * scale.grad, rtol=1e-2, atol=1e-7)


FLOATS = Quantize(8, 8, function="e4m3", inputs="e4m3")
PAIRS = [
    (Quantize(4, 8), Quantize(4, 4, "mse"), 255),
    (FLOATS, FLOATS, 448),
    (FLOATS, replace(FLOATS, ranges="mse"), 448),
]


@pytest.mark.parametrize(("first", "second", "highest"), PAIRS, ids=["integers", "floats", "mse"])
def test_recalibration_finds_the_ranges_of_the_model_in_training(
    first: Quantize, second: Quantize, highest: int
) -> None:
    x = numbers(64, 6).abs()
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))
    settings = {"0": first, "2": second}
    inserted(model, settings, Given(x))
    batches = list(Given(x).batches("calibration"))
    before = describe(model)
    for mode in MODES[1:] + MODES[:1]:
        set_scales(model, mode)  # type: ignore[arg-type]
        trained = deepcopy(model).train()
        with torch.no_grad():
            trained[0].layer.weight.mul_(3)
            trained[0].bias.mul_(3)
        recalibrate(trained, batches)
        assert trained.training
        after = describe(trained)
        assert after["0"].scale == before["0"].scale == pytest.approx(float(x.max()) / highest)
        times = 3 if mode == "statistics" else 1
        assert after["2"].scale == pytest.approx(times * float(before["2"].scale or 0), rel=0.1)
