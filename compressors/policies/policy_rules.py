"""A policy held against a model's structure: patterns expanded, impossible entries refused.

Also the two roundings that turn a share into a count, so that a search can tell which shares are
the same. Knows a model's structure only as data; the steps themselves live elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from math import lcm, prod
from typing import Any

from compressors.errors import PolicyError, choices, unknown
from compressors.policies.legality import refusal
from compressors.policies.policy import STEPS, LayerPolicy, Policy, does_nothing
from compressors.policies.steps import Prune
from compressors.structures.structure import Attention, Block, Layer, Structure


def kept_channels(channels: int, prune: Prune, bundle: int = 1) -> int:
    """How many channels stay: the nearest multiple (the larger of two), at least one multiple.

    Where channels go in bundles, of the policy's multiple and the bundle both. A share of 0 keeps
    all of them, whatever the multiple.
    """
    if prune.channels == 0:
        return channels
    multiple = lcm(prune.multiple, bundle)
    wanted = channels * (1 - prune.channels)
    nearest = int(wanted / multiple + 0.5 + 1e-9) * multiple
    return min(channels, max(multiple, nearest))


def full_rank(layer: Layer) -> int:
    """The rank of the layer's weight as an outputs x (inputs x kernel) matrix."""
    return min(layer.out_channels, layer.in_channels * prod(layer.kernel))


def rank_of(full: int, ratio: float) -> int:
    """The rank that a share of the full one comes to, at least 1."""
    return max(1, int(full * ratio + 0.5 + 1e-9))


def kept_heads(heads: int, share: float) -> int:
    """How many heads stay: the nearest number (the larger of two), at least one."""
    return max(1, int(heads * (1 - share) + 0.5 + 1e-9))


def steps_of(policy: Policy, step: str, structure: Structure) -> dict[str, Any]:
    """The layers and attentions that take a step of one kind, in the order in which they run."""
    entries = {entry.name: getattr(entry, step) for entry in policy.layers}
    names = [*_names(structure.layers), *_names(structure.attentions)]
    return {name: entries[name] for name in names if entries.get(name) is not None}


def effective(policy: Policy) -> Policy:
    """The policy without the steps that leave their layers as they are."""
    entries = []
    for entry in policy.layers:
        idle: dict[str, Any] = {
            step: None for step, value in _steps(entry) if does_nothing(step, value)
        }
        entries.append(replace(entry, **idle) if idle else entry)
    return replace(policy, layers=tuple(entry for entry in entries if _steps(entry)))


def expand(policy: Policy, structure: Structure) -> Policy:
    """The policy with every pattern replaced by the names that it matches.

    A pattern gives a step to those of its layers that can take it, and none to the layers of
    removed blocks. An exact name wins over a pattern, step by step.
    """
    remove = _expand_remove(policy.remove, structure)
    known = {layer.name for layer in structure.layers}
    exact = [entry for entry in policy.layers if not _is_pattern(entry.name, known)]
    patterns = [entry for entry in policy.layers if _is_pattern(entry.name, known)]
    if not patterns:
        return replace(policy, remove=remove)
    entries = {entry.name: entry for entry in exact}
    given: dict[tuple[str, str], str] = {}
    for pattern in patterns:
        for name, step in _targets(pattern, structure, remove):
            if (name, step) in given:
                raise PolicyError(
                    f"The patterns '{given[name, step]}' and '{pattern.name}' both give {step}"
                    f" to layer '{name}'; a layer takes each step from one pattern."
                )
            given[name, step] = pattern.name
            entry = entries.get(name, LayerPolicy(name))
            if getattr(entry, step) is None:
                change: dict[str, Any] = {step: getattr(pattern, step)}
                entries[name] = replace(entry, **change)
    return replace(policy, remove=remove, layers=tuple(entries.values()))


def check(policy: Policy, structure: Structure) -> None:
    """Refuse what this model cannot take, with the rule, the value and the valid choices."""
    blocks = {block.name: block for block in structure.blocks}
    for name in policy.remove:
        _check_removed(name, policy.remove, blocks)
    removed = _inside(policy.remove, structure)
    attentions = {attention.name for attention in structure.attentions}
    for entry in policy.layers:
        if structure.layer(entry.name) is None and entry.name not in attentions:
            names = [*_names(structure.layers), *_names(structure.attentions)]
            raise PolicyError(unknown("layer", entry.name, names))
        if entry.name in removed:
            raise PolicyError(
                f"Layer '{entry.name}' is inside the removed block '{removed[entry.name]}';"
                f" drop the layer's entry, or keep the block."
            )
        for step, value in _steps(entry):
            reason = refusal(step, value, entry.name, structure)
            if reason is not None:
                raise PolicyError(f"{step} cannot be given to layer '{entry.name}': {reason}.")


def _steps(entry: LayerPolicy) -> list[tuple[str, Any]]:
    found = [(step, getattr(entry, step)) for step in STEPS]
    return [(step, value) for step, value in found if value is not None]


def _names(items: Iterable[Layer | Block | Attention]) -> list[str]:
    return [item.name for item in items]


def _is_pattern(name: str, known: Iterable[str]) -> bool:
    return name not in known and any(sign in name for sign in "*?[")


def _expand_remove(names: tuple[str, ...], structure: Structure) -> tuple[str, ...]:
    blocks = _names(structure.blocks)
    expanded: list[str] = []
    for name in names:
        if not _is_pattern(name, blocks):
            expanded.append(name)
            continue
        matches = [block for block in blocks if fnmatchcase(block, name)]
        if not matches:
            raise PolicyError(_no_match("removable block", name, blocks))
        expanded.extend(matches)
    return tuple(dict.fromkeys(expanded)) if expanded != list(names) else names


def _inside(removed: Iterable[str], structure: Structure) -> dict[str, str]:
    """The layers of removed blocks, with their block."""
    blocks = [block for block in structure.blocks if block.name in set(removed)]
    attentions = _names(structure.attentions)
    inside = {layer: block.name for block in blocks for layer in block.layers}
    for block in blocks:
        within = [name for name in attentions if f"{name}.".startswith(f"{block.name}.")]
        inside.update(dict.fromkeys(within, block.name))
    return inside


def _targets(
    pattern: LayerPolicy, structure: Structure, remove: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Which layer takes which step from a pattern."""
    removed = _inside(remove, structure)
    names = [*_names(structure.layers), *_names(structure.attentions)]
    matched = [name for name in dict.fromkeys(names) if fnmatchcase(name, pattern.name)]
    if not matched:
        raise PolicyError(_no_match("layer", pattern.name, names))
    targets = []
    for step, value in _steps(pattern):
        reasons = {name: refusal(step, value, name, structure) for name in matched}
        able = [name for name, reason in reasons.items() if reason is None]
        if not able:
            name, reason = next(iter(reasons.items()))
            raise PolicyError(
                f"None of the layers that '{pattern.name}' matches can take {step};"
                f" '{name}', for one: {reason}."
            )
        targets += [(name, step) for name in able if name not in removed]
    return targets


def _no_match(what: str, pattern: str, valid: list[str]) -> str:
    return f"The pattern '{pattern}' matches no {what}; there are: {choices(valid) or 'none'}."


def _check_removed(name: str, removed: tuple[str, ...], blocks: dict[str, Block]) -> None:
    if name not in blocks:
        if not blocks:
            raise PolicyError(f"Block '{name}' cannot be removed: this model has none to remove.")
        raise PolicyError(unknown("removable block", name, blocks))
    for other in removed:
        if name.startswith(f"{other}."):
            raise PolicyError(f"Block '{name}' is inside '{other}', which is removed; name one.")
