"""A policy held against a model's structure: patterns expanded, impossible entries refused.

Also the two roundings that turn a share into a count, so that a search can tell which shares are
the same. Knows a model's structure only as data; the steps themselves live elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from compressors.errors import PolicyError, choices, unknown
from compressors.policies.policy import LayerPolicy, LowRank, Policy, Prune
from compressors.structures.structure import Block, Layer, Structure

STEPS = ("prune", "lowrank", "quantize")


def kept_channels(channels: int, prune: Prune) -> int:
    """How many channels stay: the nearest multiple (the larger of two), at least one multiple.

    A share of 0 keeps all of them, whatever the multiple.
    """
    if prune.channels == 0:
        return channels
    multiple = prune.multiple
    wanted = channels * (1 - prune.channels)
    nearest = int(wanted / multiple + 0.5 + 1e-9) * multiple
    return min(channels, max(multiple, nearest))


def full_rank(layer: Layer) -> int:
    """The rank of the layer's weight as an outputs x (inputs x kernel) matrix."""
    return min(layer.out_channels, layer.in_channels * layer.kernel[0] * layer.kernel[1])


def rank_of(full: int, lowrank: LowRank) -> int:
    """The rank that a share of the full one comes to, at least 1."""
    return max(1, int(full * lowrank.ratio + 0.5 + 1e-9))


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
    for entry in policy.layers:
        layer = structure.layer(entry.name)
        if layer is None:
            raise PolicyError(unknown("layer", entry.name, _names(structure.layers)))
        if entry.name in removed:
            raise PolicyError(
                f"Layer '{entry.name}' is inside the removed block '{removed[entry.name]}';"
                f" drop the layer's entry, or keep the block."
            )
        if entry.prune is not None:
            _check_prune(entry.name, structure)
        if entry.lowrank is not None and layer.groups != 1:
            raise PolicyError(
                f"lowrank cannot be given to layer '{entry.name}': it has {layer.groups} groups;"
                f" valid: layers of one group."
            )


def _names(items: Iterable[Layer | Block]) -> list[str]:
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
    return {layer: block.name for block in blocks for layer in block.layers}


def _targets(
    pattern: LayerPolicy, structure: Structure, remove: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Which layer takes which step from a pattern."""
    removed = _inside(remove, structure)
    layers = [layer for layer in structure.layers if fnmatchcase(layer.name, pattern.name)]
    if not layers:
        raise PolicyError(_no_match("layer", pattern.name, _names(structure.layers)))
    roots = {group.root for group in structure.groups}
    able = {
        "prune": [layer for layer in layers if layer.name in roots],
        "lowrank": [layer for layer in layers if layer.groups == 1],
        "quantize": layers,
    }
    targets = []
    for step in STEPS:
        if getattr(pattern, step) is None:
            continue
        if not able[step]:
            valid = choices(roots) if step == "prune" else "layers of one group"
            raise PolicyError(
                f"None of the layers that '{pattern.name}' matches can take {step}; valid: {valid}."
            )
        targets += [(layer.name, step) for layer in able[step] if layer.name not in removed]
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


def _check_prune(name: str, structure: Structure) -> None:
    group = structure.group_of(name)
    roots = [group.root for group in structure.groups]
    if group is None:
        raise PolicyError(
            f"prune cannot be given to layer '{name}': its output channels must stay as they are;"
            f" valid: {choices(roots) or 'none in this model'}."
        )
    if group.root != name:
        raise PolicyError(
            f"prune cannot be given to layer '{name}': its channels go with those of"
            f" '{group.root}', the first of its group; give it there."
        )
