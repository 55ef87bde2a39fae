"""Batch norms' statistics, taken anew after cuts; kept by content, as they cost many passes.

Folding batch norms away is each target's own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import chain, islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.calibration import digest
from compressors.calibration.cache import ContentCache, Tensors
from compressors.data import Batch, Data
from compressors.modules import device_of, eval_mode, moved

MOST = 32  # batches


class TrainingSplit:
    """The first training batches in fixed order, or the calibration split where there are none."""

    def __init__(self, data: Data) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self._data.batches("train"))
        first = next(batches, None)
        rest = self._data.batches("calibration") if first is None else chain([first], batches)
        return islice(rest, MOST)

    @cached_property
    def digest(self) -> str:
        """The digest of these batches."""
        return digest.of_batches(self)


def renew_norms(
    model: nn.Module, split: TrainingSplit, cache: ContentCache, answers: Callable[[], str]
) -> None:
    """Take the running statistics anew on the training split, once for equal models.

    `answers` tells models apart that differ in their code alone.
    """
    norms = _norms(model)
    if not norms:
        return
    key = digest.of_text("batch norms", digest.of_model(model), answers(), split.digest)

    def take() -> Tensors:
        reestimate(model, split)
        return {
            f"{index}.{name}": buffer.clone()
            for index, norm in enumerate(norms)
            for name, buffer in norm.named_buffers()
        }

    for name, buffer in cache.remembered(key, take).items():
        index, _, own = name.partition(".")
        norms[int(index)].get_buffer(own).copy_(buffer)


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Batch], most: int = MOST) -> None:
    """Take the running statistics anew, as the plain mean over at most so many batches.

    Batches of one sample count only where there are no others. A norm that could take no
    statistics keeps those it has.
    """
    norms = _norms(model)
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
