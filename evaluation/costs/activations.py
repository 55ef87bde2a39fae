"""The memory that activations need at their fullest moment, for one sample.

The model runs once and every operator's tensors are written down; views share their storage, and
weights are not counted. A tensor is held in the bits in which the layers read it that come after
it, the widest where they differ, also through what only moves, adds or scales numbers (an
activation, a residual sum, a folded batch norm, a pooling). Products of two activations, softmax
and norms that look at their input read float, 32 bits; what the model gives back is float. Knows
no runtime: one that copies, pads or keeps its buffers apart needs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evaluation.costs.liveness import Step, peak_bytes
from evaluation.target import FLOAT_BITS
from evaluation.work import opened, run_once

THROUGH = (  # operators that, like elementwise ones, are computed in the bits of their result
    "pool",
    "mean",
    "cat",
    "pad",
    "clone",
    "copy",
    "upsample",
    "index",
    "stack",
    "flip",
    "roll",
    "amax",
)


def activation_bytes(
    module: nn.Module, example: tuple[Tensor, ...], bits: Mapping[str, int | None]
) -> float:
    """The most bytes of activations held at once; `bits` are of layers' inputs, by module path."""
    module, sample = opened(module), tuple(tensor[:1].clone() for tensor in example)
    seen = _Seen()
    with _marked(module, seen), seen:
        outputs = run_once(module, sample)
    weights = {seen.add(tensor) for tensor in (*module.parameters(), *module.buffers())}
    given = [seen.add(tensor) for tensor in tree_leaves(outputs) if isinstance(tensor, Tensor)]
    operators = _of_use(_of_activations(seen.operators, weights), given)
    sizes = _sizes(seen, operators, given, bits)
    return peak_bytes([operator.step for operator in operators], sizes, given)


@dataclass(frozen=True)
class _Operator:
    """What one operator reads and writes, and the layer in which it runs."""

    step: Step
    through: bool
    layer: str | None


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operator that runs, and the size of every storage."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[_Operator] = []
        self.layers: list[str] = []  # that run now
        self.numbers: dict[int, int] = {}
        self.widths: dict[int, int] = {}  # bits of a number that is no float
        self._references: list[StorageWeakRef] = []  # so that no storage's id is used twice

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operator, and note it unless its result is a view."""
        result = func(*args, **(kwargs or {}))
        reads, writes = self._all((args, kwargs)), self._all(result)
        if func._schema.is_mutable or not set(writes) <= set(reads):
            name = str(func.name())
            alike = torch.Tag.pointwise in func.tags or "batch_norm" in name
            through = alike or any(word in name for word in THROUGH)
            layer = self.layers[-1] if self.layers else None
            self.operators.append(_Operator(Step(reads, writes, alike), through, layer))
        return result

    def add(self, tensor: Tensor) -> int:
        """The id of a tensor's storage."""
        reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        key = int(reference.cdata)
        if key not in self.numbers:
            self._references.append(reference)
            self.numbers[key] = tensor.untyped_storage().nbytes() // tensor.element_size()
            if not tensor.is_floating_point():
                self.widths[key] = 8 * tensor.element_size()
        return key

    def _all(self, values: Any) -> tuple[int, ...]:
        tensors = (value for value in tree_leaves(values) if isinstance(value, Tensor))
        return tuple(dict.fromkeys(self.add(tensor) for tensor in tensors))


@contextmanager
def _marked(module: nn.Module, seen: _Seen) -> Iterator[None]:
    """Have every module without parts say when it begins and ends."""

    def begin(name: str) -> Any:
        return lambda *_: seen.layers.append(name)

    def end(*_: Any) -> None:
        seen.layers.pop()

    handles = []
    for name, part in module.named_modules():
        if next(part.children(), None) is None:
            handles.append(part.register_forward_pre_hook(begin(name)))
            handles.append(part.register_forward_hook(end))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _of_activations(operators: list[_Operator], weights: set[int]) -> Iterator[_Operator]:
    """The operators without the weights that they read, and without those on weights alone."""
    gone = set(weights)
    for operator in operators:
        step = operator.step
        reads = tuple(b for b in step.reads if b not in gone)
        if step.reads and not reads:
            gone.update(step.writes)
            continue
        writes = tuple(b for b in step.writes if b not in gone)
        yield replace(operator, step=replace(step, reads=reads, writes=writes))


def _of_use(operators: Iterable[_Operator], given: list[int]) -> list[_Operator]:
    """The operators without the results that nobody reads, such as a pooling's indices."""
    wanted, found = set(given), []
    for operator in reversed(list(operators)):
        step = operator.step
        writes = tuple(b for b in step.writes if b in wanted)
        if writes:
            wanted.update(step.reads)
            found.append(replace(operator, step=replace(step, writes=writes)))
    return found[::-1]


def _sizes(
    seen: _Seen, operators: list[_Operator], given: list[int], bits: Mapping[str, int | None]
) -> dict[int, float]:
    """Bytes of every storage, in the bits in which it is read."""
    asked = dict.fromkeys(given, FLOAT_BITS)
    for operator in reversed(operators):
        wanted = bits.get(operator.layer or "")
        if wanted is None:
            later = max(asked[buffer] for buffer in operator.step.writes)
            wanted = later if operator.through else FLOAT_BITS
        for buffer in operator.step.reads:
            asked[buffer] = max(asked.get(buffer, 0), wanted)
    return {
        buffer: seen.numbers[buffer] * seen.widths.get(buffer, wanted) / 8
        for buffer, wanted in asked.items()
    }
