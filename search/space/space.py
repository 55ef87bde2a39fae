"""A space: the knobs of a search, and the policy that a setting of them stands for.

Knows nothing of samplers or storages; `space_build` makes one from a model and a target.
Policies come out in canonical form, so that settings that mean the same have the same policy id:
what lies in a removed block is left out, and where nothing is cut, or for no epochs, recovery has
its plain values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from optuna.distributions import BaseDistribution

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import LowRank, Prune, Quantize
from compressors.structures.structure import Structure
from search.space.knobs import Choices, Knob, KnobKind, Range
from search.space.options import FLOAT, Choice
from search.space.precision import parse_precision

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Fixed:
    """What every policy of the space has in common."""

    recovery: Recovery = field(default_factory=Recovery)
    criterion: Any = "l2"
    ranges: Any = "minmax"
    multiple: int = 1


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
        recovery = self.fixed.recovery
        return {
            "knobs": {knob.name: knob.signature() for knob in self.knobs},
            "fixed": {
                "prune.multiple": self.fixed.multiple,
                "prune.criterion": self.fixed.criterion,
                "quantize.ranges": self.fixed.ranges,
                **{f"recovery.{name}": value for name, value in vars(recovery).items()},
            },
        }

    def policy(self, params: Params) -> Policy:
        """The canonical policy of a setting; knobs left out are at their first value."""
        removed = _outermost(self._chosen("depth", params))
        prunes = self._chosen("prune", params)
        ranks = self._chosen("lowrank", params)
        bits = self._chosen("quantize", params)
        layers = []
        for name in _ordered(self.structure, (prunes, ranks, bits)):
            if any(_inside(name, block) for block in removed):
                continue
            entry = LayerPolicy(
                name,
                self._prune(prunes.get(name)),
                LowRank(float(ranks[name])) if name in ranks else None,
                self._quantize(bits.get(name), params),
            )
            layers.append(entry)
        cut = bool(removed or layers)
        return Policy(tuple(removed), tuple(layers), self._recovery(params, cut=cut))

    def params_of(self, policy: Policy) -> dict[str, Any]:
        """The setting whose policy this is; refused where the space cannot say it."""
        params = {knob.name: self._read(knob, policy) for knob in self.knobs}
        known = all(params[knob.name] in knob.domain for knob in self.knobs)
        if not known or self.policy(params) != policy:
            raise UserError(
                "The policy is outside this space: no setting of its knobs gives that policy; "
                "widen the space, or leave the policy out."
            )
        return params

    def _chosen(self, kind: KnobKind, params: Params) -> dict[str, Choice]:
        """Each controlled name whose knob is not at the value that does nothing."""
        found: dict[str, Choice] = {}
        for knob in self.of_kind(kind):
            value: Choice = params.get(knob.name, _first(knob))
            if value != NEUTRAL[kind]:
                found.update(dict.fromkeys(knob.controls, value))
        return found

    def _prune(self, share: Choice | None) -> Prune | None:
        if share is None:
            return None
        return Prune(float(share), self.fixed.criterion, self.fixed.multiple)

    def _quantize(self, bits: Choice | None, params: Params) -> Quantize | None:
        if bits is None:
            return None
        precision = parse_precision(str(bits))
        ranges = params.get(RANGES_KNOB, self.fixed.ranges)
        return Quantize(precision.weights, precision.activations, ranges)

    def _recovery(self, params: Params, *, cut: bool) -> Recovery:
        fixed = vars(self.fixed.recovery)
        chosen = {
            knob.name.partition("/")[2]: params.get(knob.name, _first(knob))
            for knob in self.of_kind("recovery")
        }
        epochs = chosen.get("epochs", fixed["epochs"])
        if not cut or epochs == 0:
            return Recovery(seed=fixed["seed"])
        return Recovery(**{**fixed, **chosen})

    def _read(self, knob: Knob, policy: Policy) -> Any:
        if knob.kind == "recovery":
            return self._read_recovery(knob, policy)
        if knob.name == RANGES_KNOB:
            given = {entry.quantize.ranges for entry in policy.layers if entry.quantize}
            return next(iter(given), _first(knob))
        if knob.kind == "depth":
            return any(_removed(policy, name) for name in knob.controls)
        alive = [name for name in knob.controls if not _removed(policy, name)]
        return _step(knob.kind, policy.layer(alive[0])) if alive else _first(knob)

    def _read_recovery(self, knob: Knob, policy: Policy) -> Any:
        name = knob.name.partition("/")[2]
        if name == "epochs" or policy.recovery.epochs:
            return getattr(policy.recovery, name)
        return _first(knob)


RANGES_KNOB = "quantize/ranges"
NEUTRAL: dict[KnobKind, Choice] = {"depth": False, "prune": 0.0, "lowrank": 1.0, "quantize": FLOAT}


def _first(knob: Knob) -> Any:
    return knob.domain.values[0] if isinstance(knob.domain, Choices) else knob.domain.middle


def _inside(name: str, block: str) -> bool:
    return name == block or name.startswith(f"{block}.")


def _outermost(blocks: Iterable[str]) -> list[str]:
    names = list(blocks)
    return [n for n in names if not any(_inside(n, other) and n != other for other in names)]


def _removed(policy: Policy, name: str) -> bool:
    return any(_inside(name, block) for block in policy.remove)


def _ordered(structure: Structure, steps: Iterable[Mapping[str, Choice]]) -> list[str]:
    named = {name for step in steps for name in step}
    return [layer.name for layer in structure.layers if layer.name in named]


def _step(kind: KnobKind, entry: LayerPolicy) -> Choice:
    if kind == "prune":
        return entry.prune.channels if entry.prune else 0.0
    if kind == "lowrank":
        return (entry.lowrank.ratio or 1.0) if entry.lowrank else 1.0
    if entry.quantize is None:
        return FLOAT
    weights, activations = entry.quantize.weights, entry.quantize.activations
    return f"w{weights or 'f'}a{activations or 'f'}"
