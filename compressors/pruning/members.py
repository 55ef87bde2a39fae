"""The members of a channel group by what they do: read the channels, norm them, pass them on.

Knows what a member's weights are, and nothing of what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from compressors.pruning.columns import MOST_COLUMNS, column_count, multiplies, sees_columns
from compressors.pruning.plan import Part
from compressors.structures.bundles import Side, is_depthwise

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)


def weight_of(model: nn.Module, part: Part) -> Tensor:
    """The member's weight, without its history."""
    weight = model.get_submodule(part.name).weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def slices(model: nn.Module, part: Part, values: Tensor) -> Tensor:
    """Of a weight or what has its shape: a row for each index of the part."""
    layer = model.get_submodule(part.name)
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d))
    first = part.reads == transposed or is_depthwise(layer)  # whether the part's rows are first
    rows = values if first else _by_input(layer, values)
    return rows.flatten(1)[torch.tensor(part.indices, device=rows.device)].float()


def _by_input(layer: nn.Module, values: Tensor) -> Tensor:
    """A weight with its inputs first: each meets the outputs of its own group alone."""
    groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
    split = values.reshape(groups, len(values) // groups, *values.shape[1:])
    return split.transpose(1, 2).flatten(0, 1)


def sides(model: nn.Module, parts: Iterable[Part]) -> list[Side]:
    """What the modules among the parts lose with which channels."""
    return [
        Side(model.get_submodule(part.name), part.reads, part.indices, part.channels)
        for part in parts
        if not part.bare
    ]


def of_kind(
    model: nn.Module, parts: Iterable[Part], fits: Callable[[Part, nn.Module], bool]
) -> list[Part]:
    """The parts whose module fits; bare parameters never do."""
    modules = [part for part in parts if not part.bare]
    return [part for part in modules if fits(part, model.get_submodule(part.name))]


def weighed(model: nn.Module, parts: Iterable[Part]) -> list[Part]:
    """Readers of any kind that has a weight of its own."""
    kinds = (nn.Linear, *CONVOLUTIONS)
    return of_kind(
        model,
        parts,
        lambda part, module: (
            part.reads and isinstance(module, kinds) and "weight" in module._parameters
        ),
    )


def multiplied(model: nn.Module, parts: Iterable[Part]) -> list[Part]:
    """Readers that multiply what they read with a weight, in groups or not."""
    return of_kind(model, parts, lambda part, module: part.reads and multiplies(module))


def correlated(model: nn.Module, parts: Iterable[Part]) -> list[Part]:
    """Readers with few enough columns for a Gram matrix."""
    readers = of_kind(model, parts, lambda part, module: part.reads and sees_columns(module))
    return [p for p in readers if column_count(model.get_submodule(p.name)) <= MOST_COLUMNS]


def where_read(model: nn.Module, parts: Iterable[Part]) -> list[Part]:
    """Readers, and the depthwise convolutions that the channels pass through."""
    kinds = (nn.Linear, *CONVOLUTIONS)
    return of_kind(
        model,
        parts,
        lambda part, module: (part.reads and isinstance(module, kinds)) or is_depthwise(module),
    )


def has_scale(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether the module is of one of the kinds and has a factor for each channel."""
    return isinstance(module, kinds) and isinstance(getattr(module, "weight", None), Tensor)


def scale_of(model: nn.Module, part: Part) -> Tensor:
    """The magnitudes of a norm's factors."""
    return weight_of(model, part).float().abs()[..., list(part.indices)]
