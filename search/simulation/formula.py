"""A made-up network's answers: additive sensitivities that saturate, and costs counted by layer.

Each layer, attention and block has a sensitivity drawn from its name; the damages of all steps add
up, training heals most of them at a pace that differs between policies, and the quality goes from
the uncompressed model's to a guess as 1 - exp(-damage). What it does not know: interactions other
than saturation, number formats, criteria, and everything about a real model but its structure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy
from compressors.structures.structure import Structure
from evaluation.fidelity import Fidelity
from evaluation.measurement import Measurement, Metric, Value
from evaluation.probing.probe import Finding, Probe
from search.simulation.costs import Costs
from search.simulation.table import Result, Unknown, normal, on_a_share, uniform

SAMPLES = 1000  # of the made-up validation split
BASE, GUESS = 0.02, 0.9  # errors: of the uncompressed model, of one that is broken
HEALED = 0.92  # of the damage, by training long enough
PACES = (1.5, 8.0)  # epochs in which training heals two thirds of that: the quick, the slow
EPOCH = 4.0  # seconds of training, in those of an evaluation
FIXED = 0.3  # of an evaluation's seconds go into compressing and lowering, whatever the share
PROBE_NOISE = 0.1  # of a score, as a share


@dataclass(frozen=True)
class Formula:
    """The made-up network over a real structure."""

    structure: Structure
    quality: Metric
    seed: int = 0
    seconds: float = 10.0  # of an evaluation without training

    @property
    def words(self) -> str:
        """What it is."""
        return f"results of a formula, seed {self.seed}, {self.seconds:g} s an evaluation"

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self.structure)

    @cached_property
    def _sensitivities(self) -> dict[str, float]:
        """By layer, attention and block; their mean over the layers is one."""
        names = [layer.name for layer in self.structure.layers]
        drawn = {name: math.exp(normal(self.seed, name)) for name in names}
        mean = sum(drawn.values()) / max(1, len(drawn))
        units = [block.name for block in self.structure.blocks]
        units += [attention.name for attention in self.structure.attentions]
        drawn |= {f"{name}/": math.exp(normal(self.seed, name, "unit")) for name in units}
        return {name: value / mean for name, value in drawn.items()}

    def result(self, policy: Policy, fidelity: Fidelity) -> Result:
        """What the formula says of a policy."""
        identity = policy_yaml.policy_id(policy)
        epochs = policy.recovery.epochs
        if fidelity.epochs is not None:
            epochs = min(epochs, fidelity.epochs)
        damage = self.damage(policy) * self._unhealed(policy, epochs, identity)
        quality = on_a_share(self._quality(damage, identity), fidelity.share, self.seed, identity)
        jitter = math.exp(0.3 * normal(self.seed, identity, "seconds"))
        seconds = self.seconds * jitter
        return Result(
            Measurement((quality, *self._costs.of(policy))),
            seconds * (FIXED + (1 - FIXED) * fidelity.share),
            fidelity.share,
            seconds * EPOCH * epochs,
        )

    def price(self, probe: Probe) -> float:
        """What a probe takes: forward once, and backward."""
        return 3 * probe.samples / SAMPLES if probe.kind == "scores" else 0.0

    def finding(self, probe: Probe) -> Finding:
        """Damages of changes of weights, as gradients would estimate them; no outputs."""
        if probe.kind != "scores":
            raise Unknown("A formula has no outputs, so it answers no probe of changes.")
        around = self.damage(_policy(probe.around))
        found = [self._score(text, around) for text in probe.policies]
        return Finding(damage=np.array(found), evaluations=self.price(probe))

    def _score(self, text: str, around: float) -> float:
        policy = _policy(text)
        steps = [entry.quantize for entry in policy.layers if entry.quantize]
        if policy.remove or any(step.activations is not None for step in steps):
            return math.nan
        noise = 1 + PROBE_NOISE * normal(self.seed, text, "probe")
        return max(0.0, (self.damage(policy) - around) * noise)

    def damage(self, policy: Policy) -> float:
        """What all steps do together before anything saturates or is trained."""
        known, count = self._sensitivities, max(1, len(self.structure.layers))
        total = sum(_damage(entry) * _of(known, entry) for entry in policy.layers)
        blocks = {block.name: len(block.layers) for block in self.structure.blocks}
        total += sum(known.get(f"{n}/", 1.0) * blocks.get(n, 1) for n in policy.remove)
        return total / count

    def _unhealed(self, policy: Policy, epochs: int, identity: str) -> float:
        quick, slow = PACES
        pace = quick * (slow / quick) ** uniform(self.seed, identity, "pace")
        astray = math.log10(policy.recovery.learning_rate / 2e-3) if epochs else 0.0
        healed = HEALED * (1 - math.exp(-epochs / (pace * (1 + astray**2))))
        return 1 - healed

    def _quality(self, damage: float, identity: str) -> Value:
        broken = 1 - math.exp(-damage)
        sign = 1 if self.quality.direction == "minimize" else -1
        if self.quality.unit != "fraction":
            return Value(self.quality, math.exp(sign * broken), 0.01)
        share = BASE + (GUESS - BASE) * broken
        spread = math.sqrt(share * (1 - share) / SAMPLES)
        share += spread * normal(self.seed, identity, "quality")
        share = min(max(round(share * SAMPLES) / SAMPLES, 0.0), 1.0)
        return Value(self.quality, share if sign > 0 else 1 - share, spread)


def _policy(text: str) -> Policy:
    return policy_yaml.load(text) if text else Policy()


def _of(known: dict[str, float], entry: LayerPolicy) -> float:
    return known.get(f"{entry.name}/" if entry.heads else entry.name, 1.0)


def _damage(entry: LayerPolicy) -> float:
    """What the steps of a layer of mean sensitivity do, in units of that layer's share."""
    total = 0.0
    if entry.quantize is not None:
        bits = entry.quantize
        total += 0.0 if bits.weights is None else 0.25 * 4.0 ** (4 - bits.weights)
        total += 0.0 if bits.activations is None else 0.1 * 4.0 ** (4 - bits.activations)
    if entry.prune is not None:
        total += 2 * entry.prune.channels**2
    if entry.heads is not None:
        total += 2 * entry.heads.share**2
    if entry.lowrank is not None:
        kept = entry.lowrank.ratio or entry.lowrank.energy or 0.5
        total += (1 - kept) ** 2
    if entry.sparsify is not None:
        total += 0.5 * (entry.sparsify.share or 0.5) ** 3
    return total
