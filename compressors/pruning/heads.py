"""Attention heads: the least important ones are cut out of an attention's four layers.

Every attention is scored, and every repair computed, before anything is cut; so the statistics
are of the model as it stands before, and worth nothing after. Knows no channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from compressors.calibration.statistics import Statistics
from compressors.policies.policy_rules import kept_heads
from compressors.policies.steps import HeadCriterion, Heads
from compressors.pruning.columns import MOST_COLUMNS
from compressors.pruning.repair import Fit, fit_layer, put
from compressors.record import AttentionRecord
from compressors.structures.heads import columns_of, keep_heads, linear_at, rows_of
from compressors.structures.structure import Attention


def prune_heads(
    model: nn.Module,
    attentions: Sequence[Attention],
    settings: Mapping[str, Heads],
    statistics: Statistics,
) -> tuple[tuple[AttentionRecord, ...], tuple[str, ...]]:
    """Remove heads of the attentions with settings, in place; records, and notes on the rest."""
    wanted = {
        a.name: kept_heads(a.heads, settings[a.name].share)
        for a in attentions
        if a.name in settings
    }
    notes = [
        f"{a.name}: all {a.heads} heads kept, the nearest number to"
        f" {a.heads * (1 - settings[a.name].share):g}"
        for a in attentions
        if wanted.get(a.name) == a.heads and settings[a.name].share > 0
    ]
    losing = [a for a in attentions if wanted.get(a.name, a.heads) < a.heads]
    scores = _scores(model, losing, settings, statistics)
    kept = {a.name: _best(scores[a.name], wanted[a.name]) for a in losing}
    fits, left = _fits(model, [a for a in losing if settings[a.name].repair], kept, statistics)
    put(model, fits)
    for attention in losing:
        keep_heads(model, attention, kept[attention.name])
    records = tuple(
        AttentionRecord(a.name, wanted[a.name], a.heads - wanted[a.name]) for a in losing
    )
    return records, (*notes, *left)


def _best(scores: Tensor, count: int) -> list[int]:
    """The heads with the highest scores; of equals, the later ones."""
    return sorted(torch.argsort(scores, stable=True)[len(scores) - count :].tolist())


def _scores(
    model: nn.Module,
    attentions: Sequence[Attention],
    settings: Mapping[str, Heads],
    statistics: Statistics,
) -> dict[str, Tensor]:
    """A score for each head of each attention, what a criterion reads being collected at once."""
    by_criterion: dict[HeadCriterion, list[Attention]] = {}
    for attention in attentions:
        by_criterion.setdefault(settings[attention.name].criterion, []).append(attention)
    scores: dict[str, Tensor] = {}
    for criterion, judged in by_criterion.items():
        columns = _COLUMNS.get(criterion)
        if columns is None:
            norm = 1 if criterion == "l1" else 2
            scores |= {a.name: _magnitude(model, a, norm) for a in judged}
            continue
        found = columns(model, [attention.output for attention in judged], statistics)
        scores |= {a.name: found[a.output].view(a.heads, -1).sum(1) for a in judged}
    return scores


def _magnitude(model: nn.Module, attention: Attention, norm: int) -> Tensor:
    """The norm of all weights that go with a head: rows of its inputs, columns of the output."""
    output = linear_at(model, attention.output)
    total = torch.zeros(attention.heads, dtype=torch.float64)
    for head in range(attention.heads):
        parts = [
            (layer := linear_at(model, name)).weight[rows_of(attention, layer, name, [head])]
            for name in attention.packed()
        ]
        parts.append(output.weight[:, columns_of(attention, output, [head])])
        powers = [part.detach().double().abs().pow(norm).sum().cpu() for part in parts]
        total[head] = torch.stack(powers).sum() ** (1 / norm)
    return total


Columns = Callable[[nn.Module, list[str], Statistics], dict[str, Tensor]]


def _activation(model: nn.Module, outputs: list[str], statistics: Statistics) -> dict[str, Tensor]:
    """What the output layer reads: mean magnitudes."""
    del model
    return {name: seen.magnitude for name, seen in statistics.inputs(outputs).items()}


def _wanda(model: nn.Module, outputs: list[str], statistics: Statistics) -> dict[str, Tensor]:
    seen = statistics.inputs(outputs)
    return {
        name: _weight(model, name).abs().sum(0) * seen[name].square.double().sqrt()
        for name in outputs
    }


def _taylor(model: nn.Module, outputs: list[str], statistics: Statistics) -> dict[str, Tensor]:
    """The mean square, over batches, of each weight's first-order change of the loss, summed."""
    gradients = statistics.gradients(outputs)
    return {
        name: (_weight(model, name) * gradients[name].rms.cpu().double()).square().sum(0)
        for name in outputs
    }


_COLUMNS: Mapping[HeadCriterion, Columns] = {
    "activation": _activation,
    "wanda": _wanda,
    "taylor": _taylor,
}


def _weight(model: nn.Module, name: str) -> Tensor:
    return linear_at(model, name).weight.detach().cpu().double()


def _fits(
    model: nn.Module,
    attentions: Sequence[Attention],
    kept: Mapping[str, Sequence[int]],
    statistics: Statistics,
) -> tuple[dict[str, Fit], tuple[str, ...]]:
    """Output layers fitted to the heads that stay, and notes on those left as they were."""
    able = [a for a in attentions if linear_at(model, a.output).in_features <= MOST_COLUMNS]
    names = [attention.output for attention in able]
    grams, inputs = (statistics.grams(names), statistics.inputs(names)) if names else ({}, {})
    fits: dict[str, Fit] = {}
    for attention in able:
        name, layer = attention.output, linear_at(model, attention.output)
        lost = set(range(attention.heads)) - set(kept[attention.name])
        columns = columns_of(attention, layer, lost)
        mean = None if layer.bias is None else inputs[name].mean  # without one nothing can shift
        fit = fit_layer(layer, columns, grams[name][0], mean)
        if fit is not None:
            fits[name] = fit
    notes = tuple(
        f"{a.name}: {a.output} not fitted anew, as its inputs do not determine a fit"
        for a in attentions
        if a.output not in fits
    )
    return fits, notes
