"""How long applying a policy takes: cold, cached, and with one layer changed.

    python scripts/bench/stack_apply.py [rounds]

The default study's model. `anew` copies the model and computes everything again, as a tool without
a cache has to for every trial; `changed` applies a policy that differs from the last in one layer;
`same` applies one policy again. The three take turns, one thread each; medians in milliseconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter

import torch

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank, Prune, Quantize, Sparsify
from compressors.stack import Stack
from evaluation.tasks.digits_resnet20 import DigitsResNet20


def everywhere(**step: object) -> LayerPolicy:
    return LayerPolicy("*", **step)  # type: ignore[arg-type]


INT8 = Quantize(8, 8)
KINDS: dict[str, tuple[LayerPolicy, LayerPolicy]] = {  # everywhere, and what one layer takes then
    "int8, min-max": (everywhere(quantize=INT8), everywhere(quantize=Quantize(5, 8))),
    "int8, entropy": (
        everywhere(quantize=Quantize(8, 8, "entropy")),
        everywhere(quantize=Quantize(5, 8, "entropy")),
    ),
    "4 bits, GPTQ, mse": (
        everywhere(quantize=Quantize(4, 8, "mse", rounding="gptq")),
        everywhere(quantize=Quantize(3, 8, "mse", rounding="gptq")),
    ),
    "4 bits, k-means": (
        everywhere(quantize=Quantize(4, None, function="kmeans")),
        everywhere(quantize=Quantize(3, None, function="kmeans")),
    ),
    "2:4 by error, int8": (
        everywhere(sparsify=Sparsify(pattern="2:4", criterion="hessian"), quantize=INT8),
        everywhere(sparsify=Sparsify(0.3, criterion="hessian"), quantize=INT8),
    ),
    "half rank, aware": (
        everywhere(lowrank=LowRank(0.5, aware=True)),
        everywhere(lowrank=LowRank(0.25, aware=True)),
    ),
    "half width": (everywhere(prune=Prune(0.5)), everywhere(prune=Prune(0.25))),
}


def one_changed(policy: Policy, stack: Stack, other: LayerPolicy, index: int) -> Policy:
    able = [layer.name for layer in stack.structure.layers if layer.groups == 1]
    if other.prune is not None:
        able = [group.root for group in stack.structure.groups]
    name = able[index % len(able)]
    return replace(policy, layers=(*policy.layers, replace(other, name=name)))


def milliseconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return 1e3 * (perf_counter() - start)


class Turns:
    """One policy and its neighbours, applied in turns."""

    def __init__(self, task: DigitsResNet20, policy: Policy, other: LayerPolicy) -> None:
        self._task = task
        self._policy = policy
        self._other = other
        self._warm = Stack(task.model(), task)
        self._warm.apply(policy)

    def anew(self) -> float:
        """Without anything that was computed before, the model's structure apart."""
        stack = Stack(self._task.model(), self._task)
        return milliseconds(lambda: stack.apply(self._policy))

    def changed(self, index: int) -> float:
        """One layer takes another step than it had."""
        policy = one_changed(self._policy, self._warm, self._other, index)
        return milliseconds(lambda: self._warm.apply(policy))

    def same(self) -> float:
        """The policy again."""
        return milliseconds(lambda: self._warm.apply(self._policy))


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    task = DigitsResNet20()
    print(f"{'policy':20} {'anew':>8} {'changed':>8} {'same':>8}   anew / changed")
    for name, (everywhere_taken, other) in KINDS.items():
        turns = Turns(task, Policy(layers=(everywhere_taken,)), other)
        rows = [(turns.anew(), turns.changed(index), turns.same()) for index in range(rounds)]
        anew, changed, same = (median(column) for column in zip(*rows, strict=True))
        print(f"{name:20} {anew:8.1f} {changed:8.1f} {same:8.1f}   {anew / changed:5.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
