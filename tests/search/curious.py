"""A sampler that wants to know things, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import optuna
from optuna.samplers import BaseSampler, RandomSampler

from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from evaluation.probing.probe import Finding, Probe
from search.samplers import Setting


class Asking(RandomSampler):
    """Draws at random, once every batch of probes is learned."""

    def __init__(self, asks: Curiosity, seed: int) -> None:
        super().__init__(seed)
        self._asks = asks
        self._known: set[Probe] = set()

    def wants(self, study: optuna.Study) -> Sequence[Probe]:
        self._asks.asked_with.append(len(study.trials))
        for batch in self._asks.batches:
            if not self._known >= set(batch):
                return batch
        return []

    def learn(self, probe: Probe, finding: Finding | None) -> None:
        self._known.add(probe)
        self._asks.learned.append((probe, finding))


@dataclass
class Curiosity:
    """Makes such samplers, and sees what they learn."""

    batches: Sequence[Sequence[Probe]]
    learned: list[tuple[Probe, Finding | None]] = field(default_factory=list)
    asked_with: list[int] = field(default_factory=list)  # trials there were

    def build(self, setting: Setting) -> BaseSampler:
        return Asking(self, setting.seed)

    @property
    def probes(self) -> list[Probe]:
        return [probe for probe, _ in self.learned]


def bits(layer: str, weights: int) -> str:
    return policy_yaml.dump(Policy(layers=(LayerPolicy(layer, quantize=Quantize(weights, None)),)))


SCORES = Probe("scores", (bits("stem", 4), bits("head", 4)), samples=30)
CHANGES = tuple(Probe("changes", (bits("stem", weights),), samples=15) for weights in (2, 3, 4, 5))
IMPOSSIBLE = Probe("scores", (bits("nowhere", 4),))
