"""A policy: what to do to a model, as plain frozen data.

Knows no torch and no runtime; `policy_yaml` reads and writes it, `policy_rules` holds it against
a model's structure. Every field that changes a weight is here, so that a policy and a checkpoint
give the same model again. Its id is the hash of its canonical YAML.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from compressors.errors import PolicyError
from compressors.policies import values
from compressors.policies.steps import Heads, LowRank, Prune, Quantize, Sparsify

VERSION = 1
ORIGINAL = "original"
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["constant", "cosine"]
Scales = Literal["statistics", "fixed", "learned"]


@dataclass(frozen=True)
class LayerPolicy:
    """The steps of one layer (heads: of one attention); a step that is None is not taken."""

    name: str
    prune: Prune | None = None
    lowrank: LowRank | None = None
    quantize: Quantize | None = None
    sparsify: Sparsify | None = None
    heads: Heads | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise values.refuse("layer name", self.name, "a module path, such as layer1.0.conv1")


# The step kinds by the key that a policy names them with, in the order in which they are taken.
STEPS: dict[str, type[Any]] = {
    "heads": Heads,
    "prune": Prune,
    "lowrank": LowRank,
    "sparsify": Sparsify,
    "quantize": Quantize,
}


def does_nothing(kind: str, step: Any) -> bool:
    """Whether a step leaves its layer as it is."""
    return _NOTHING[kind](step)


_NOTHING: dict[str, Callable[[Any], bool]] = {
    "heads": lambda step: bool(step.share == 0),
    "prune": lambda step: bool(step.channels == 0),
    "lowrank": lambda step: bool(step.ratio == 1),
    "sparsify": lambda step: bool(step.does_nothing),
    "quantize": lambda step: step.weights is None and step.activations is None,
}


@dataclass(frozen=True)
class Rounds:
    """Pruning in rounds: each cuts some more, on a cubic ramp, and trains so many epochs.

    With `loss_rise`, a round whose loss on the calibration split is larger than the original's by
    more than this share is taken back, and there the cutting ends.
    """

    count: int = 1
    epochs: int = 0
    loss_rise: float | None = None

    def __post_init__(self) -> None:
        values.whole("rounds.count", self.count, 1)
        values.whole("rounds.epochs", self.epochs, 0)
        if self.loss_rise is not None:
            rise = values.not_negative("rounds.loss_rise", self.loss_rise)
            values.put(self, "loss_rise", rise)


@dataclass(frozen=True)
class Recovery:
    """Training after the cuts: the task's loss mixed with distillation from a teacher.

    `features` and `attention` weigh the distances between teacher's and student's hidden values
    at the hints: modules of both, or `student's = teacher's` where their paths differ. `scales`
    says whether quantisers' steps follow what they see, stay, or are learned.
    """

    epochs: int = 0
    learning_rate: float = 1e-3
    temperature: float = 4.0
    weight: float = 0.5  # of the distillation loss; the task's own has the rest
    batch_size: int = 64
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "cosine"
    seed: int = 0
    teacher: str = ORIGINAL
    features: float = 0.0
    attention: float = 0.0
    hints: tuple[str, ...] = ()  # none given: the blocks of the model
    scales: Scales = "statistics"

    def __post_init__(self) -> None:
        values.whole("recovery.epochs", self.epochs, 0)
        values.whole("recovery.batch_size", self.batch_size, 1)
        values.whole("recovery.seed", self.seed, 0)
        for name in ("learning_rate", "temperature"):
            found = values.positive(f"recovery.{name}", getattr(self, name))
            values.put(self, name, found)
        weight = values.share("recovery.weight", self.weight, zero=True, one=True)
        values.put(self, "weight", weight)
        for name in ("features", "attention"):
            found = values.not_negative(f"recovery.{name}", getattr(self, name))
            values.put(self, name, found)
        values.one_of("recovery.optimizer", self.optimizer, Optimizer)
        values.one_of("recovery.schedule", self.schedule, Schedule)
        values.one_of("recovery.scales", self.scales, Scales)
        if not isinstance(self.teacher, str) or not self.teacher:
            raise values.refuse("recovery.teacher", self.teacher, "original, or the task's name")
        values.sorted_unique("recovery.hints", list(self.hints))
        values.put(self, "hints", tuple(self.hints))


@dataclass(frozen=True)
class Policy:
    """Blocks to remove, what to do to each layer, and how to recover. Empty: the identity.

    `student` names another architecture of the task to start from; `equalize` evens out the
    channels of layers that follow each other before they are quantised.
    """

    remove: tuple[str, ...] = ()
    layers: tuple[LayerPolicy, ...] = ()
    recovery: Recovery = field(default_factory=Recovery)
    version: int = VERSION
    rounds: Rounds = field(default_factory=Rounds)
    equalize: bool = False
    student: str = ORIGINAL

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise values.refuse("version", self.version, str(VERSION))
        values.put(self, "remove", values.sorted_unique("remove", list(self.remove)))
        values.flag("equalize", self.equalize)
        if not isinstance(self.student, str) or not self.student:
            raise values.refuse("student", self.student, "original, or the task's name")
        values.sorted_unique("layers", [layer.name for layer in self.layers])
        values.put(self, "layers", tuple(sorted(self.layers, key=lambda layer: layer.name)))
        _check_one_threshold(self.layers)

    def layer(self, name: str) -> LayerPolicy:
        """What to do to a layer; nothing where the policy does not name it."""
        return next((layer for layer in self.layers if layer.name == name), LayerPolicy(name))


def _check_one_threshold(layers: tuple[LayerPolicy, ...]) -> None:
    """Entries that share one threshold over the model must ask for the same."""
    shared = {
        layer.sparsify for layer in layers if layer.sparsify and layer.sparsify.scope == "model"
    }
    if len(shared) > 1:
        raise PolicyError(
            "sparsify entries of scope model share one threshold and must have the same share and"
            f" criterion; there are {len(shared)} different ones."
        )


def changed(step: Any) -> dict[str, Any]:
    """The fields of a step that a text must name: those without a default, or different from it."""
    plain = type(step)
    return {
        item.name: getattr(step, item.name)
        for item in fields(plain)
        if not _is_default(item, getattr(step, item.name))
    }


def _is_default(item: Any, value: Any) -> bool:
    return bool(value == item.default and type(value) is type(item.default))
