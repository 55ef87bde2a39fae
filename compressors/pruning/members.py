"""The members of a channel group by what they do: read the channels, norm them, pass them on.

Knows what a member's weights are, and nothing of what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from compressors.pruning.columns import MOST_COLUMNS, column_count, sees_columns
from compressors.pruning.plan import Part

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
    first = part.reads == transposed or is_depthwise(layer)  # whether it is the part's dimension
    rows = values if first else values.transpose(0, 1)
    return rows.flatten(1)[torch.tensor(part.indices, device=rows.device)].float()


def is_depthwise(module: nn.Module) -> bool:
    """Whether each channel has a kernel of its own."""
    return isinstance(module, CONVOLUTIONS) and 1 < module.groups == module.out_channels


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


def readers_in_columns(model: nn.Module, parts: Iterable[Part]) -> list[Part]:
    """Readers whose inputs calibration sees as columns of the weight."""
    return of_kind(model, parts, lambda part, module: part.reads and sees_columns(module))


def correlated(model: nn.Module, parts: Iterable[Part]) -> list[Part]:
    """Readers with few enough columns for a Gram matrix."""
    readers = readers_in_columns(model, parts)
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
