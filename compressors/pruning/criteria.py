"""How much the channels of a group matter, by every criterion that a policy can name.

Members of a group are the layers that write its channels, the norms in between, and the layers
that read them. What is read off calibration data is of the readers: there a channel's removal
takes effect, whatever lies before. Scores of members are averaged, each divided by its own mean
where members have different units (activation, zeros, wanda and hessian). Knows no counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from compressors.calibration.statistics import Statistics
from compressors.policies.steps import Criterion
from compressors.pruning.columns import MOST_COLUMNS, columns_of
from compressors.pruning.members import (
    BATCH_NORMS,
    CONVOLUTIONS,
    correlated,
    has_scale,
    multiplied,
    of_kind,
    scale_of,
    slices,
    weighed,
    weight_of,
    where_read,
)
from compressors.pruning.obs import column_saliencies, damped_inverse
from compressors.pruning.plan import Part
from compressors.structures.bundles import is_depthwise

Scored = tuple[Part, Tensor]  # a member and the scores of its indices


class _Scorer(Protocol):
    def __call__(
        self, model: nn.Module, parts: tuple[Part, ...], statistics: Statistics
    ) -> list[Scored]: ...


def importance(
    model: nn.Module,
    parts: tuple[Part, ...],
    channels: int,
    criterion: Criterion,
    statistics: Statistics,
) -> tuple[Tensor, str | None]:
    """A score for each channel, and a sentence where another criterion had to be taken."""
    scored = _SCORERS[criterion](model, parts, statistics)
    if scored:
        return _mean(scored, channels, normalised=criterion in _OWN_UNITS), None
    fallback = _magnitudes(2)(model, parts, statistics) or _any_weights(model, parts)
    why = f"channels judged by l2 in place of {criterion}, as {_WHY_NOT[criterion]}"
    return _mean(fallback, channels, normalised=False), why


def prepare(
    model: nn.Module, groups: Iterable[tuple[Criterion, tuple[Part, ...]]], statistics: Statistics
) -> None:
    """Collect what the criteria of several groups need in as few passes as can be."""
    inputs: list[str] = []
    grams: list[str] = []
    gradients: list[str] = []
    for criterion, parts in groups:
        if criterion in ("activation", "zeros"):
            inputs += [part.name for part in where_read(model, parts)]
        elif criterion == "wanda":
            inputs += [part.name for part in multiplied(model, parts)]
        elif criterion == "hessian":
            grams += [part.name for part in correlated(model, parts)]
        elif criterion == "taylor":
            gradients += [part.name for part in weighed(model, parts)]
    for names, collect in (
        (inputs, statistics.inputs),
        (grams, statistics.grams),
        (gradients, statistics.gradients),
    ):
        if names:
            collect(list(dict.fromkeys(names)))


def _mean(scored: list[Scored], channels: int, *, normalised: bool) -> Tensor:
    total = torch.zeros(channels, dtype=torch.float64)
    for part, scores in scored:
        scores = scores.detach().cpu().double()
        own = torch.zeros(channels, dtype=torch.float64)
        own.index_add_(0, torch.tensor(part.channels), scores)
        total += own / own.mean() if normalised and float(own.mean()) > 0 else own
    return total / len(scored)


def _magnitudes(norm: int) -> _Scorer:
    """As Torch-Pruning's group magnitude: depthwise kernels and embeddings have no say."""

    def score(model: nn.Module, parts: tuple[Part, ...], statistics: Statistics) -> list[Scored]:
        del statistics
        layers = of_kind(
            model,
            parts,
            lambda _, m: isinstance(m, (nn.Linear, *CONVOLUTIONS)) and not is_depthwise(m),
        )
        norms = of_kind(model, parts, lambda _, m: has_scale(m, (*BATCH_NORMS, nn.LayerNorm)))
        found = [(p, slices(model, p, weight_of(model, p)).abs().pow(norm).sum(1)) for p in layers]
        return found + [(p, scale_of(model, p).pow(norm)) for p in norms]

    return score


