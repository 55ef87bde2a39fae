"""Which policies can be applied in one go, so that what each does to the weights is seen at once.

What a step that is a layer's own does to its weight does not depend on the other layers' steps
(see `compressors.calibration.statistics`), so that policies that change different layers make one
policy. Plain data: knows no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from compressors.policies.policy import LayerPolicy, Policy, Recovery, Rounds
from compressors.policies.steps import OF_INPUTS, Quantize

KEYS = ("activations", "ranges", "smooth", *OF_INPUTS)  # of quantize


@dataclass
class Together:
    """One policy to apply, and which layers in it each of the probe's policies changed."""

    policy: Policy
    layers: dict[int, tuple[str, ...] | None] = field(default_factory=dict)  # None: any of them


def plain(policy: Policy) -> Policy:
    """The policy without training: a probe is about what compression does by itself."""
    rounds = replace(policy.rounds, epochs=0, loss_rise=None)
    return replace(policy, recovery=Recovery(), rounds=rounds if rounds.count > 1 else Rounds())


def changes_weights_alone(policy: Policy, around: Policy) -> bool:
    """Whether the two differ in nothing but in what weights there are, and their values."""
    whole = replace(policy, layers=()) == replace(around, layers=())
    names = {entry.name for entry in (*policy.layers, *around.layers)}
    return (
        whole
        and not policy.equalize
        and all(_inputs(policy.layer(name)) == _inputs(around.layer(name)) for name in names)
    )


def grouped(policies: Sequence[Policy], around: Policy) -> list[Together]:
    """Every policy, in as few groups as come about; patterns must have been expanded."""
    groups: list[Together] = []
    for index, policy in enumerate(policies):
        changed = changed_layers(policy, around)
        if not all(_is_own(one.layer(name)) for name in changed for one in (policy, around)):
            groups.append(Together(policy, {index: None}))
            continue
        place = next((group for group in groups if _has_room(group, changed)), None)
        if place is None:
            place = Together(around)
            groups.append(place)
        place.policy = _with(place.policy, [policy.layer(name) for name in changed])
        place.layers[index] = changed
    return groups


def changed_layers(policy: Policy, around: Policy) -> tuple[str, ...]:
    """The layers to which the two do different things."""
    names = sorted({entry.name for entry in (*policy.layers, *around.layers)})
    return tuple(name for name in names if policy.layer(name) != around.layer(name))


def _inputs(entry: LayerPolicy) -> list[object]:
    """What a layer's entry does to its inputs."""
    step = entry.quantize
    if step is None or step.activations is None:
        return [getattr(Quantize(None, None), key) for key in KEYS]
    return [getattr(step, key) for key in KEYS]


def _is_own(entry: LayerPolicy) -> bool:
    """Whether all steps of an entry are the layer's own affair."""
    shared = entry.sparsify is not None and entry.sparsify.scope == "model"
    return entry.prune is None and entry.heads is None and not shared


def _has_room(group: Together, changed: Sequence[str]) -> bool:
    taken = [name for layers in group.layers.values() for name in layers or ()]
    return None not in group.layers.values() and not set(taken) & set(changed)


def _with(policy: Policy, entries: Sequence[LayerPolicy]) -> Policy:
    """The policy with these layers' entries in place of its own."""
    names = {entry.name for entry in entries}
    kept = [entry for entry in policy.layers if entry.name not in names]
    return replace(policy, layers=(*kept, *entries))
