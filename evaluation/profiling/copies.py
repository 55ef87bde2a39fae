"""A layer many times over as a model of its own, lowered by the target as any model is.

What one copy takes is the difference between a model of many and a model of one, so that what a run
costs whatever it computes, and conversions at the ends, cancel. Copies follow one another where a
layer gives out what it takes in. Where it does not, they stand side by side and their outputs are
added up: the price then holds one addition, which most networks have there as well. There are no
more copies than have about as many weights as the model at hand, for caches that hold the one
should hold the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compressors.data import Batch, Split
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.profiling.layers import LayerShape
from evaluation.target import FLOAT, Artifact, Precision, Target
from evaluation.work import Work, work_of

FEWEST, MOST = 1, 16  # copies beyond the first
ENOUGH = 2e7  # multiply-accumulates that can be told apart from noise
SAMPLES = 4


class Copies(nn.Module):
    """So many layers of one shape, one behind the other or side by side."""

    def __init__(self, shape: LayerShape, count: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.ModuleList(shape.build() for _ in range(count))
        self._in_a_row = self._gives_what_it_takes(shape)

    def forward(self, x: Tensor) -> Tensor:
        """What the last of them gives out, or the sum of what all do."""
        first, *others = self.layers
        total: Tensor = first(x)
        for layer in others:
            total = layer(total) if self._in_a_row else total + layer(x)
        return total

    def _gives_what_it_takes(self, shape: LayerShape) -> bool:
        sample = shape.samples(1)
        with torch.no_grad():
            return shape.kind != "embedding" and self.layers[0](sample).shape == sample.shape


@dataclass(frozen=True)
class MadeUp:
    """The same few samples, whatever the split."""

    inputs: Tensor

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        """One batch."""
        del split, batch_size, seed
        count = len(self.inputs)
        return [Batch(self.inputs, torch.zeros(count), torch.arange(count))]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of no meaning."""
        del targets
        return outputs.square().mean()


@dataclass(frozen=True)
class Pair:
    """Files of one copy and of several, and the work of a single one."""

    one: Artifact
    several: Artifact
    more: int  # copies in the second beyond those in the first
    work: Work


def lowered(
    target: Target, shape: LayerShape, precision: Precision, weights: int, stem: Path
) -> Pair:
    """Both files of a layer at a precision, for a model of so many weights.

    Raises UserError where the target does not take the layer.
    """
    signed = not target.capability.zero_points
    one = _compressed(shape, precision, 1, signed=signed)
    (work,) = work_of(one)
    enough = min(ENOUGH // max(1, work.macs), weights // work.weights)
    more = int(min(MOST, max(FEWEST, enough)))
    several = _compressed(shape, precision, 1 + more, signed=signed)
    data = MadeUp(shape.samples(SAMPLES))
    files = [
        target.lower(made, data, stem.with_name(f"{stem.name}-{count}{target.suffix}"))
        for made, count in ((one, 1), (several, 1 + more))
    ]
    return Pair(files[0], files[1], more, work)


def step(precision: Precision, *, signed: bool) -> Quantize:
    """Quantisation to a precision, on a grid that the target has."""
    signed = signed and precision.activations is not None
    return Quantize(precision.weights, precision.activations, signed=signed)


def _compressed(
    shape: LayerShape, precision: Precision, count: int, *, signed: bool
) -> CompressedModel:
    quantize = step(precision, signed=signed)
    entries = tuple(LayerPolicy(f"layers.{n}", quantize=quantize) for n in range(count))
    policy = Policy() if precision == FLOAT else Policy(layers=entries)
    return apply(Copies(shape, count).eval(), policy, MadeUp(shape.samples(SAMPLES)))
