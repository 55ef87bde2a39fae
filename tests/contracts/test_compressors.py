"""What every step of a policy promises, on a residual network and on a dense one."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.policy_yaml import policy_id
from compressors.policies.steps import LowRank, Prune, Quantize
from compressors.quantization.layers import describe
from compressors.record import CompressedModel
from compressors.stack import Stack
from tests.compressors.tiny import Dense, Images, Residual, seeded

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def everywhere(**step: Prune | LowRank | Quantize | None) -> Policy:
    return Policy(layers=(LayerPolicy("*", **step),))


@dataclass(frozen=True)
class Case:
    """One step kind on one model: its neutral setting, and one that does something."""

    model: type[nn.Module]
    neutral: Policy
    real: Policy


STEPS = {
    "prune": (everywhere(prune=Prune(0.0, multiple=8)), everywhere(prune=Prune(0.5))),
    "lowrank": (everywhere(lowrank=LowRank(1.0)), everywhere(lowrank=LowRank(0.3))),
    "quantize": (
        everywhere(quantize=Quantize(None, None)),
        everywhere(quantize=Quantize(4, 8, "mse")),
    ),
    "recovery": (Policy(recovery=Recovery(seed=5)), Policy(recovery=Recovery(epochs=1, seed=5))),
}
ALL = LayerPolicy("*", Prune(0.5, "l1"), LowRank(0.3), Quantize(8, 8))
CASES = {
    f"{kind}-{model.__name__}": Case(model, neutral, real)
    for model in (Residual, Dense)
    for kind, (neutral, real) in STEPS.items()
}
CASES["depth-Residual"] = Case(Residual, Policy(), Policy(remove=("layer1.1", "layer2.1")))
CASES["all-Residual"] = Case(Residual, Policy(), Policy(("layer1.1",), (ALL,), Recovery(epochs=2)))
CASES["all-Dense"] = Case(Dense, Policy(), Policy((), (ALL,), Recovery(epochs=2)))

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def data_for(case: Case, dtype: torch.dtype = torch.float32) -> Images:
    return Images(flat=case.model is Dense, dtype=dtype)


def outputs(model: nn.Module, data: Images) -> torch.Tensor:
    with torch.no_grad():
        return model(data.all("validation")[0])


def compress(case: Case) -> CompressedModel:
    return Stack(seeded(case.model), data_for(case)).apply(case.real)


def same(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@every_case
def test_the_neutral_setting_is_equal_to_the_last_bit(case: Case) -> None:
    model, data = seeded(case.model), data_for(case)
    compressed = Stack(model, data).apply(case.neutral)
    assert torch.equal(outputs(compressed.module, data), outputs(model, data))
    assert same(compressed.module, model)


@every_case
def test_the_real_setting_changes_the_model(case: Case) -> None:
    data = data_for(case)
    compressed = compress(case)
    assert not torch.equal(outputs(compressed.module, data), outputs(seeded(case.model), data))
    assert outputs(compressed.module, data).isfinite().all()
    assert not any(module.training for module in compressed.module.modules())


@every_case
def test_the_callers_model_and_random_state_are_untouched(case: Case) -> None:
    model = seeded(case.model)
    model.train()
    next(iter(model.parameters())).requires_grad_(False)
    before = deepcopy(model)
    state = torch.get_rng_state()
    Stack(model, data_for(case)).apply(case.real)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(model, before)
    assert [name for name, _ in model.named_modules()] == [n for n, _ in before.named_modules()]
    assert all(module.training for module in model.modules())
    flags = [parameter.requires_grad for parameter in model.parameters()]
    assert flags == [parameter.requires_grad for parameter in before.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())


@every_case
def test_the_same_policy_gives_the_same_weights(case: Case) -> None:
    first = compress(case)
    torch.manual_seed(99)
    stack = Stack(seeded(case.model), data_for(case))
    stack.apply(CASES[f"all-{case.model.__name__}"].real)  # whatever ran before
    again = stack.apply(case.real)
    assert same(first.module, again.module)
    assert first.record == again.record


@every_case
def test_weights_travel_as_a_state_dict(case: Case) -> None:
    data, compressed = data_for(case), compress(case)
    other = Stack(case.model(), data).apply(case.real).module
    other.load_state_dict(compressed.module.state_dict())
    assert torch.equal(outputs(other, data), outputs(compressed.module, data))


@every_case
@pytest.mark.parametrize("device", DEVICES)
def test_dtype_device_and_layout_are_kept(case: Case, device: str) -> None:
    data = data_for(case, torch.float64)
    model = seeded(case.model).to(device, torch.float64)
    compressed = Stack(model, data).apply(case.real)
    for name, parameter in compressed.module.named_parameters():
        assert parameter.dtype == torch.float64, name
        assert parameter.device.type == device, name
        assert parameter.is_contiguous(), name
    images = data.all("validation")[0].to(device)
    with torch.no_grad():
        assert compressed.module(images).dtype == torch.float64


@every_case
def test_the_record_tells_the_whole_model(case: Case) -> None:
    stack = Stack(seeded(case.model), data_for(case))
    compressed = stack.apply(case.real)
    module, record = compressed.module, compressed.record
    quantised = describe(module)
    assert record.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert record.policy_id == policy_id(case.real)
    found = {name for name, m in module.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert {name.removesuffix(".layer") for name in found} == {row.name for row in record.layers}
    for row in record.layers:
        layer = module.get_submodule(row.name)
        layer = layer.layer if row.name in quantised else layer
        assert (row.out_channels, row.in_channels) == sizes(layer)
        assert row.parameters == sum(parameter.numel() for parameter in layer.parameters())
        bits = quantised.get(row.name)
        assert row.weight_bits == (bits and bits.weight_bits)
        assert row.activation_bits == (bits and bits.activation_bits)
        assert row.source in {source.name for source in stack.structure.layers}
    assert record.removed_blocks == case.real.remove
    epochs = case.real.recovery.epochs
    assert (record.recovery.epochs if record.recovery else 0) == epochs
    assert len(record.recovery.losses if record.recovery else ()) == epochs
    with torch.no_grad():
        module(*compressed.example)


def sizes(layer: nn.Module) -> tuple[int, int]:
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels, layer.in_channels
    assert isinstance(layer, nn.Linear)
    return layer.out_features, layer.in_features
