"""A space: the knobs of a search, and the policy that a setting of them stands for.

Knows nothing of samplers or storages; `building` makes one from a model and a target.
Policies come out in canonical form, so that settings that mean the same have the same policy id:
what lies in a removed block is left out, and so is what has nothing to act on: recovery where
nothing is cut, rounds where nothing is pruned, what concerns quantisers where there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from optuna.distributions import BaseDistribution

from compressors.errors import UserError
from compressors.policies.policy import ORIGINAL, LayerPolicy, Policy, Recovery, Rounds
from compressors.structures.structure import Structure
from search.space.fixed import Fixed
from search.space.knobs import Choices, Knob, KnobKind, Range

Params = Mapping[str, Any]
LAYER_STEPS: tuple[KnobKind, ...] = ("heads", "prune", "lowrank", "sparsify", "quantize")
RANGES_KNOB = "quantize/ranges"
EQUALIZE_KNOB = "equalize"


@dataclass(frozen=True)
class Space:
    """Knobs over a model's structure."""

    structure: Structure
    knobs: tuple[Knob, ...]
    fixed: Fixed = field(default_factory=Fixed)

    def distributions(self) -> dict[str, BaseDistribution]:
        """The knobs as Optuna knows them, in order."""
        return {knob.name: knob.domain.distribution() for knob in self.knobs}

    def of_kind(self, kind: KnobKind) -> list[Knob]:
        """The knobs of one kind of step."""
        return [knob for knob in self.knobs if knob.kind == kind]

    def size(self) -> int:
        """How many combinations the listed choices have; continuous knobs are not counted."""
        return prod(len(k.domain.values) for k in self.knobs if isinstance(k.domain, Choices))

    def continuous(self) -> int:
        """How many knobs are continuous."""
        return sum(isinstance(knob.domain, Range) for knob in self.knobs)

    def signature(self) -> dict[str, Any]:
        """What makes this space this space, as JSON-ready data."""
        return {
            "knobs": {knob.name: knob.signature() for knob in self.knobs},
            "fixed": self.fixed.signature(),
        }

    def policy(self, params: Params) -> Policy:
        """The canonical policy of a setting; knobs left out are at their first value."""
        blocks = [
            name
            for knob in self.of_kind("depth")
            if params.get(knob.name, knob.first)
            for name in knob.controls
        ]
        removed = _outermost(blocks)
        layers = self._layers(params, removed)
        fixed = self.fixed
        cut = any(layer.prune or layer.heads or layer.sparsify for layer in layers)
        quantized = any(layer.quantize for layer in layers)
        return Policy(
            remove=tuple(removed),
            layers=layers,
            recovery=self._recovery(
                params,
                anything=bool(removed or layers or fixed.student != ORIGINAL),
                quantized=quantized,
            ),
            rounds=fixed.rounds if cut else Rounds(),
            equalize=quantized and params.get(EQUALIZE_KNOB, fixed.equalize),
            student=fixed.student,
        )

    def params_of(self, policy: Policy) -> dict[str, Any]:
        """The setting whose policy this is; refused where the space cannot say it."""
        for decided in self._decided():
            params = {knob.name: self._read(knob, policy, decided) for knob in self.knobs}
            known = all(params[knob.name] in knob.domain for knob in self.knobs)
            if known and self.policy(params) == policy:
                return params
        raise UserError(
            "The policy is outside this space: no setting of its knobs gives that policy; "
            "widen the space, or leave the policy out."
        )

    def _layers(self, params: Params, removed: Iterable[str]) -> tuple[LayerPolicy, ...]:
        """The entries of what is not in a removed block, and has a step."""
        ranges = {"ranges": params[RANGES_KNOB]} if RANGES_KNOB in params else {}
        entries: dict[str, dict[str, Any]] = {}
        for kind in LAYER_STEPS:
            words = self.fixed.words(kind)
            for knob in self.of_kind(kind):
                decided = ranges if kind == "quantize" else {}
                step = words.step(params.get(knob.name, knob.first), decided)
                if step is not None:
                    for name in knob.controls:
                        entries.setdefault(name, {})[kind] = step
        return tuple(
            LayerPolicy(name, **steps)
            for name, steps in entries.items()
            if not any(_inside(name, block) for block in removed)
        )

    def _recovery(self, params: Params, *, anything: bool, quantized: bool) -> Recovery:
        fixed = self.fixed.recovery
        chosen = {
            knob.name.partition("/")[2]: params.get(knob.name, knob.first)
            for knob in self.of_kind("recovery")
        }
        if not anything or chosen.get("epochs", fixed.epochs) == 0:
            return Recovery(seed=fixed.seed)
        values = {**vars(fixed), **chosen}
        if not quantized:
            values["scales"] = Recovery().scales
        if not (values["features"] or values["attention"]):
            values["hints"] = ()
        return Recovery(**values)

    def _decided(self) -> Iterator[dict[str, Any]]:
        """What the ranges' knob may say."""
        knob = next((knob for knob in self.knobs if knob.name == RANGES_KNOB), None)
        if knob is None:
            yield {}
        else:
            yield from ({"ranges": value} for value in knob.values)

    def _read(self, knob: Knob, policy: Policy, decided: Mapping[str, Any]) -> Any:
        """The knob's value in a policy; None where no value gives it."""
        if knob.kind == "recovery":
            return _read_recovery(knob, policy)
        if knob.name == RANGES_KNOB:
            return decided["ranges"]
        if knob.name == EQUALIZE_KNOB:
            quantized = any(layer.quantize for layer in policy.layers)
            return policy.equalize if quantized else knob.first
        if knob.kind == "depth":
            return any(_removed(policy, name) for name in knob.controls)
        alive = [name for name in knob.controls if not _removed(policy, name)]
        if not alive:
            return knob.first
        words, step = self.fixed.words(knob.kind), getattr(policy.layer(alive[0]), knob.kind)
        given = decided if knob.kind == "quantize" else {}
        return next((word for word in knob.values if words.step(word, given) == step), None)


def _read_recovery(knob: Knob, policy: Policy) -> Any:
    name = knob.name.partition("/")[2]
    if name == "scales" and not any(layer.quantize for layer in policy.layers):
        return knob.first
    if name == "epochs" or policy.recovery.epochs:
        return getattr(policy.recovery, name)
    return knob.first


def _inside(name: str, block: str) -> bool:
    return name == block or name.startswith(f"{block}.")


def _outermost(blocks: Iterable[str]) -> list[str]:
    names = list(blocks)
    return [n for n in names if not any(_inside(n, other) and n != other for other in names)]


def _removed(policy: Policy, name: str) -> bool:
    return any(_inside(name, block) for block in policy.remove)
