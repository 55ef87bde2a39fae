"""Random policies of a model within a target's table: what a search will ask the prices of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from random import Random

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank, Prune, Quantize
from compressors.structures.structure import Layer, Structure
from evaluation.target import FLOAT, INT8, Capability, Precision

WIDTHS = (0.25, 0.5, 0.75)
RANKS = (0.25, 0.5)
NARROW = 16  # channels that are not worth a rank


def uniform(structure: Structure, precision: Precision) -> Policy:
    """Every layer at one precision."""
    if precision == FLOAT:
        return Policy()
    layers = structure.layers
    return Policy(
        layers=tuple(LayerPolicy(layer.name, quantize=_step(precision)) for layer in layers)
    )


def sampled(structure: Structure, capability: Capability, seed: int) -> Policy:
    """A policy of which every layer is drawn: precision, width of its group, rank.

    How much of the model is touched is drawn too, so that policies differ as a front's do.
    """
    chance = Random(seed)
    shares = _Shares(chance.choice((0, 0.25, 0.5, 0.75, 1)), chance.choice((0, 0.3, 0.6, 0.9)))
    roots = {group.root for group in structure.groups}
    drawn = (
        _entry(layer, layer.name in roots, capability, shares, chance) for layer in structure.layers
    )
    return Policy(layers=tuple(entry for entry in drawn if entry is not None))


@dataclass(frozen=True)
class _Shares:
    """Of the layers: how many are quantised, and how many get narrower or a lower rank."""

    quantised: float
    cut: float


def _entry(
    layer: Layer, cuttable: bool, capability: Capability, shares: _Shares, chance: Random
) -> LayerPolicy | None:
    offered = [p for p in capability.offered(layer.kind) if p.weights and p.activations]
    quantised, cut = chance.random() < shares.quantised, chance.random() < shares.cut
    quantize = _step(chance.choice(offered)) if offered and quantised else None
    prune = Prune(chance.choice(WIDTHS)) if cut and cuttable else None
    wide = min(layer.in_channels, layer.out_channels) > NARROW
    low = cut and not cuttable and wide and layer.kind == "linear"
    rank = LowRank(chance.choice(RANKS)) if low else None
    if quantize is None and prune is None and rank is None:
        return None
    return LayerPolicy(layer.name, prune=prune, lowrank=rank, quantize=quantize)


def _step(precision: Precision) -> Quantize:
    return Quantize(precision.weights, precision.activations)


def samples(structure: Structure, capability: Capability, count: int) -> Iterator[Policy]:
    """At most so many policies: whole in integers where the target has them, and mixtures.

    None twice, nor the one that changes nothing, as which mixtures of a small model may come out.
    """
    able = all(INT8 in capability.offered(layer.kind) for layer in structure.layers)
    whole = [uniform(structure, INT8)] if able else []
    mixed = (sampled(structure, capability, seed) for seed in range(count - len(whole)))
    drawn = dict.fromkeys([Policy()])
    for policy in chain(whole, mixed):
        if policy not in drawn:
            drawn[policy] = None
            yield policy
