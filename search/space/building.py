"""Builds a space from a model's structure, a target's capability table and the user's options.

Only what the target can execute becomes a choice: a choice it has no kernel for is refused, with
those it has, rather than searched in vain. A knob that would have one choice is left out. The
structure is that of the student which the options name.
"""

from __future__ import annotations

from collections.abc import Sequence

from compressors.errors import UserError
from compressors.policies.policy import Policy
from compressors.policies.steps import LowRank, Prune, Quantize
from compressors.structures.structure import Structure
from evaluation.target import Capability
from search.space.fixed import Fixed
from search.space.knobs import Choices, Knob
from search.space.layer_knobs import depth_knobs, step_knobs
from search.space.legal import Rules
from search.space.options import Choice, SpaceOptions
from search.space.recovery_knobs import fixed_recovery, recovery_knobs
from search.space.space import EQUALIZE_KNOB, LAYER_STEPS, RANGES_KNOB, Space


def build_space(structure: Structure, capability: Capability, options: SpaceOptions) -> Space:
    """Every knob that the options ask for, cut to what the model has and the target can do."""
    fixed = _fixed(options, capability)
    knobs = depth_knobs(structure, options.depth)
    for kind in LAYER_STEPS:
        rules = Rules(fixed.words(kind), structure, capability)
        knobs += step_knobs(kind, rules, getattr(options, kind))
    if any(knob.kind == "quantize" for knob in knobs):
        knobs += _over_all(RANGES_KNOB, options.ranges)
        knobs += _over_all(EQUALIZE_KNOB, sorted(options.equalize))
    if not knobs:
        raise UserError(
            "The space has no knobs: nothing that the options include can be done to this model on "
            f"this target; widen {', '.join(f'space.{kind}' for kind in ('depth', *LAYER_STEPS))}."
        )
    space = Space(structure, (*knobs, *recovery_knobs(options.recovery)), fixed)
    _check_one_threshold(space)
    return space


def _fixed(options: SpaceOptions, capability: Capability) -> Fixed:
    for name in ("ranges", "equalize"):
        if not getattr(options, name):
            raise UserError(f"space.{name} cannot be empty; name at least one.")
    for ranges in options.ranges:
        Quantize(8, 8, ranges)  # type: ignore[arg-type]  # it validates
    prune = Prune(0.5, options.criterion, capability.channel_multiple, options.repair)  # type: ignore[arg-type]  # it validates
    return Fixed(
        recovery=fixed_recovery(options.recovery),
        defaults={
            "heads": {"repair": options.repair},
            "prune": {"criterion": prune.criterion, "multiple": prune.multiple}
            | {"repair": prune.repair},
            "lowrank": {"aware": LowRank(0.5, aware=options.aware).aware},
            "quantize": {"ranges": options.ranges[0]}
            | ({} if capability.zero_points else {"signed": True}),
        },
        open_ranges=len(set(options.ranges)) > 1,
        equalize=Policy(equalize=options.equalize[0]).equalize,
        rounds=options.rounds,
        student=Policy(student=options.student).student,
    )


def _over_all(name: str, values: Sequence[Choice]) -> list[Knob]:
    """A knob for all layers at once, where there is something to choose."""
    distinct = tuple(dict.fromkeys(values))
    return [Knob(name, "policy", Choices(distinct))] if len(distinct) > 1 else []


def _check_one_threshold(space: Space) -> None:
    """Choices that share one threshold over the model must be the same wherever they are made."""
    words = {
        value: space.fixed.words("sparsify").step(value)
        for knob in space.of_kind("sparsify")
        for value in knob.values
    }
    shared = [word for word, step in words.items() if step is not None and step.scope == "model"]
    if len(shared) > 1:
        raise UserError(
            "space.sparsify.choices cannot hold several of scope model, which share one threshold: "
            f"{', '.join(map(str, shared))}; valid: one of them."
        )