def _any_weights(model: nn.Module, parts: tuple[Part, ...]) -> list[Scored]:
    """Where nothing else has a say: the weights of whatever writes the channels."""
    tables = of_kind(model, parts, lambda _, module: isinstance(module, nn.Embedding))
    depthwise = of_kind(model, parts, lambda _, module: is_depthwise(module))
    found = [(p, weight_of(model, p).float()[:, list(p.indices)].square().sum(0)) for p in tables]
    return found + [(p, slices(model, p, weight_of(model, p)).square().sum(1)) for p in depthwise]


def _batchnorm(model: nn.Module, parts: tuple[Part, ...], statistics: Statistics) -> list[Scored]:
    del statistics
    norms = of_kind(model, parts, lambda _, module: has_scale(module, BATCH_NORMS))
    return [(part, scale_of(model, part)) for part in norms]


def _activation(model: nn.Module, parts: tuple[Part, ...], statistics: Statistics) -> list[Scored]:
    readers = where_read(model, parts)
    inputs = statistics.inputs([part.name for part in readers]) if readers else {}
    return [(part, inputs[part.name].magnitude[list(part.indices)]) for part in readers]


def _zeros(model: nn.Module, parts: tuple[Part, ...], statistics: Statistics) -> list[Scored]:
    readers = where_read(model, parts)
    inputs = statistics.inputs([part.name for part in readers]) if readers else {}
    return [(part, 1 - inputs[part.name].zeros[list(part.indices)]) for part in readers]


def _taylor(model: nn.Module, parts: tuple[Part, ...], statistics: Statistics) -> list[Scored]:
    """The mean square, over batches, of each weight's first-order change of the loss, summed.

    Not the sum of signed changes by the mean gradient: that vanishes where training has ended.
    Read off the columns that meet the channel, as a norm hides the scale of what is before it.
    """
    readers = weighed(model, parts)
    gradients = statistics.gradients([part.name for part in readers]) if readers else {}
    scored = []
    for part in readers:
        weight = weight_of(model, part)
        change = weight.float() * gradients[part.name].rms.to(weight.device)
        scored.append((part, slices(model, part, change).square().sum(1)))
    return scored


def _wanda(model: nn.Module, parts: tuple[Part, ...], statistics: Statistics) -> list[Scored]:
    readers = multiplied(model, parts)
    inputs = statistics.inputs([part.name for part in readers]) if readers else {}
    scored = []
    for part in readers:
        magnitudes = slices(model, part, weight_of(model, part)).abs().sum(1)
        norms = inputs[part.name].square.sqrt().to(magnitudes.device)
        scored.append((part, magnitudes * norms[list(part.indices)]))
    return scored


def _hessian(model: nn.Module, parts: tuple[Part, ...], statistics: Statistics) -> list[Scored]:
    """How much a reader's output changes at least when the channel's columns go."""
    readers = correlated(model, parts)
    grams = statistics.grams([part.name for part in readers]) if readers else {}
    scored = []
    for part in readers:
        layer = model.get_submodule(part.name)
        matrix = weight_of(model, part).cpu().double().flatten(1)
        inverse = damped_inverse(grams[part.name][0])
        together, scores = part.by_channel(), torch.zeros(len(part.indices), dtype=torch.float64)
        for width in {len(places) for places in together}:  # places of a channel's indices
            places = torch.tensor([found for found in together if len(found) == width])
            columns = columns_of(layer, part.indices)[places].flatten(1)
            scores[places[:, 0]] = column_saliencies(matrix, inverse, columns)
        scored.append((part, scores))
    return scored


_OWN_UNITS = ("activation", "zeros", "wanda", "hessian")
_SCORERS: Mapping[Criterion, _Scorer] = {
    "l1": _magnitudes(1),
    "l2": _magnitudes(2),
    "batchnorm": _batchnorm,
    "activation": _activation,
    "zeros": _zeros,
    "taylor": _taylor,
    "wanda": _wanda,
    "hessian": _hessian,
}
_NO_READER = "no linear layer or convolution reads them"
_WHY_NOT: Mapping[Criterion, str] = {
    "l1": "no member has weights",
    "l2": "no member has weights",
    "batchnorm": "the group has no batch norm",
    "activation": _NO_READER,
    "zeros": _NO_READER,
    "taylor": _NO_READER,
    "wanda": "no linear, conv1d or conv2d layer reads them",
    "hessian": (
        f"no linear, conv1d or conv2d layer of one group and at most {MOST_COLUMNS} columns"
        " reads them"
    ),
}
