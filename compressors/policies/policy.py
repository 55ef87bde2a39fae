"""A policy: what to do to each layer of a model, as plain frozen data.

Knows no torch and no runtime; `policy_yaml` reads and writes it, `policy_rules` holds it against
a model's structure. Every field that changes a weight is here, so that a policy and a checkpoint
give the same model again. Its id is the hash of its canonical YAML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from compressors.errors import PolicyError, choices

VERSION = 1
BITS = range(2, 9)
Criterion = Literal["l1", "l2"]
Ranges = Literal["minmax", "percentile", "mse"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["constant", "cosine"]


def _refuse(rule: str, value: object, valid: str) -> PolicyError:
    return PolicyError(f"{rule} cannot be {value!r}; valid: {valid}.")


def _number(rule: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _refuse(rule, value, "a finite number")
    return float(value)


def _share(rule: str, value: object, *, zero: bool, one: bool) -> float:
    number = _number(rule, value)
    above = number >= 0 if zero else number > 0
    below = number <= 1 if one else number < 1
    if not (above and below):
        bounds = f"{'0 <=' if zero else '0 <'} share {'<= 1' if one else '< 1'}"
        raise _refuse(rule, value, bounds)
    return number


def _positive(rule: str, value: object) -> float:
    number = _number(rule, value)
    if number <= 0:
        raise _refuse(rule, value, "a number above 0")
    return number


def _whole(rule: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _refuse(rule, value, f"a whole number from {least}")
    return value


def _bits(rule: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value not in BITS:
        raise _refuse(rule, value, f"{choices(BITS)}, or float")
    return value


def _one_of(rule: str, value: object, literal: Any) -> None:
    if value not in get_args(literal):
        raise _refuse(rule, value, choices(get_args(literal)))


def _set(instance: object, name: str, value: object) -> None:
    object.__setattr__(instance, name, value)


@dataclass(frozen=True)
class Prune:
    """Remove a share of a channel group's output channels; the kept count is rounded."""

    channels: float
    criterion: Criterion = "l2"
    multiple: int = 1

    def __post_init__(self) -> None:
        _set(self, "channels", _share("prune.channels", self.channels, zero=True, one=False))
        _one_of("prune.criterion", self.criterion, Criterion)
        _whole("prune.multiple", self.multiple, 1)


@dataclass(frozen=True)
class LowRank:
    """Replace a layer by two thinner ones; the rank is a share of the full one."""

    ratio: float

    def __post_init__(self) -> None:
        _set(self, "ratio", _share("lowrank.ratio", self.ratio, zero=False, one=True))


@dataclass(frozen=True)
class Quantize:
    """Bits of weights (per output channel, symmetric) and input activations (per tensor)."""

    weights: int | None
    activations: int | None
    ranges: Ranges = "minmax"

    def __post_init__(self) -> None:
        _bits("quantize.weights", self.weights)
        _bits("quantize.activations", self.activations)
        _one_of("quantize.ranges", self.ranges, Ranges)


@dataclass(frozen=True)
class LayerPolicy:
    """The steps of one layer; a step that is None is not taken."""

    name: str
    prune: Prune | None = None
    lowrank: LowRank | None = None
    quantize: Quantize | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise _refuse("layer name", self.name, "a module path, such as layer1.0.conv1")


@dataclass(frozen=True)
class Recovery:
    """Training after the cuts: the task's loss mixed with distillation from the original."""

    epochs: int = 0
    learning_rate: float = 1e-3
    temperature: float = 4.0
    weight: float = 0.5  # of the distillation loss; the task's own has the rest
    batch_size: int = 64
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "cosine"
    seed: int = 0

    def __post_init__(self) -> None:
        _whole("recovery.epochs", self.epochs, 0)
        _whole("recovery.batch_size", self.batch_size, 1)
        _whole("recovery.seed", self.seed, 0)
        _set(self, "learning_rate", _positive("recovery.learning_rate", self.learning_rate))
        _set(self, "temperature", _positive("recovery.temperature", self.temperature))
        _set(self, "weight", _share("recovery.weight", self.weight, zero=True, one=True))
        _one_of("recovery.optimizer", self.optimizer, Optimizer)
        _one_of("recovery.schedule", self.schedule, Schedule)


@dataclass(frozen=True)
class Policy:
    """Blocks to remove, what to do to each layer, and how to recover. Empty: the identity."""

    remove: tuple[str, ...] = ()
    layers: tuple[LayerPolicy, ...] = ()
    recovery: Recovery = field(default_factory=Recovery)
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise _refuse("version", self.version, str(VERSION))
        _set(self, "remove", _sorted_unique("remove", list(self.remove)))
        names = [layer.name for layer in self.layers]
        _sorted_unique("layers", names)
        _set(self, "layers", tuple(sorted(self.layers, key=lambda layer: layer.name)))

    def layer(self, name: str) -> LayerPolicy:
        """What to do to a layer; nothing where the policy does not name it."""
        return next((layer for layer in self.layers if layer.name == name), LayerPolicy(name))


def _sorted_unique(rule: str, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name:
            raise _refuse(rule, name, "module paths, such as layer1.0")
        if list(names).count(name) > 1:
            raise PolicyError(f"{rule} names '{name}' twice; name it once.")
    return tuple(sorted(names))
