"""What every technique of a policy promises, alone and together, on the models that can take it."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

from compressors.data import Data, OffersTeachers
from compressors.policies.policy import STEPS, Policy, Recovery, Rounds
from compressors.policies.policy_rules import expand
from compressors.policies.policy_yaml import policy_id
from compressors.record import CompressedModel
from compressors.stack import Stack
from compressors.structures.structure import Structure
from evaluation.target import Target
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage
from tests.contracts.cases import CASES, Case
from tests.contracts.models import build, data_for, inputs, outputs, same
from tests.contracts.records import check_layers, check_whole

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@dataclass(frozen=True)
class Owned:
    """What belongs to a caller, a stack that was given it, and copies from before that."""

    models: tuple[nn.Module, ...]
    data: Data
    stack: Stack
    before: tuple[nn.Module, ...]


def owned(name: str) -> Owned:
    """The model as its owner may have it: in training, and a parameter frozen."""
    model, data = build(name).train(), data_for(name)
    list(model.parameters())[-1].requires_grad_(False)
    offered = data.teachers().values() if isinstance(data, OffersTeachers) else ()
    models = (model, *offered)
    before = deepcopy(models)
    return Owned(models, data, Stack(model, data), before)


@cache
def shared(name: str) -> Owned:
    """One on whose stack every policy of the model is tried, one after the other."""
    found = owned(name)
    found.stack.apply(CASES[f"all-{name}"].policy)
    return found


@cache
def alone(model: str, policy: Policy) -> CompressedModel:
    """The compressed model from a stack on which nothing ran before."""
    return owned(model).stack.apply(policy)


@cache
def in_company(model: str, policy: Policy) -> list[CompressedModel]:
    """From the shared stack, twice, with the caller at other random numbers; which stay as is."""
    made = []
    for seed in (99, 100):
        torch.manual_seed(seed)
        states = random_states()
        made.append(shared(model).stack.apply(policy))
        assert random_states() == states
    return made


def random_states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def compressed(case: Case) -> CompressedModel:
    return alone(case.model, case.policy)


@cache
def others(name: str, near: bool) -> Stack:
    """A stack on the same architecture with other weights, or with nearly the same ones."""
    seed = 3 if near else 4
    model = build(name, seed)
    if near:
        for parameter in model.parameters():
            parameter.data *= 1.001
    return Stack(model, data_for(name, seed))


@cache
def of_type(name: str, dtype: torch.dtype, device: str) -> Stack:
    return Stack(build(name, dtype=dtype).to(device), data_for(name, dtype=dtype))


def meant(case: Case) -> tuple[Policy, Structure]:
    """The policy without patterns, and the structure of the model that it starts from."""
    structure = shared(case.model).stack.structure_of(case.policy.student)
    return expand(case.policy, structure), structure


def test_every_choice_of_every_step_has_a_case() -> None:
    asked: dict[str, set[Any]] = {}
    for policy in (case.policy for case in CASES.values()):
        taken = [getattr(entry, key) for entry in policy.layers for key in STEPS]
        for step in (policy.recovery, policy.rounds, *(step for step in taken if step)):
            for key, value in vars(step).items():
                asked.setdefault(f"{type(step).__name__}.{key}", set()).add(value)
    for kind in (*STEPS.values(), Recovery, Rounds):
        for key, hint in get_type_hints(kind).items():
            words = {word for word in get_args(hint) if isinstance(word, str)}
            every = {True, False} if hint is bool else words
            assert asked[f"{kind.__name__}.{key}"] >= every, f"{kind.__name__}.{key}"


@every_case
def test_the_neutral_setting_is_equal_to_the_last_bit(case: Case) -> None:
    found = shared(case.model)
    neutral = found.stack.apply(case.neutral)
    original = deepcopy(found.models[0]).eval()
    assert torch.equal(outputs(neutral.module, found.data), outputs(original, found.data))
    assert neutral.record.parameters == sum(p.numel() for p in original.parameters())


@every_case
def test_the_real_setting_changes_the_model(case: Case) -> None:
    data, module = data_for(case.model), compressed(case).module
    assert not torch.equal(outputs(module, data), outputs(build(case.model), data))
    assert outputs(module, data).isfinite().all()
    assert not any(module.training for module in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


@every_case
def test_what_belongs_to_the_caller_is_untouched(case: Case) -> None:
    in_company(case.model, case.policy)
    found = shared(case.model)
    for model, before in zip(found.models, found.before, strict=True):
        assert same(model, before)
        assert list(map(facts, model.named_modules())) == list(map(facts, before.named_modules()))
        flags = [(p.requires_grad, p.grad) for p in model.parameters()]
        assert flags == [(p.requires_grad, None) for p in before.parameters()]


def facts(named: tuple[str, nn.Module]) -> tuple[Any, ...]:
    name, module = named
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return name, type(module), module.training, [len(hook) for hook in hooks]


@every_case
def test_the_same_policy_gives_the_same_weights(case: Case) -> None:
    """On a stack of its own, and twice after other policies, at last out of the cache."""
    first = compressed(case)
    for again in in_company(case.model, case.policy):
        assert same(first.module, again.module)
        assert first.record == again.record


@every_case
def test_weights_travel_as_a_state_dict(case: Case) -> None:
    data, module = data_for(case.model), compressed(case).module
    other = others(case.model, case.shaped_by_weights).apply(case.policy).module
    assert not torch.equal(outputs(other, data), outputs(module, data))
    other.load_state_dict(module.state_dict())
    assert torch.equal(outputs(other, data), outputs(module, data))


@every_case
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["f64", "bf16"])
def test_dtype_device_and_layout_are_kept(case: Case, dtype: torch.dtype, device: str) -> None:
    module = of_type(case.model, dtype, device).apply(case.policy).module
    for name, parameter in module.named_parameters():
        assert parameter.dtype == dtype, name
        assert parameter.device.type == device, name
        assert parameter.is_contiguous(), name
    assert all(buffer.device.type == device for buffer in module.buffers())
    args = [arg.to(device) for arg in inputs(data_for(case.model, dtype=dtype))]
    with torch.no_grad():
        answers = module(*args)
    assert answers.dtype == dtype
    assert answers.isfinite().all()


@every_case
def test_the_record_tells_the_whole_model(case: Case) -> None:
    found = compressed(case)
    policy, structure = meant(case)
    assert found.record.policy_id == policy_id(case.policy)
    check_whole(found, policy, structure)
    check_layers(found, policy, structure)
    bounded = policy.rounds.loss_rise is not None and case.model == "small"
    assert any("taken back" in note for note in found.record.notes) == bounded
    with torch.no_grad():
        found.module(*found.example)


@every_case
@pytest.mark.parametrize("kind", [Storage, OrtCpu], ids=lambda kind: kind.name)
def test_the_file_answers_as_the_module(case: Case, kind: type[Any], tmp_path: Path) -> None:
    """To rounding; where inputs are rounded too, a last bit may tip some by a whole step."""
    target: Target = kind(cache_dir=str(tmp_path))
    found, data = compressed(case), data_for(case.model)
    if any(target.capability.refusal(layer) for layer in found.record.layers):
        assert kind is OrtCpu  # what has no kernel there is stored at least
        return
    path = target.lower(found, data, tmp_path / f"m{target.suffix}").path
    expected = outputs(found.module, data)
    off = (target.load(path)(*inputs(data)) - expected).abs() / expected.abs().max()
    if any(layer.activation_bits for layer in found.record.layers):
        assert off.median() < (1e-5 if kind is Storage else 0.02)
        assert off.mean() < 0.02
    else:
        assert off.max() < 1e-5
