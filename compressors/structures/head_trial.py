"""Trial removals of attention heads on a copy of the model.

Knows the copy, the example and the layers of a candidate; not how candidates are found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from compressors.modules import device_of, moved
from compressors.structures.heads import columns_of, keep_heads, linear_at
from compressors.structures.structure import Attention
from compressors.structures.tracing import BEYOND, tensors_in

LOUDNESS = 2.0  # of the noise that attentions see: enough for weights that differ
Seen = tuple[list[torch.Size], dict[str, Tensor]]  # output shapes, what output layers read


class HeadTrial:
    """A copy of a model whose attentions can lose a head for one run."""

    def __init__(self, model: nn.Module, example: tuple[Tensor, ...]) -> None:
        self._model = deepcopy(model).eval()
        self._example = moved(example, device_of(model))

    def that_pass(
        self,
        candidates: Sequence[Attention],
        variants: Callable[[Attention], Iterable[Attention]],
    ) -> Iterator[Attention]:
        """Of each candidate, the first variant with which a head can go."""
        try:
            whole = self._run(candidates)
        except BEYOND:
            return
        first = [next(iter(variants(candidate))) for candidate in candidates]
        if self._passes(first, whole):
            yield from first
            return
        for candidate in candidates:
            for variant in variants(candidate):
                if self._passes([variant], whole):
                    yield variant
                    break

    def _passes(self, attentions: Sequence[Attention], whole: Seen) -> bool:
        shapes, read = whole
        try:
            with self._without_a_head(attentions):
                found, now = self._run(attentions)
        except BEYOND:
            return False
        return found == shapes and all(
            self._agree(attention, read[attention.name], now[attention.name])
            for attention in attentions
        )

    def _agree(self, attention: Attention, before: Tensor, after: Tensor) -> bool:
        """Whether the heads that stayed gave what they gave."""
        output = linear_at(self._model, attention.output)
        expected = before[..., columns_of(attention, output, _kept(attention))]
        if expected.shape != after.shape:
            return False
        most = math.sqrt(torch.finfo(after.dtype).eps) * float(expected.double().norm())
        error = float((expected.double() - after.double()).norm())
        return error <= most

    @torch.no_grad()
    def _run(self, attentions: Sequence[Attention]) -> Seen:
        read: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for attention in attentions:
                for shift, layer in enumerate(attention.packed()):
                    hook = _noise(3 * _seed(attention.name) + shift)
                    handle = linear_at(self._model, layer).register_forward_pre_hook(hook)
                    stack.callback(handle.remove)
                output = linear_at(self._model, attention.output)
                handle = output.register_forward_pre_hook(_reader(read, attention.name))
                stack.callback(handle.remove)
            outputs = self._model(*self._example)
        return [tensor.shape for tensor in tensors_in(outputs)], read

    @contextmanager
    def _without_a_head(self, attentions: Sequence[Attention]) -> Iterator[None]:
        names = {
            name
            for attention in attentions
            for name in (attention.name, attention.output, *attention.packed())
        }
        modules = [self._model.get_submodule(name) for name in names]
        before = [(m, dict(vars(m)), dict(m._parameters)) for m in modules]
        try:
            for attention in attentions:
                keep_heads(self._model, attention, _kept(attention))
            yield
        finally:
            for module, attributes, parameters in before:
                vars(module).clear()
                vars(module).update(attributes)
                module._parameters.clear()
                module._parameters.update(parameters)


def _kept(attention: Attention) -> list[int]:
    """All heads but the second."""
    return [head for head in range(attention.heads) if head != 1]


def _seed(name: str) -> int:
    return sum(name.encode())


def _noise(seed: int) -> Callable[..., tuple[Any, ...]]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        x = args[0]
        drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        return ((LOUDNESS * drawn).to(x), *args[1:])

    return hook


def _reader(read: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        read[name] = args[0].detach().clone()

    return hook
