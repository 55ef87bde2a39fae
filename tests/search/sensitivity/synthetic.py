"""A network that does not exist: layers whose bits do damage that adds up, interacts and saturates.

The damage of a setting is computed from its policy alone, so that tests need no network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.structures.structure import Structure
from evaluation.probing.probe import Finding, Probe
from evaluation.target import FLOAT, Capability, Precision
from search.space.building import build_space
from search.space.options import RecoveryOptions, SpaceOptions, StepOptions
from search.space.space import Space
from search.study.ledger import Objective
from search.study.problem import Problem
from tests.search.spaces import conv

BITS = (2, 3, 4, 5, 6, 8)
OFF = StepOptions(include=())
OBJECTIVES = (
    Objective("error", "fraction", "minimize"),
    Objective("size_bytes", "bytes", "minimize"),
)
POINT = {"error": 1.0, "size_bytes": 0.26}


class Network:
    """So many layers, of which some mind more than others."""

    def __init__(self, layers: int, seed: int = 0, epochs: tuple[int, ...] = (0,)) -> None:
        random = np.random.default_rng(seed)
        widths = 8 * 2 ** random.integers(0, 4, layers + 1)
        self.layers = tuple(
            conv(f"layer{i}", int(widths[i]), int(widths[i + 1])) for i in range(layers)
        )
        structure = Structure(self.layers, (), ())
        stored = tuple(Precision(bits, None) for bits in BITS)
        capability = Capability(
            {"conv2d": (FLOAT, *stored)}, functions={"symmetric": BITS}, integer_activations=False
        )
        options = SpaceOptions(
            depth=OFF,
            prune=OFF,
            lowrank=OFF,
            quantize=StepOptions(choices=tuple(f"w{bits}af" for bits in BITS)),
            recovery=RecoveryOptions(epochs=epochs),
        )
        self.space: Space = build_space(structure, capability, options)
        self._minds = np.exp(random.normal(0.0, 1.5, layers)) * 6.0 / layers
        self._told = np.exp(random.normal(0.0, 0.4, layers))  # how wrong scores are
        self.float_bytes = 4.0 * sum(layer.parameters for layer in self.layers) + 1000

    def bits(self, policy: Policy) -> list[int]:
        """Of every layer; 32 where it is float."""
        steps = {layer.name: layer.quantize for layer in policy.layers}
        found = [steps.get(layer.name) for layer in self.layers]
        return [32 if step is None or step.weights is None else step.weights for step in found]

    def error(self, policy: Policy) -> float:
        """The share of wrong answers."""
        noise = 4.0 * 4.0 ** -np.array(self.bits(policy), dtype=float) * self._minds
        together = noise.sum() + 2.0 * (noise[:-1] * noise[1:]).sum() * len(noise)
        trained = together / (1 + policy.recovery.epochs)
        return float(0.01 + 0.89 * (1 - np.exp(-4.0 * trained)))

    def size(self, policy: Policy) -> float:
        """Bytes."""
        pairs = zip(self.layers, self.bits(policy), strict=True)
        return 1000 + sum(layer.parameters * bits / 8 for layer, bits in pairs)

    def values(self, params: dict[str, Any]) -> list[float]:
        """Error and bytes of a setting."""
        policy = self.space.policy(params)
        return [self.error(policy), self.size(policy)]

    def reference(self) -> list[dict[str, Any]]:
        """The uncompressed network's values, as a study keeps them."""
        return [
            {"name": "error", "value": 0.01},
            {"name": "size_bytes", "value": self.float_bytes},
        ]

    def prober(self, nan: tuple[str, ...] = ()) -> Callable[[Probe], Finding]:
        """Answers scores, wrong by a factor a layer; of these layers nothing can be said."""

        def answer(probe: Probe) -> Finding:
            policies = [policy_yaml.load(text) for text in probe.policies]
            damage = np.array([self._score(policy) for policy in policies])
            if probe.kind == "scores":
                names = [policy.layers[0].name if policy.layers else "" for policy in policies]
                damage[[name in nan for name in names]] = np.nan
                return Finding(damage, 1.0)
            around = policy_yaml.load(probe.around) if probe.around else Policy()
            start = np.array([[0.0, -self._score(around)]])
            changes = np.stack([[[0.0, -self._score(p)]] - start for p in policies])
            return Finding(damage, 1.0, changes, start, scores=True)

        return answer

    def _score(self, policy: Policy) -> float:
        bits = np.array(self.bits(policy), dtype=float)
        found: float = (4.0 * 4.0**-bits * self._minds * self._told).sum()
        return found


def problem(**changes: Any) -> Problem:
    """Error against bytes, in the box of the experiments on bits."""
    return Problem(OBJECTIVES, "error", **{"reference_point": POINT, **changes})


def run(
    network: Network, sampler: optuna.samplers.BaseSampler, trials: int
) -> tuple[optuna.Study, np.ndarray[Any, Any]]:
    """A study of so many trials, and what they measured."""
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.set_user_attr("reference", network.reference())
    go_on(network, study, trials)
    return study, measured(study)


def go_on(network: Network, study: optuna.Study, trials: int) -> None:
    """Some trials more."""
    distributions = network.space.distributions()
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, network.values(trial.params))


def measured(study: optuna.Study) -> np.ndarray[Any, Any]:
    """The values of complete trials."""
    return np.array([trial.values for trial in study.trials if trial.values is not None])


def hypervolume(network: Network, values: np.ndarray[Any, Any]) -> float:
    """As a share of the box."""
    from optuna._hypervolume import compute_hypervolume

    worst = np.array([1.0, 0.26 * network.float_bytes])
    inside = values[(values < worst).all(axis=1)]
    return float(compute_hypervolume(inside, worst) / worst.prod()) if len(inside) else 0.0
