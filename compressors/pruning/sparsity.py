"""Single weights set to zero: a share of a layer's or of the model's, or all but n of every m.

A weight's score is its magnitude, or its first-order effect on the loss (taylor), or its
magnitude times the norm of the input that it meets (wanda: compared within an output's row), or
the error of its removal when the row's other weights make up for it (hessian, see `obs`). Shares
are exact: the number of zeros is the share's, rounded, and equal scores go by index. A weight that
layers share has one mask, which the first of those with a step judges. Masks and changed weights
are kept by content. Knows nothing of what runs faster with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compressors.calibration import digest
from compressors.calibration.cache import ContentCache, Tensors
from compressors.calibration.statistics import Statistics
from compressors.modules import layer_kind
from compressors.policies.steps import Sparsify
from compressors.pruning.masks import Masked, Masks
from compressors.pruning.obs import Selection, zeroed_by_error
from compressors.pruning.selection import least, least_of_rows, least_of_windows, removed_count
from compressors.pruning.shortfalls import shortfalls
from compressors.pruning.weights import as_blocks, as_weight, input_groups


def sparsify(
    model: nn.Module,
    settings: Mapping[str, Sparsify],
    statistics: Statistics,
    cache: ContentCache,
    done: float = 1.0,
) -> Masks:
    """Zero weights of the named layers in place, and say which ones.

    In rounds, `done` is the part of the way to go by now: of a share, or from m down to n of m.
    """
    settings = {name: step for name, step in settings.items() if not step.does_nothing}
    judges = _judges(model, settings)
    settings = {name: step for name, step in settings.items() if name not in judges}
    _prepare(settings, statistics)
    alone = {name: step for name, step in settings.items() if step.scope == "layer"}
    found = {
        name: _remembered(model, name, step, statistics, cache, done)
        for name, step in alone.items()
    }
    together = {name: step for name, step in settings.items() if step.scope == "model"}
    if together:
        found.update(_one_threshold(model, together, statistics, done))
    masked = {name: _put(model, name, found[name]) for name in settings}
    for name, judge in judges.items():
        masked[name] = Masked(model.get_submodule(name), masked[judge].kept)
    return Masks(masked, shortfalls(masked, settings, judges))


def _judges(model: nn.Module, settings: Mapping[str, Sparsify]) -> dict[str, str]:
    """Of the layers whose weight another one's step judges, with or without a step: that one."""
    first: dict[nn.Parameter, str] = {}
    for name in settings:
        first.setdefault(_weight(model, name), name)
    judges = {}
    for name, module in model.named_modules():
        judge = first.get(_weight(model, name)) if layer_kind(module) else None
        if judge is not None and model.get_submodule(judge) is not module:
            judges[name] = judge
    return judges


def _prepare(settings: Mapping[str, Sparsify], statistics: Statistics) -> None:
    """Collect what all of the layers need in as few passes as can be."""
    for criterion, collect in (
        ("wanda", statistics.inputs),
        ("hessian", statistics.grams),
        ("taylor", statistics.gradients),
    ):
        names = [name for name, step in settings.items() if step.criterion == criterion]
        if names:
            collect(names)


@torch.no_grad()
def _put(model: nn.Module, name: str, found: Tensors) -> Masked:
    layer = model.get_submodule(name)
    weight = _weight(model, name)
    kept = found["kept"].to(weight.device)
    if "weight" in found:
        weight.copy_(found["weight"])
    masked = Masked(layer, kept)
    masked.hold()
    return masked


def _weight(model: nn.Module, name: str) -> nn.Parameter:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _remembered(
    model: nn.Module,
    name: str,
    step: Sparsify,
    statistics: Statistics,
    cache: ContentCache,
    done: float,
) -> Tensors:
    layer, weight = model.get_submodule(name), _weight(model, name)
    seen = () if step.criterion == "magnitude" else (name, _seen(step, statistics))
    what = (type(layer).__name__, layer.extra_repr(), step, done, digest.of_tensor(weight))
    key = digest.of_text("sparsify", *what, *seen)
    return cache.remembered(key, lambda: _alone(model, name, step, statistics, done))


def _seen(step: Sparsify, statistics: Statistics) -> str:
    return statistics.gradient_digest if step.criterion == "taylor" else statistics.digest


def _alone(
    model: nn.Module, name: str, step: Sparsify, statistics: Statistics, done: float
) -> dict[str, Tensor]:
    layer, weight = model.get_submodule(name), _weight(model, name).detach()
    selection = _part_of_the_way(step, done)
    if step.criterion == "hessian":
        gram = statistics.grams([name])[name]
        new, kept = zeroed_by_error(as_blocks(layer, weight.cpu()), gram, selection)
        return {
            "kept": as_weight(layer, kept),
            "weight": as_weight(layer, new).to(weight.dtype),
        }
    scores = _scores(model, name, step, statistics)
    if selection.kept_of is not None:
        gone = as_weight(layer, least_of_windows(as_blocks(layer, scores), *selection.kept_of))
    elif step.criterion == "wanda":
        rows = as_blocks(layer, scores).flatten(1)
        flags = least_of_rows(rows, removed_count(selection.share or 0, rows.numel()))
        gone = as_weight(layer, flags.view_as(as_blocks(layer, scores)))
    else:
        gone = least(scores, removed_count(selection.share or 0, scores.numel()))
    return {"kept": (~gone).contiguous().cpu()}


def _part_of_the_way(step: Sparsify, done: float) -> Selection:
    if step.kept_of is None:
        return Selection((step.share or 0) * done, None)
    kept, of = step.kept_of
    return Selection(None, (of - removed_count(done, of - kept), of))


def _one_threshold(
    model: nn.Module, settings: Mapping[str, Sparsify], statistics: Statistics, done: float
) -> dict[str, Tensors]:
    """The least of all the layers' weights; a policy sees to it that they ask for the same."""
    share = next(iter(settings.values())).share or 0
    scores = {name: _scores(model, name, step, statistics) for name, step in settings.items()}
    everything = torch.cat([values.cpu().flatten() for values in scores.values()])
    gone = least(everything, removed_count(share * done, everything.numel()))
    found: dict[str, Tensors] = {}
    start = 0
    for name, values in scores.items():
        end = start + values.numel()
        found[name] = {"kept": ~gone[start:end].view(values.shape)}
        start = end
    return found


def _scores(model: nn.Module, name: str, step: Sparsify, statistics: Statistics) -> Tensor:
    """A score for each weight, in the weight's shape."""
    layer, weight = model.get_submodule(name), _weight(model, name).detach()
    magnitudes = weight.abs().to(torch.promote_types(weight.dtype, torch.float32))
    if step.criterion == "taylor":
        return magnitudes * statistics.gradients([name])[name].rms.to(weight.device)
    if step.criterion == "wanda":
        norms = input_groups(layer, statistics.inputs([name])[name].square.sqrt())
        blocks = as_blocks(layer, magnitudes)
        return as_weight(layer, blocks * norms.to(weight.device))
    return magnitudes
