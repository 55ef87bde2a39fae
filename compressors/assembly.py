"""One policy's steps on one copy of a model, from the first cut to the record.

Holds the model while it changes, and what the steps tell each other: which parts stand for a
factorised layer, which weights are zero, what was not done and why. Knows the order of the steps;
what each of them does is its own room's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from compressors.calibration.statistics import Statistics
from compressors.cutting import Cut
from compressors.lowrank.factorise import Factorisation, factorise_layers, halves_before
from compressors.policies.policy import Policy
from compressors.policies.policy_rules import steps_of
from compressors.policies.steps import Quantize, Sparsify
from compressors.pruning.masks import Masks
from compressors.pruning.rounds import in_rounds
from compressors.pruning.sparsity import sparsify
from compressors.quantization.equalization import equalize
from compressors.quantization.layers import insert
from compressors.record import Record, RecoveryRecord
from compressors.recording import Done, record_of
from compressors.structures.structure import Structure
from compressors.surroundings import Surroundings

S = TypeVar("S")
Sparse = tuple[nn.Module, Masks]


class Assembly:
    """Goes on from a cut model to the compressed one; `run` may be called once."""

    def __init__(
        self, cut: Cut, structure: Structure, policy: Policy, name: str, around: Surroundings
    ) -> None:
        self.model = cut.model
        self._cut = cut
        self._structure = structure
        self._policy = policy
        self._name = name  # the policy's id, before its patterns were expanded
        self._around = around
        self._notes = list(cut.notes)
        self._factorised = Factorisation()
        self._masks = Masks({})
        self._trained = list(cut.trained)

    def run(self, whole: Statistics, checkpoint: Path | None, epochs: int | None) -> Record:
        """The record; `self.model` is then the compressed model.

        `whole` are the uncompressed model's statistics, which serve where nothing was cut. The
        recovery goes on from the checkpoint where an earlier attempt left one, and ends after so
        many epochs in all.
        """
        changed = self._even_out() or self._cut.changed
        # of a copy, as the steps that follow change the model and look at it in turn
        statistics = self._around.statistics(deepcopy(self.model)) if changed else whole
        self._factorise(statistics)
        if self._sparsify(statistics):
            statistics = self._around.statistics(self.model)
        self._quantize(statistics)
        recovery = self._recover(checkpoint, epochs)
        done = Done(
            self._factorised,
            self._masks,
            self._on_parts(steps_of(self._policy, "sparsify", self._structure)),
            self._cut.heads,
            tuple(self._trained),
            recovery,
            tuple(self._notes),
        )
        return record_of(self.model, self._policy, self._name, self._structure, done)

    def _even_out(self) -> bool:
        if not self._policy.equalize:
            return False
        names = list(steps_of(self._policy, "quantize", self._structure))
        pairs = equalize(self.model, self._around.example, names)
        if not pairs:
            self._note(["equalize: no pair of quantised layers could be evened out"])
        return bool(pairs)

    def _factorise(self, statistics: Statistics) -> None:
        wanted = steps_of(self._policy, "lowrank", self._structure)
        if not wanted:
            return
        self._factorised = factorise_layers(
            self.model, wanted, statistics, self._around.cache, example=self._around.example
        )
        self._note(self._factorised.notes)
        for name, (layer, through, part) in halves_before(
            self.model, self._factorised.parts
        ).items():
            statistics.derive(name, layer, through or nn.Identity(), part)

    def _sparsify(self, statistics: Statistics) -> bool:
        """Zero weights; whether others were trained or a round taken back, so that all is new."""
        renewed = False
        wanted: dict[str, Sparsify] = self._on_parts(
            steps_of(self._policy, "sparsify", self._structure)
        )
        if wanted:
            parts = {part for found in self._factorised.parts.values() for part in found}
            if any(wanted[part].criterion == "taylor" for part in parts & wanted.keys()):
                statistics = self._around.statistics(self.model)  # gradients of the parts
            start = self.model

            def cut(state: Sparse, done: float) -> Sparse:
                model, masks = state
                pristine = model is start and not masks.names
                known = statistics if pristine else self._around.statistics(model)
                return model, sparsify(model, wanted, known, self._around.cache, done)

            self.model, self._masks = self._in_rounds((self.model, Masks({})), cut)
            self._note(self._masks.notes)
            renewed = bool(self._policy.rounds.epochs) or self.model is not start
        if wanted or self._factorised.parts:
            self._around.renew_norms(self.model)
        return renewed

    def _in_rounds(self, state: Sparse, cut: Callable[[Sparse, float], Sparse]) -> Sparse:
        trained: list[RecoveryRecord] = []

        def train(state: Sparse, epochs: int) -> None:
            model, masks = state
            settings = replace(self._policy.recovery, epochs=epochs)
            trained.append(self._around.recover(model, masks, settings))

        outcome = in_rounds(
            state,
            self._policy.rounds,
            cut,
            train,
            lambda state: self._around.loss(state[0]),
            self._around.original_loss,
        )
        self._trained += trained[: outcome.rounds]
        self._note(outcome.notes)
        return outcome.state

    def _quantize(self, statistics: Statistics) -> None:
        wanted: dict[str, Quantize] = self._on_parts(
            steps_of(self._policy, "quantize", self._structure)
        )
        kept = {name: self._masks.of(name) for name in self._masks.names}
        masks = {name: mask for name, mask in kept.items() if mask is not None}
        self._note(insert(self.model, wanted, statistics, self._around.cache, masks))

    def _recover(self, checkpoint: Path | None, epochs: int | None) -> RecoveryRecord | None:
        settings = self._policy.recovery
        if not settings.epochs:
            return None
        return self._around.recover(
            self.model,
            self._masks,
            settings,
            epochs=epochs,
            checkpoint=checkpoint,
            stamp=self._name,
            note=lambda sentence: self._note([sentence]),
        )

    def _on_parts(self, wanted: Mapping[str, S]) -> dict[str, S]:
        """A factorised layer's step goes to each of its parts."""
        parts = self._factorised.parts
        return {part: step for name, step in wanted.items() for part in parts.get(name, (name,))}

    def _note(self, notes: Iterable[str]) -> None:
        self._notes += [note for note in notes if note not in self._notes]
