"""Whole policies of a task's own model, that a table's correction is fitted on and tried on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice

from torch import Tensor

from compressors.data import Batch, Split
from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.record import CompressedModel
from compressors.stack import Stack
from evaluation.latency.sampled import sampled, uniform
from evaluation.profiling.pricing import Prices
from evaluation.target import Capability, Target
from evaluation.task import Task
from evaluation.work import work_of

SAMPLES = 8
HELD_OUT = 4  # one of so many
TRIES = 4  # policies drawn for each that is wanted


@dataclass(frozen=True)
class FewSamples:
    """A task's first few samples, whatever the split: weights are of no interest here."""

    task: Task

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        """One batch."""
        del split, batch_size, seed
        return islice(self.task.batches("calibration", batch_size=SAMPLES), 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's own."""
        return self.task.loss(outputs, targets)


@dataclass(frozen=True)
class Candidate:
    """A policy's model, and whether it is kept from the fit, to try it on."""

    compressed: CompressedModel
    held_out: bool

    @property
    def name(self) -> str:
        """The policy's."""
        return self.compressed.record.policy_id


def candidates(
    stack: Stack, target: Target, capability: Capability, prices: Prices, wanted: int
) -> Iterator[Candidate]:
    """So many different policies that can be lowered and priced; uniform ones, then drawn ones."""
    found: list[Policy] = []
    for policy in islice(_policies(stack, capability), TRIES * wanted):
        if policy in found:
            continue
        try:
            compressed = stack.apply(policy)
            for work in work_of(compressed):
                prices.of(work)
        except UserError:  # a rule that this model has, or a layer that could not be measured
            continue
        if any(target.capability.refusal(layer) for layer in compressed.record.layers):
            continue
        yield Candidate(compressed, len(found) % HELD_OUT == HELD_OUT - 1)
        found.append(policy)
        if len(found) == wanted:
            return


def _policies(stack: Stack, capability: Capability) -> Iterator[Policy]:
    known = [set(precisions) for precisions in capability.precisions.values()]
    for precision in sorted(set.intersection(*known), key=str)[:3] if known else ():
        yield _on_grid(uniform(stack.structure, precision), capability)
    for seed in count():
        yield _on_grid(sampled(stack.structure, capability, seed), capability)


def _on_grid(policy: Policy, capability: Capability) -> Policy:
    """As a search would say it: widths in the target's multiples, grids that it has."""
    return replace(policy, layers=tuple(_entry(layer, capability) for layer in policy.layers))


def _entry(layer: LayerPolicy, capability: Capability) -> LayerPolicy:
    prune, quantize = layer.prune, layer.quantize
    if prune is not None:
        prune = replace(prune, multiple=capability.channel_multiple)
    if quantize is not None and quantize.activations is not None and not capability.zero_points:
        quantize = replace(quantize, signed=True)
    return replace(layer, prune=prune, quantize=quantize)
