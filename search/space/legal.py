"""Which choice of a step a layer may have: by the model, by the target's table, and by gain.

One object a kind of step, from a layer's name and a canonical word to a reason or None. Knows
nothing of patterns, ties and knobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from compressors.errors import choices
from compressors.policies.legality import refusal
from compressors.policies.policy_rules import full_rank, kept_channels, kept_heads, rank_of
from compressors.policies.steps import LowRank, Quantize, Sparsify
from compressors.record import LayerRecord
from compressors.structures.structure import Layer, Structure
from evaluation.target import STORED, Capability
from search.space.options import Choice
from search.space.words import NEUTRAL, Words

Reason = str | None


@dataclass(frozen=True)
class Rules:
    """What layers of one model may have on one target, of one kind of step."""

    words: Words
    structure: Structure
    capability: Capability

    def names(self) -> list[str]:
        """What can take the step at all, in the model's own order."""
        return _NAMES[self.words.kind](self.structure)

    def everything(self, name: str) -> list[Choice]:
        """All that the target can do to a layer's precision, and gains by; float is first."""
        layer = self.structure.layer(name)
        offered = self.capability.offered(layer.kind) if layer else ()
        words = (str(precision) for precision in offered)
        gained = [word for word in words if set(self.simulated(name, word)) <= {STORED}]
        return list(dict.fromkeys((NEUTRAL["quantize"], *gained)))

    def refused(self, name: str, word: Choice) -> Reason:
        """Why a layer cannot take a choice; None where it can."""
        step = self.words.step(word)
        if step is None:
            return None
        reason = refusal(self.words.kind, step, name, self.structure)
        if reason is not None:
            return f"'{name}' cannot take it: {reason}"
        return self._without_kernel(name, step)

    def useful(self, name: str, word: Choice) -> bool:
        """Whether a choice that a layer can take may gain anything."""
        step, layer = self.words.step(word), self.structure.layer(name)
        return not isinstance(step, LowRank) or layer is None or _gains(layer, step)

    def outcome(self, names: Sequence[str], word: Choice) -> Any:
        """What of a choice matters: shares that round to the same counts have one outcome."""
        step = self.words.step(word)
        if step is None or self.words.kind not in _COUNTS:
            return word if step is not None else None
        counts = [_COUNTS[self.words.kind](name, step, self.structure) for name in names]
        after = tuple(kept for _, kept in counts)
        rest = {key: value for key, value in vars(step).items() if key not in ("channels", "share")}
        return (after, *rest.items()) if any(of != kept for of, kept in counts) else None

    def simulated(self, name: str, word: Choice) -> tuple[str, ...]:
        """The parts of a choice that the target only simulates on a layer."""
        step, layer = self.words.step(word), self.structure.layer(name)
        return () if step is None or layer is None else self._simulated(layer, step)

    def _simulated(self, layer: Layer, step: Any) -> tuple[str, ...]:
        return self.capability.simulated(_as_recorded(layer, step))

    def _without_kernel(self, name: str, step: Any) -> Reason:
        layer = self.structure.layer(name)
        if layer is None:
            return None
        if isinstance(step, Sparsify) and self._simulated(layer, step):
            return _sparse_reason(self.capability)
        if isinstance(step, Quantize):
            said = self.capability.refusal(_as_recorded(layer, step))
            if said is not None:
                return f"this target has no kernel for '{name}' {said}"
        return None


def _as_recorded(layer: Layer, step: Any) -> LayerRecord:
    """The layer as a record would tell it after this one step."""
    facts: dict[str, Any] = {}
    if isinstance(step, Sparsify):
        facts = {"sparsity": step.share or 0.0, "pattern": step.pattern}
    elif isinstance(step, Quantize):
        grouped = step.granularity == "group"
        facts = {
            "weight_bits": step.weights,
            "activation_bits": step.activations,
            "weight_function": None if step.weights is None else step.function,
            "granularity": f"group{step.group}" if grouped else step.granularity,
            "dynamic": step.dynamic,
            "signed": step.signed,
            "by_row": step.by_row,
            "inputs": step.inputs,
        }
    shape = (layer.kind, layer.in_channels, layer.out_channels, layer.parameters)
    return LayerRecord(layer.name, layer.name, *shape, groups=layer.groups, **facts)


def _sparse_reason(capability: Capability) -> str:
    return (
        "on this target nothing would be gained by such zeros; valid: "
        f"{choices(capability.patterns) or '0'}, or another target, such as storage, "
        "which leaves zeros out of its files"
    )


def _gains(layer: Layer, step: LowRank) -> bool:
    """Whether the thinner layers may have fewer weights; kept energy is known only later."""
    if step.energy is not None or step.form == "tucker":
        return True
    first, second = layer.in_channels * prod(layer.kernel), layer.out_channels
    if step.form == "spatial":
        height, width = layer.kernel
        first, second = layer.in_channels * height, layer.out_channels * width
    full = full_rank(layer) if step.form == "channel" else min(first, second)
    rank = step.rank if step.rank is not None else rank_of(full, step.ratio or 1.0)
    whole = layer.in_channels * prod(layer.kernel) * layer.out_channels
    return rank * (first + second) < whole


def _channel_counts(name: str, step: Any, structure: Structure) -> tuple[int, int]:
    group = structure.group_of(name)
    assert group is not None
    return group.channels, kept_channels(group.channels, step, group.bundle)


def _head_counts(name: str, step: Any, structure: Structure) -> tuple[int, int]:
    heads = next(a.heads for a in structure.attentions if a.name == name)
    return heads, kept_heads(heads, step.share)


_COUNTS: dict[str, Callable[[str, Any, Structure], tuple[int, int]]] = {
    "prune": _channel_counts,
    "heads": _head_counts,
}


def _layers(structure: Structure) -> list[str]:
    return [layer.name for layer in structure.layers]


_NAMES: dict[str, Callable[[Structure], list[str]]] = {
    "heads": lambda structure: [attention.name for attention in structure.attentions],
    "prune": lambda structure: [group.root for group in structure.groups],
    "lowrank": lambda structure: [layer.name for layer in structure.layers if layer.groups == 1],
    "sparsify": _layers,
    "quantize": _layers,
}
