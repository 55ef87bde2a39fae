"""The steps of a policy, applied to a model in one fixed order.

depth -> channel pruning -> low rank -> batch norm statistics taken anew where anything was cut
-> fake quantisers -> recovery. The caller's model is never touched, nor the state of its random
generators; the same policy twice gives identical weights; the empty policy gives outputs equal
to the last bit. Knows nothing of tasks beyond `Data`, and nothing of targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn

from compressors.data import Batch, Data
from compressors.errors import UserError
from compressors.layout import fast_layout
from compressors.lowrank.factorise import factorise_layers
from compressors.modules import device_of, parameter_count
from compressors.policies.policy import Policy
from compressors.policies.policy_rules import check, expand
from compressors.policies.steps import Quantize
from compressors.pruning.channels import prune_channels
from compressors.pruning.depth import remove_blocks
from compressors.quantization.layers import calibrate, insert
from compressors.record import CompressedModel, Record, RecoveryRecord
from compressors.recording import record_of
from compressors.recovery.batchnorm import reestimate
from compressors.recovery.recovery import recover
from compressors.recovery.teacher import Teacher
from compressors.structures.inspection import inspect_model
from compressors.structures.structure import Structure


def apply(model: nn.Module, policy: Policy, data: Data) -> CompressedModel:
    """One policy applied to one model."""
    return Stack(model, data).apply(policy)


class Stack:
    """A model ready to be compressed, many times over.

    Holds what policies share: the structure, and the uncompressed model's outputs.
    """

    structure: Structure

    def __init__(self, model: nn.Module, data: Data) -> None:
        self._original = deepcopy(model).eval()
        self._data = data
        self._teacher = Teacher(self._original, data)
        with torch.random.fork_rng(devices=[]):  # iterating a loader draws a number
            self._example = _example(data)
            self.structure = inspect_model(self._original, self._example)

    def apply(
        self, policy: Policy, *, on_step: Callable[[], None] = lambda: None
    ) -> CompressedModel:
        """The compressed model; `on_step` is called before every training batch."""
        given, policy = policy, expand(policy, self.structure)
        check(policy, self.structure)
        model = deepcopy(self._original)
        device = device_of(model)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(policy.recovery.seed)
            record = self._transform(model, policy, given, on_step)
        return CompressedModel(model, record, self._example)

    def _transform(
        self, model: nn.Module, policy: Policy, given: Policy, on_step: Callable[[], None]
    ) -> Record:
        names = [layer.name for layer in self.structure.layers]
        entries = [policy.layer(name) for name in names]  # in the order in which they run
        remove_blocks(model, policy.remove)
        prunes = {entry.name: entry.prune for entry in entries if entry.prune}
        unpruned = prune_channels(model, self._example, prunes)
        lowranks = {entry.name: entry.lowrank for entry in entries if entry.lowrank}
        ranks, whole = factorise_layers(model, lowranks)
        quantize = {entry.name: entry.quantize for entry in entries if entry.quantize}
        recovery = None
        cut = parameter_count(model) != parameter_count(self._original)
        runs = cut or quantize or policy.recovery.epochs
        with fast_layout(model, self._example) if runs else nullcontext():
            if cut:
                reestimate(model, self._training_batches())
            insert(model, _on_halves(quantize, ranks))
            calibrate(model, self._calibration_batches())
            if policy.recovery.epochs:
                recovery = self._recover(model, policy, on_step)
        notes = (*unpruned, *whole)
        return record_of(model, policy, given, self.structure, ranks, recovery, notes)

    def _recover(
        self, model: nn.Module, policy: Policy, on_step: Callable[[], None]
    ) -> RecoveryRecord:
        return recover(
            model,
            self._data,
            policy.recovery,
            self._teacher,
            on_step=on_step,
            recalibrate=lambda: calibrate(model, self._calibration_batches()),
        )

    def _calibration_batches(self) -> Iterable[Batch]:
        return self._data.batches("calibration")

    def _training_batches(self) -> Iterable[Batch]:
        """The training split in fixed order, or the calibration split where there is none."""
        batches = iter(self._data.batches("train"))
        first = next(batches, None)
        return self._calibration_batches() if first is None else chain([first], batches)


def _on_halves(quantize: dict[str, Quantize], ranks: dict[str, int]) -> dict[str, Quantize]:
    """A factorised layer's entry goes to both of its halves."""
    settings = {}
    for name, entry in quantize.items():
        halves = (f"{name}.0", f"{name}.1") if name in ranks else (name,)
        settings.update(dict.fromkeys(halves, entry))
    return settings


def _example(data: Data) -> tuple[Tensor, ...]:
    """One calibration sample, as the model's positional inputs."""
    for batch in data.batches("calibration"):
        return tuple(arg[:1].clone() for arg in batch.args)
    raise UserError("The task's calibration split has no batches; it needs at least one.")
