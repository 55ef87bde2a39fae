"""The first of a policy's steps: blocks, heads and channels leave the model.

Heads and channels go in the policy's rounds, the counts of each round being shares of the
original ones, with batch norms taken anew after every cut. Knows nothing of single weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from compressors.policies.policy import Policy
from compressors.policies.policy_rules import kept_heads, steps_of
from compressors.policies.steps import Heads, Prune
from compressors.pruning.channels import prune_channels
from compressors.pruning.depth import remove_blocks
from compressors.pruning.heads import prune_heads
from compressors.pruning.masks import Masks
from compressors.pruning.plan import Part, channel_plan
from compressors.pruning.rounds import in_rounds
from compressors.record import AttentionRecord, RecoveryRecord
from compressors.structures.structure import Structure
from compressors.surroundings import Surroundings

MOST_PLANS = 16  # kept, one for each set of blocks removed


@dataclass(frozen=True)
class Cut:
    """The model that is left, and what happened to it."""

    model: nn.Module
    changed: bool
    heads: tuple[AttentionRecord, ...] = ()
    trained: tuple[RecoveryRecord, ...] = ()  # between rounds
    notes: tuple[str, ...] = ()


class Cutting:
    """Takes away what one policy says; `run` may be called once."""

    def __init__(
        self,
        structure: Structure,
        policy: Policy,
        around: Surroundings,
        opened: tuple[str, ...],
    ) -> None:
        self._structure = structure
        self._policy = policy
        self._around = around
        self._opened = opened
        self._heads: dict[str, Heads] = steps_of(policy, "heads", structure)
        self._channels: dict[str, Prune] = steps_of(policy, "prune", structure)
        self._counts = {group.root: group.channels for group in structure.groups}
        self._notes: list[str] = []
        self._attentions = {attention.name: attention for attention in structure.attentions}
        self._done = 0.0
        self._round_notes: list[list[str]] = []
        self._trained: list[RecoveryRecord] = []

    def run(self, model: nn.Module) -> Cut:
        """Cut the model; what is given is spent."""
        remove_blocks(model, self._policy.remove, self._structure)
        done = 0.0
        if self._heads or self._channels:
            outcome = in_rounds(
                model,
                self._policy.rounds,
                self._cut,
                self._train,
                self._around.loss,
                self._around.original_loss,
            )
            model, done = outcome.state, outcome.done
            for found in self._round_notes[: outcome.rounds]:
                self._notes += found
            self._notes += outcome.notes
            del self._trained[outcome.rounds :]
        elif self._policy.remove:
            self._around.renew_norms(model)
        changed = bool(self._heads or self._channels or self._policy.remove)
        notes = tuple(dict.fromkeys(self._notes))
        return Cut(model, changed, self._records(done), tuple(self._trained), notes)

    def _cut(self, model: nn.Module, done: float) -> nn.Module:
        self._round_notes.append([])
        self._cut_heads(model, done)
        notes = prune_channels(
            model,
            self._around.example,
            self._channels,
            self._around.statistics(model),
            self._counts,
            done=done,
            plan=self._plan(model),
        )
        self._round_notes[-1] += notes
        self._done = done
        self._around.renew_norms(model)
        return model

    def _train(self, model: nn.Module, epochs: int) -> None:
        settings = replace(self._policy.recovery, epochs=epochs)
        self._trained.append(self._around.recover(model, Masks({}), settings))

    def _plan(self, model: nn.Module) -> dict[str, tuple[Part, ...]] | None:
        """What goes with the channels of the groups; found once for all policies alike."""
        if self._heads or self._done > 0:
            return None
        key = (*self._policy.remove, "", *self._opened)
        plans = self._around.plans
        if key not in plans and len(plans) >= MOST_PLANS:
            del plans[next(iter(plans))]  # the oldest
        known = plans.setdefault(key, {})
        missing = [root for root in self._channels if root not in known]
        if missing:
            known.update(channel_plan(model, self._around.example, missing))
        return known

    def _cut_heads(self, model: nn.Module, done: float) -> None:
        """Bring attentions to the number of heads that they have to be at by now."""
        if not self._heads:
            return
        attentions, steps = [], {}
        for name, step in self._heads.items():
            attention = self._attentions[name]
            now = kept_heads(attention.heads, step.share * self._done)
            then = kept_heads(attention.heads, step.share * done)
            attentions.append(replace(attention, heads=now))
            whole = now == attention.heads and done == 1  # what is not met then is to be told
            steps[name] = replace(step, share=step.share if whole else 1 - then / now)
        _, notes = prune_heads(model, attentions, steps, self._around.statistics(model))
        self._round_notes[-1] += notes

    def _records(self, done: float) -> tuple[AttentionRecord, ...]:
        found = []
        for name, step in self._heads.items():
            heads = self._attentions[name].heads
            kept = kept_heads(heads, step.share * done)
            found.append(AttentionRecord(name, kept, heads - kept))
        return tuple(found)
