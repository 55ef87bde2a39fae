"""The steps of a policy, applied to a model in one fixed order.

blocks out -> heads and channels out, in rounds -> channels evened out -> layers factorised
-> weights zeroed, in rounds -> quantisers -> recovery; batch norms' statistics are taken anew
after whatever cuts.
The caller's model is never touched, nor the state of its random generators; the same policy twice
gives identical weights; the empty policy gives outputs equal to the last bit. Knows nothing of
tasks beyond `Data`, and nothing of targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from compressors.assembly import Assembly
from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.cutting import Cutting
from compressors.data import Data
from compressors.errors import UserError
from compressors.modules import device_of
from compressors.policies.policy import ORIGINAL, Policy
from compressors.policies.policy_rules import check, effective, expand, steps_of
from compressors.policies.policy_yaml import policy_id
from compressors.record import CompressedModel
from compressors.recovery.batchnorm import TrainingSplit
from compressors.recovery.checkpoint import remove
from compressors.recovery.divergence import RecoveryDiverged
from compressors.recovery.schools import student_named, teacher_named
from compressors.recovery.teacher import Teacher
from compressors.structures.attention import open_attentions
from compressors.structures.inspection import inspect_model
from compressors.structures.structure import Structure
from compressors.surroundings import Plans, Surroundings


def apply(model: nn.Module, policy: Policy, data: Data) -> CompressedModel:
    """One policy applied to one model."""
    return Stack(model, data).apply(policy)


@dataclass(frozen=True)
class _Source:
    """A model that policies start from, and what was found out about it."""

    model: nn.Module
    structure: Structure
    statistics: Statistics  # of the model with its attentions opened
    plans: Plans = field(default_factory=dict)


class Stack:
    """A model ready to be compressed, many times over.

    Holds what policies share: structures, the teachers' outputs, and everything that depends on
    a layer's weights and one choice alone, by content.
    """

    def __init__(self, model: nn.Module, data: Data, cache: ContentCache | None = None) -> None:
        self._original = deepcopy(model).eval()
        self._data = data
        self._cache = ContentCache() if cache is None else cache
        with _own_randomness(self._original):
            self._calibration = Calibration(data)
            self._training = TrainingSplit(data)
            self._example = self._first_sample()
        self._sources: dict[str, _Source] = {}
        self._teachers: dict[str, Teacher] = {}
        self.structure = self.structure_of(ORIGINAL)

    def structure_of(self, student: str) -> Structure:
        """What can be compressed of the task's model, or of another that it offers."""
        return self._source(student).structure

    def apply(
        self,
        policy: Policy,
        *,
        on_step: Callable[[], None] = lambda: None,
        checkpoint: Path | None = None,
        epochs: int | None = None,
    ) -> CompressedModel:
        """The compressed model; `on_step` is called before every training batch.

        Recovery goes on from the checkpoint where an earlier attempt left one. Where it is to end
        after so many `epochs`, its schedule stays, its checkpoint is left to go on from, and the
        weights are the mean over the last of them, which tells more of the end.
        """
        source = self._source(policy.student)
        name, policy = policy_id(policy), expand(policy, source.structure)
        check(policy, source.structure)
        policy = effective(policy)
        model = deepcopy(source.model)
        opened = open_attentions(model, _touched(model, policy, source.structure))
        with _own_randomness(model), _ended(checkpoint, kept=epochs is not None):
            around = self._surroundings(source, policy, on_step)
            cut = Cutting(source.structure, policy, around, opened).run(model)
            assembly = Assembly(cut, source.structure, policy, name, around)
            record = assembly.run(source.statistics, checkpoint, epochs)
        return CompressedModel(assembly.model, record, self._example)

    def _surroundings(
        self, source: _Source, policy: Policy, on_step: Callable[[], None]
    ) -> Surroundings:
        return Surroundings(
            data=self._data,
            calibration=self._calibration,
            training=self._training,
            cache=self._cache,
            example=self._example,
            blocks=tuple(block.name for block in source.structure.blocks),
            plans=source.plans,
            teacher=lambda: self._teacher(policy.recovery.teacher),
            original_loss=source.statistics.loss,
            on_step=on_step,
        )

    def _source(self, name: str) -> _Source:
        if name not in self._sources:
            model = student_named(self._data, self._original, name)
            with _own_randomness(model):
                opened = deepcopy(model)
                open_attentions(opened)
                structure = inspect_model(opened, self._example)
            statistics = Statistics(opened, self._calibration, self._cache)
            self._sources[name] = _Source(model, structure, statistics)
        return self._sources[name]

    def _teacher(self, name: str) -> Teacher:
        if name not in self._teachers:
            model = teacher_named(self._data, self._original, name)
            self._teachers[name] = Teacher(model, self._data)
        return self._teachers[name]

    def _first_sample(self) -> tuple[Tensor, ...]:
        """One calibration sample, as the model's positional inputs."""
        for batch in self._calibration.batches:
            return tuple(arg[:1].clone() for arg in batch.args)
        raise UserError("The task's calibration split has no batches; it needs at least one.")


@contextmanager
def _ended(checkpoint: Path | None, *, kept: bool) -> Iterator[None]:
    """A recovery that ended, well or by diverging, needs its checkpoint no more."""
    try:
        yield
    except RecoveryDiverged:
        if checkpoint is not None:
            remove(checkpoint)
        raise
    if checkpoint is not None and not kept:
        remove(checkpoint)


def _own_randomness(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, random numbers are drawn from generators that the caller's do not notice."""
    device = device_of(model)
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _touched(model: nn.Module, policy: Policy, structure: Structure) -> list[str]:
    """The closed attentions that a policy's steps reach: by name, or with a group's channels."""
    named = [entry.name for entry in policy.layers]
    for root in steps_of(policy, "prune", structure):
        group = structure.group_of(root)
        if group is not None:
            named += [*group.members, *group.readers]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
        and any(f"{entry}.".startswith(f"{name}.") for entry in named)
    ]
