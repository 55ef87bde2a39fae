"""What a policy's model would cost, counted from the structure alone: an accountant, no machine.

Sizes and multiplications are nearly what a target would count; latency and energy are of a
made-up machine on which a layer is bound by arithmetic or by memory, so that they do not add up
from single choices. Knows neither number formats nor files' overhead but a constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank
from compressors.structures.structure import Layer, Structure
from evaluation.measurement import (
    ACTIVATIONS,
    BIT_OPERATIONS,
    ENERGY,
    LATENCY,
    MACS,
    PARAMETERS,
    SIZE,
    Value,
)

HEADER = 1000.0  # bytes of a file beside the weights
WIDE = 32.0  # bits of float
MACS_A_MS, BYTES_A_MS, CALL_MS = 2e7, 4e6, 0.002  # the made-up machine in float; a call of a layer
PICOJOULES = 4.6  # of a multiplication in float, and as many a byte of weights


@dataclass(frozen=True)
class _Left:
    """What is left of a layer."""

    parameters: float
    macs: float
    weight_bits: float
    activation_bits: float
    density: float
    outputs: float

    @property
    def bytes(self) -> float:
        return self.parameters * self.density * self.weight_bits / 8

    @property
    def milliseconds(self) -> float:
        arithmetic = self.macs / MACS_A_MS * max(self.weight_bits, self.activation_bits) / WIDE
        return CALL_MS + max(arithmetic, self.bytes / BYTES_A_MS)


@dataclass(frozen=True)
class Costs:
    """The costs of policies over a structure."""

    structure: Structure

    @cached_property
    def _groups(self) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
        """By layer: the root of the group of its outputs, and those of its inputs."""
        outputs = {name: group.root for group in self.structure.groups for name in group.members}
        inputs: dict[str, tuple[str, ...]] = {}
        for group in self.structure.groups:
            for name in group.readers:
                inputs[name] = (*inputs.get(name, ()), group.root)
        return outputs, inputs

    def of(self, policy: Policy) -> tuple[Value, ...]:
        """Every cost."""
        left = list(self._left(policy))
        bits = sum(x.macs * x.weight_bits * x.activation_bits for x in left)
        energy = PICOJOULES * sum(
            x.macs * x.weight_bits * x.activation_bits / WIDE**2 + x.bytes for x in left
        )
        return (
            Value(LATENCY, sum(x.milliseconds for x in left), 0.0),
            Value(SIZE, float(math.ceil(HEADER + sum(x.bytes for x in left))), 0.0),
            Value(PARAMETERS, float(round(sum(x.parameters for x in left))), 0.0),
            Value(MACS, float(round(sum(x.macs for x in left))), 0.0),
            Value(BIT_OPERATIONS, float(round(bits)), 0.0),
            Value(ACTIVATIONS, 8 * max((x.outputs for x in left), default=0.0), 0.0),
            Value(ENERGY, energy / 1e6, 0.0),
        )

    def _left(self, policy: Policy) -> Iterable[_Left]:
        steps = {entry.name: entry for entry in policy.layers}
        kept = {n: 1 - e.prune.channels for n, e in steps.items() if e.prune is not None}
        heads = self._kept_heads(steps)
        for layer in self.structure.layers:
            if not any(_inside(layer.name, block) for block in policy.remove):
                entry = steps.get(layer.name, LayerPolicy(layer.name))
                yield self._of_layer(layer, entry, kept, heads.get(layer.name, 1.0))

    def _kept_heads(self, steps: Mapping[str, LayerPolicy]) -> dict[str, float]:
        found: dict[str, float] = {}
        for unit in self.structure.attentions:
            step = steps.get(unit.name, LayerPolicy(unit.name)).heads
            for name in (*unit.packed(), unit.output) if step is not None else ():
                found[name] = 1 - step.share if step is not None else 1.0
        return found

    def _of_layer(
        self, layer: Layer, entry: LayerPolicy, kept: Mapping[str, float], heads: float
    ) -> _Left:
        outputs, inputs = self._groups
        out = kept.get(outputs.get(layer.name, ""), 1.0)
        into = math.prod(kept.get(root, 1.0) for root in inputs.get(layer.name, ()))
        depthwise = layer.groups > 1 and layer.groups == layer.in_channels
        share = out * heads * (1.0 if depthwise else into)
        if entry.lowrank is not None:
            share *= _rank_share(layer, entry.lowrank)
        bits = entry.quantize
        return _Left(
            parameters=layer.parameters * share,
            macs=layer.macs * share,
            weight_bits=float(bits.weights or WIDE) if bits else WIDE,
            activation_bits=float(bits.activations or WIDE) if bits else WIDE,
            density=_density(entry),
            outputs=layer.out_channels * out,
        )


def _rank_share(layer: Layer, step: LowRank) -> float:
    """The numbers of two factors as a share of the whole weight's."""
    rows, columns = layer.out_channels, max(1, layer.parameters // max(1, layer.out_channels))
    full = min(rows, columns)
    rank = step.rank or math.ceil(full * (step.ratio or (step.energy or 0.5) ** 4))
    return min(1.0, rank * (rows + columns) / (rows * columns))


def _density(entry: LayerPolicy) -> float:
    step = entry.sparsify
    if step is None:
        return 1.0
    if step.pattern is not None:
        kept, of = (int(part) for part in step.pattern.split(":"))
        return kept / of
    return 1 - (step.share or 0.0)


def _inside(name: str, block: str) -> bool:
    return name == block or name.startswith(f"{block}.")
