"""The thinner layers that stand for one layer, in a row at its path: `fc.0`, `fc.1`.

Knows nothing of how they came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressors.modules import keep_calls


class Factorised(nn.Sequential):
    """The parts; reads as the layer did for models that look at its weight, bias and extents.

    `product` is how the parts' weights multiply to the layer's, as `einsum` writes it.
    """

    def __init__(self, parts: Sequence[nn.Module], product: str, layer: nn.Module) -> None:
        super().__init__(*parts)
        self.facts = _facts(layer)
        self.product = product
        keep_calls(self)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The layer's output; transposed convolutions may be asked for a size."""
        x = input
        for part in self:
            sized = output_size is not None and isinstance(part, nn.ConvTranspose2d)
            x = part(x, output_size) if sized else part(x)
        return x

    def __getattr__(self, name: str) -> Any:
        """A plain attribute of the layer, such as `in_features`."""
        facts = self.__dict__.get("facts", {})
        return facts[name] if name in facts else super().__getattr__(name)

    @property
    def weight(self) -> Tensor:
        """The product of the parts, shaped as the layer's weight."""
        return torch.einsum(self.product, *(part.weight for part in self))

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias, which the last part has."""
        bias = self[-1].bias
        assert bias is None or isinstance(bias, Tensor)
        return bias


def _facts(layer: nn.Module) -> dict[str, Any]:
    """What the layer says of itself; modules' own machinery and their mode are not of it."""
    return {
        name: value
        for name, value in vars(layer).items()
        if not name.startswith("_") and name != "training"
    }


def before_parts(
    layer: str, factorised: Factorised
) -> dict[str, tuple[str, nn.Module | None, nn.Module]]:
    """For each part by path: the layer, what its input has gone through until there, the part."""
    parts = list(factorised)
    return {
        f"{layer}.{index}": (layer, nn.Sequential(*parts[:index]) if index else None, part)
        for index, part in enumerate(parts)
    }
