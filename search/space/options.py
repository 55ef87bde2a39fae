"""What a user may say about a space: which layers, which choices, which of them share a knob.

Plain frozen data that knows no torch; `space_build` holds it against a model and a target.
Patterns are shell globs over module paths (`layer1.*`, `*.conv2`). An empty `include` switches a
step off. Choices left empty mean all that the target can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compressors.policies.policy import ORIGINAL, Rounds

Choice = bool | int | float | str  # what a knob holds
Given = Choice | Mapping[str, Choice]  # what a user writes: a number, a word, or a step's own keys
FLOAT = "float"  # the precision that leaves a layer as it is; others read w8a8, w4af


@dataclass(frozen=True)
class StepOptions:
    """One kind of step.

    depth takes blocks and the choices false, true; heads takes attentions and shares of heads to
    remove (0: none); prune takes the roots of channel groups and shares of channels to remove;
    lowrank takes layers and shares of the full rank to keep (1: left whole); sparsify takes layers
    and shares of weights, or patterns such as 2:4; quantize takes layers and precisions (float,
    w8a8, …). Each but depth takes mappings of the step's own keys as well.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    choices: tuple[Given, ...] = ()
    tie: tuple[tuple[str, ...], ...] = ()  # what one entry's patterns match shares one knob
    limits: Mapping[str, tuple[Given, ...]] = field(default_factory=dict)  # pattern -> choices


@dataclass(frozen=True)
class RecoveryOptions:
    """Training after the cuts. A range whose ends are equal, or one choice, is no knob."""

    epochs: tuple[int, ...] = (0, 12)
    learning_rate: tuple[float, float] = (3e-4, 5e-3)  # searched on a logarithmic scale
    temperature: tuple[float, float] = (1.0, 8.0)
    weight: tuple[float, float] = (0.0, 1.0)  # of the distillation loss
    batch_size: int = 64
    optimizer: str = "adamw"
    schedule: str = "cosine"
    seed: int = 0
    teacher: str = ORIGINAL  # or a model of the task
    features: tuple[float, float] = (0.0, 0.0)  # weight of the distance of hidden values
    attention: tuple[float, float] = (0.0, 0.0)  # weight of the distance of attention maps
    hints: tuple[str, ...] = ()  # modules whose values are compared; none: the blocks
    scales: tuple[str, ...] = ("statistics",)  # of quantisers in training; several make a knob


@dataclass(frozen=True)
class SpaceOptions:
    """Everything about a space that is not the model's or the target's to say."""

    depth: StepOptions = field(default_factory=lambda: StepOptions(choices=(False, True)))
    prune: StepOptions = field(default_factory=lambda: StepOptions(choices=(0.0, 0.25, 0.5)))
    lowrank: StepOptions = field(default_factory=lambda: StepOptions(choices=(1.0, 0.5, 0.25)))
    quantize: StepOptions = field(default_factory=StepOptions)
    heads: StepOptions = field(default_factory=lambda: StepOptions(choices=(0.0,)))
    sparsify: StepOptions = field(default_factory=lambda: StepOptions(choices=(0.0,)))
    recovery: RecoveryOptions = field(default_factory=RecoveryOptions)
    criterion: str = "l2"  # which channels go first, where a choice does not say
    repair: bool = False  # after channels or heads are removed, where a choice does not say
    aware: bool = False  # low rank weighed by the inputs seen, where a choice does not say
    ranges: tuple[str, ...] = ("minmax",)  # of quantisers; several make one knob over all layers
    equalize: tuple[bool, ...] = (False,)  # channels evened out first; both make one knob
    rounds: Rounds = field(default_factory=Rounds)  # pruning with training between
    student: str = ORIGINAL  # the architecture to start from: another of the task's
