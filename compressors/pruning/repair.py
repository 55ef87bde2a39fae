"""Layers that lose inputs, fitted anew so that their outputs stay as near as can be.

Least squares in closed form, from the second moments of the inputs before the cut; the fit is
drawn towards the old weights where calibration says little. What a missing input adds on average
goes into the bias where the layer has one and its columns are plain inputs (a linear layer, a
1 x 1 convolution); elsewhere batch norms taken anew see to it. Knows no criteria.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.calibration.statistics import Statistics
from compressors.pruning.columns import MOST_COLUMNS, column_count, columns_of, sees_columns, taps
from compressors.pruning.plan import Plan

RIDGE = 0.01  # of the Gram matrix's mean diagonal, added to it


@dataclass(frozen=True)
class Fit:
    """A layer's weights for its kept inputs (the others' columns mean nothing), and its bias."""

    weight: Tensor
    bias: Tensor | None


def fitted(
    model: nn.Module,
    plan: Plan,
    removed: Mapping[str, Iterable[int]],
    roots: Iterable[str],
    statistics: Statistics,
) -> tuple[dict[str, Fit], tuple[str, ...]]:
    """New weights for the readers of these roots' channels, and notes on those left as they were.

    A reader is fitted to all that it loses, whichever root it loses it with.
    """
    readers = _losing_inputs(plan, removed, set(roots))
    reasons = {name: _refusal(model, name) for name in readers}
    able = [name for name in readers if reasons[name] is None]
    grams = statistics.grams(able) if able else {}
    centred = [name for name in able if _has_plain_columns(model.get_submodule(name))]
    inputs = statistics.inputs(centred) if centred else {}
    fits = {}
    for name in able:
        mean = inputs[name].mean if name in inputs else None
        fit = fit_layer(model.get_submodule(name), readers[name], grams[name][0], mean)
        if fit is None:
            reasons[name] = "its inputs do not determine a fit"
        else:
            fits[name] = fit
    notes = tuple(f"{name}: not fitted anew, as {why}" for name, why in reasons.items() if why)
    return fits, notes


@torch.no_grad()
def put(model: nn.Module, fits: Mapping[str, Fit]) -> None:
    """Write the fits into the model, before it is cut."""
    for name, fit in fits.items():
        layer = model.get_submodule(name)
        for parameter, value in ((layer.weight, fit.weight), (layer.bias, fit.bias)):
            if value is not None:
                assert isinstance(parameter, nn.Parameter)
                parameter.copy_(value.view_as(parameter))


def fit_layer(
    layer: nn.Module, lost: Iterable[int], gram: Tensor, mean: Tensor | None
) -> Fit | None:
    """Least squares over what a layer keeps, with a free bias where the inputs' mean is given."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    matrix = weight.detach().cpu().double().flatten(1)
    gone = columns_of(layer, sorted(lost)).flatten()
    stays = torch.ones(matrix.shape[1], dtype=torch.bool)
    stays[gone] = False
    moments = gram.double()
    if mean is not None:
        moments = moments - torch.outer(mean.double(), mean.double())
    change = least_squares(matrix[:, gone], moments[gone][:, stays], moments[stays][:, stays])
    if change is None:
        return None
    new = matrix.clone()
    new[:, stays] += change
    if mean is None or bias is None:
        return Fit(new, None)
    assert isinstance(bias, Tensor)
    shift = matrix[:, gone] @ mean[gone].double() - change @ mean[stays].double()
    return Fit(new, bias.detach().cpu().double() + shift)


def least_squares(lost: Tensor, across: Tensor, among: Tensor) -> Tensor | None:
    """What to add to kept columns in place of lost ones: lost @ across @ among^-1, damped."""
    ridge = RIDGE * float(among.diagonal().mean())
    damped = among + ridge * torch.eye(len(among), dtype=among.dtype)
    factor, failed = torch.linalg.cholesky_ex(damped)
    if int(failed) != 0:
        return None
    change = torch.cholesky_solve((lost @ across).T, factor).T
    return change if bool(change.isfinite().all()) else None


def _losing_inputs(
    plan: Plan, removed: Mapping[str, Iterable[int]], roots: set[str]
) -> dict[str, set[int]]:
    """The inputs that each reader of the roots' channels loses, with these roots and others."""
    lost: dict[str, set[int]] = {}
    wanted = set()
    for root, channels in removed.items():
        for part in plan[root]:
            if part.reads and not part.bare:
                lost.setdefault(part.name, set()).update(part.of(channels))
                wanted |= {part.name} if root in roots else set()
    return {name: lost[name] for name in lost if name in wanted and lost[name]}


def _refusal(model: nn.Module, name: str) -> str | None:
    layer = model.get_submodule(name)
    if not sees_columns(layer):
        return "it is no linear, conv1d or conv2d layer of one group"
    if column_count(layer) > MOST_COLUMNS:
        return f"it has {column_count(layer)} columns, more than {MOST_COLUMNS}"
    owners = [
        module
        for module in model.modules()
        if any(p is layer.weight for p in module.parameters(recurse=False))
    ]
    return "another layer has the same weight" if len(owners) > 1 else None


def _has_plain_columns(layer: nn.Module) -> bool:
    """Whether the columns are the input features themselves, and there is a bias to shift."""
    if layer.bias is None:
        return False
    if isinstance(layer, nn.Linear):
        return True
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
    padded = any(layer._reversed_padding_repeated_twice)
    return taps(layer) == 1 and not padded and set(layer.stride) == {1}
