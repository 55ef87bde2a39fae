"""What a compressed model's weights are in place of the original's, and how they differ.

A rounded weight, a product of factors and zeroed weights are compared as they are. Where channels
or heads have left, their weights count as zero in the layers that read them, and nowhere else:
that is all that their leaving does. Biases count too; batch norms taken anew do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.probing.cuts import as_zeros

Key = tuple[str, str]  # layer, parameter
Weights = dict[Key, Tensor]


@torch.no_grad()
def weights_of(model: nn.Module, original: nn.Module, names: Iterable[str]) -> Weights | None:
    """The layers' weights and biases, in the original's shapes; None where these are not clear.

    Left out is what the model does not call a layer, as inside an attention that stayed closed.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    found: Weights = {}
    for name in names:
        if name not in modules:
            continue
        before: Any = original.get_submodule(name)
        weight = as_zeros(modules[name].weight.detach(), before)
        if weight is None:
            return None
        found[name, "weight"] = weight
        bias = None if getattr(before, "bias", None) is None else modules[name].bias
        if bias is not None and bias.shape == before.bias.shape:
            found[name, "bias"] = bias.detach()
    return found


def difference(found: Weights, start: Weights) -> Weights:
    """What was added to the weights that are not the same any more."""
    return {
        key: tensor - start[key]
        for key, tensor in found.items()
        if key in start and not torch.equal(tensor, start[key])
    }
