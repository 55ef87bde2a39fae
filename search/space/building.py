"""Builds a space from a model's structure, a target's capability table and the user's options.

Only what the target can execute becomes a choice: a choice it has no kernel for is refused, with
those it has, rather than searched in vain. A knob that would have one choice is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

from compressors.errors import UserError, choices
from compressors.policies.policy import Recovery
from compressors.policies.policy_rules import full_rank, kept_channels, rank_of
from compressors.policies.steps import LowRank, Prune
from compressors.structures.structure import Layer, Structure
from evaluation.target import Capability
from search.space.knobs import Choices, Knob, KnobKind, Range
from search.space.options import FLOAT, Choice, RecoveryOptions, SpaceOptions, StepOptions
from search.space.patterns import limits_of, selected, tied
from search.space.precision import parse_precision
from search.space.space import NEUTRAL, RANGES_KNOB, Fixed, Space

SUFFIX = {"depth": "remove", "prune": "channels", "lowrank": "rank", "quantize": "bits"}
Values = tuple[Choice, ...]


def build_space(structure: Structure, capability: Capability, options: SpaceOptions) -> Space:
    """Every knob that the options ask for, cut to what the model has and the target can do."""
    fixed = Fixed(
        _fixed_recovery(options.recovery),
        Prune(0.5, options.criterion).criterion,  # type: ignore[arg-type]  # it validates
        options.ranges[0] if options.ranges else "minmax",
        capability.channel_multiple,
    )
    knobs = (
        *_depth(structure, options.depth),
        *_prune(structure, options.prune, capability.channel_multiple),
        *_lowrank(structure, options.lowrank),
        *_quantize(structure, options.quantize, capability),
    )
    if any(knob.kind == "quantize" for knob in knobs) and len(set(options.ranges)) > 1:
        knobs += (Knob(RANGES_KNOB, "quantize", Choices(tuple(dict.fromkeys(options.ranges)))),)
    if not knobs:
        raise UserError(
            "The space has no knobs: nothing that the options include can be done to this model "
            "on this target; widen space.depth, space.prune, space.lowrank or space.quantize."
        )
    return Space(structure, knobs + tuple(_recovery(options.recovery)), fixed)


def _depth(structure: Structure, options: StepOptions) -> list[Knob]:
    names = [block.name for block in structure.blocks]

    def valid(_: str, given: Values) -> Values:
        return _known("space.depth choices", given or (False, True), (False, True))

    return _knobs("depth", names, options, valid)


def _prune(structure: Structure, options: StepOptions, multiple: int) -> list[Knob]:
    channels = {group.root: group.channels for group in structure.groups}

    def valid(_: str, given: Values) -> Values:
        return tuple(Prune(_number("space.prune choices", share)).channels for share in given)

    def distinct(roots: Sequence[str], shares: Values) -> Values:
        """One share for each outcome: shares that round to the same kept counts are merged."""
        outcomes: dict[tuple[int, ...], Choice] = {}
        for share in shares:
            prune = Prune(float(share), multiple=multiple)
            kept = tuple(kept_channels(channels[root], prune) for root in roots)
            outcomes.setdefault(kept, share)
        return tuple(outcomes.values())

    return _knobs("prune", list(channels), options, valid, distinct)


def _lowrank(structure: Structure, options: StepOptions) -> list[Knob]:
    layers = {layer.name: layer for layer in structure.layers if layer.groups == 1}

    def valid(name: str, given: Values) -> Values:
        ratios = [_ratio(_number("space.lowrank choices", ratio)) for ratio in given]
        return tuple(ratio for ratio in ratios if ratio == 1 or _gains(layers[name], ratio))

    return _knobs("lowrank", list(layers), options, valid)


def _quantize(structure: Structure, options: StepOptions, capability: Capability) -> list[Knob]:
    able = {
        layer.name: (FLOAT, *(str(p) for p in capability.precisions.get(layer.kind, ())))
        for layer in structure.layers
    }
    everything = tuple(dict.fromkeys(word for words in able.values() for word in words))

    def valid(name: str, given: Values) -> Values:
        words = tuple(str(parse_precision(str(word))) for word in given or everything)
        known = _known("space.quantize choices on this target", words, everything)
        return tuple(word for word in known if word in able[name])

    return _knobs("quantize", list(able), options, valid)


def _knobs(
    kind: KnobKind,
    names: Sequence[str],
    options: StepOptions,
    valid: Callable[[str, Values], Values],
    distinct: Callable[[Sequence[str], Values], Values] = lambda _, values: values,
) -> list[Knob]:
    """The knobs of one kind: names selected and tied, their choices checked, limited and cut."""
    what = f"space.{kind}"
    wanted = selected(names, options.include, options.exclude, what)
    limits = limits_of(options.limits, names, what)
    knobs = []
    for group in tied(wanted, options.tie, names, what):
        allowed = [valid(name, limits.get(name, [options.choices])[-1]) for name in group]
        shared = [v for v in dict.fromkeys(allowed[0]) if all(v in values for values in allowed)]
        neutral = NEUTRAL[kind]
        values = distinct(group, tuple(sorted(shared, key=lambda v: v != neutral)))
        if values and values != (neutral,):
            knobs.append(Knob(f"{group[0]}/{SUFFIX[kind]}", kind, Choices(values), group))
    return knobs


def _ratio(value: float) -> float:
    LowRank(value)  # it validates
    return value


def _gains(layer: Layer, ratio: float) -> bool:
    """Whether two thinner layers of this rank have fewer weights than the one they replace."""
    columns = layer.in_channels * prod(layer.kernel)
    rank = rank_of(full_rank(layer), ratio)
    return rank * (columns + layer.out_channels) < columns * layer.out_channels


def _recovery(options: RecoveryOptions) -> list[Knob]:
    epochs = tuple(dict.fromkeys(sorted(options.epochs)))
    knobs = [Knob("recovery/epochs", "recovery", Choices(epochs))] if len(epochs) > 1 else []
    if not any(epochs):
        return knobs
    for name, log in RECOVERY_RANGES:
        low, high = getattr(options, name)
        if low < high:
            knobs.append(Knob(f"recovery/{name}", "recovery", Range(low, high, log)))
    return knobs


RECOVERY_RANGES = (("learning_rate", True), ("temperature", False), ("weight", False))


def _fixed_recovery(options: RecoveryOptions) -> Recovery:
    """The values that are no knobs; building it at both ends holds the options to their rules."""
    if not options.epochs:
        raise UserError("space.recovery.epochs cannot be empty; valid: whole numbers from 0.")
    for name, _ in RECOVERY_RANGES:
        low, high = _ends(f"space.recovery.{name}", getattr(options, name))
        if low > high:
            raise UserError(
                f"space.recovery.{name} cannot run from {low:g} to {high:g}; "
                "valid: the lower end first."
            )
    plain: dict[str, Any] = {
        "batch_size": options.batch_size,
        "optimizer": options.optimizer,
        "schedule": options.schedule,
        "seed": options.seed,
    }
    for end in (-1, 0):
        ends = {name: getattr(options, name)[end] for name, _ in RECOVERY_RANGES}
        made = [Recovery(epochs=epochs, **ends, **plain) for epochs in options.epochs]
    return made[0]


def _ends(what: str, given: Sequence[float]) -> tuple[float, float]:
    if len(given) != 2:
        raise UserError(f"{what} cannot be {list(given)}; valid: two numbers, [lowest, highest].")
    return given[0], given[1]


def _number(what: str, value: Choice) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{what} cannot hold {value!r}; valid: numbers.")
    return float(value)


def _known(what: str, given: Iterable[Choice], valid: Sequence[Choice]) -> Values:
    values = tuple(given)
    for value in values:
        if value not in valid or isinstance(value, bool) != isinstance(valid[0], bool):
            raise UserError(f"{what} cannot hold {value!r}; valid: {choices(valid)}.")
    return values
