"""Batch norms' statistics, taken anew after cuts. Folding them away is each target's own affair."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.data import Batch
from compressors.modules import device_of, eval_mode, moved


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
