"""Batch norms: folded into the layer before them, and their statistics taken anew after cuts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.data import Batch
from compressors.modules import device_of, eval_mode, layer_kind, moved, replace
from compressors.tracing import Call, Trace, trace


def fold(model: nn.Module, example: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Fold every batch norm that alone takes a layer's output into that layer, in place.

    Returns by layer the factor that each output channel was multiplied by: a quantised layer's
    weight scales take its magnitude, their integers its sign.
    """
    seen = trace(model, example)
    producers = {
        id(call.output): call for call in seen.calls if layer_kind(call.module) is not None
    }
    factors: dict[str, Tensor] = {}
    for call in seen.calls:
        producer = producers.get(id(call.args[0])) if call.args else None
        if producer is not None and _folds(call, producer, seen):
            factors[producer.name] = _fold_pair(producer.module, call.module)
            replace(model, call.name, nn.Identity())
    return factors


def _folds(norm: Call, producer: Call, seen: Trace) -> bool:
    return (
        isinstance(norm.module, (nn.BatchNorm1d, nn.BatchNorm2d))
        and norm.module.running_var is not None
        and seen.uses(producer.output) == 1
        and len(seen.calls_of(norm.module)) == len(seen.calls_of(producer.module)) == 1
    )


@torch.no_grad()
def _fold_pair(layer: nn.Module, norm: nn.Module) -> Tensor:
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    factor = 1.0 / torch.sqrt(variance + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    shift = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    before = torch.zeros_like(mean) if layer.bias is None else layer.bias.double()
    shaped = factor.view(-1, *[1] * (layer.weight.dim() - 1))
    layer.weight.copy_(layer.weight.double() * shaped)
    bias = (before - mean) * factor + shift
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad)
    return factor.to(layer.weight.dtype)


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Batch], most: int = 32) -> None:
    """Take the running statistics anew, as the plain mean over at most so many batches.

    Batches of one sample count only where there are no others. A norm that could take no
    statistics keeps those it has.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    before = [{name: b.clone() for name, b in norm.named_buffers()} for norm in norms]
    done: set[nn.Module] = set()
    hooks = [norm.register_forward_hook(lambda norm, *_: done.add(norm)) for norm in norms]
    with eval_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean
            norm.train()
        try:
            _run(model, islice(batches, most))
        finally:
            for hook in hooks:
                hook.remove()
            for norm, momentum, buffers in zip(norms, momenta, before, strict=True):
                norm.momentum = momentum
                if norm not in done:
                    norm.load_state_dict(buffers, strict=False)


def _run(model: nn.Module, batches: Iterable[Batch]) -> None:
    device, ran = device_of(model), False
    single = []
    for batch in batches:
        if len(batch.targets) > 1:
            model(*moved(batch.args, device))
            ran = True
        else:
            single.append(batch.args)
    for args in () if ran else single:
        with suppress(ValueError):  # a norm that sees one value a channel
            model(*moved(args, device))
