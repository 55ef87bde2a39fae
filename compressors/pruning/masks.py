"""Which weights are zero because they were set so, and must stay so while others are trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.pruning.weights import as_blocks


@dataclass(frozen=True, eq=False)
class Masked:
    """A layer and the mask of its weight: true where a weight is kept."""

    layer: nn.Module
    kept: Tensor

    @torch.no_grad()
    def hold(self) -> None:
        """Set what is not kept to exactly zero."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        weight.masked_fill_(~self.kept.to(weight.device), 0)

    def obeys(self, kept: int, of: int) -> bool:
        """Whether all inputs lie in windows of m, none of which keeps more than n."""
        blocks = as_blocks(self.layer, self.kept)
        if blocks.shape[-1] % of:
            return False
        return bool((blocks.reshape(-1, of).sum(1) <= kept).all())


class Masks:
    """The masks of a model's layers, by the paths they had when they were made.

    They belong to the layers themselves, wherever these move in the model; copied together with
    the model (`deepcopy` of both at once), they belong to the copy.
    """

    def __init__(self, masked: Mapping[str, Masked], notes: Iterable[str] = ()) -> None:
        self._masked = dict(masked)
        self.notes = tuple(notes)  # on what was asked for and is not so

    @property
    def names(self) -> tuple[str, ...]:
        """The layers that have masks."""
        return tuple(self._masked)

    def of(self, name: str) -> Tensor | None:
        """The mask of a layer's weight, true where a weight is kept, or None."""
        masked = self._masked.get(name)
        return None if masked is None else masked.kept

    def sparsity(self, name: str) -> float:
        """The share of a layer's weights that are zero because they were set so."""
        kept = self.of(name)
        return 0.0 if kept is None else 1 - int(kept.sum()) / kept.numel()

    def obeys(self, name: str, kept: int, of: int) -> bool:
        """Whether a layer's weights keep no more than n of every m inputs, all of them so."""
        masked = self._masked.get(name)
        return masked is not None and masked.obeys(kept, of)

    def hold(self) -> None:
        """Set every masked weight to exactly zero again, as after an optimiser's step."""
        for masked in self._masked.values():
            masked.hold()
