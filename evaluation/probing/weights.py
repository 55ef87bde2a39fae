"""What a compressed model's weights are in place of the original's, and how they differ.

A rounded weight, a product of factors and zeroed weights are compared as they are. Where channels
or heads have left, their weights count as zero in the layers that read them, and nowhere else:
that is all that their leaving does, unless something else mixes them, such as a layer norm; then
nothing is said. Biases count too; batch norms taken anew do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from compressors.modules import channels
from compressors.policies.policy import Policy
from compressors.stack import Stack
from compressors.structures.attention import open_attentions
from evaluation.probing.cuts import as_zeros
from evaluation.probing.together import changes_weights_alone, grouped

Key = tuple[str, str]  # layer, parameter
Weights = dict[Key, Tensor]
BY_CHANNEL = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)


def original(stack: Stack) -> nn.Module:
    """A copy of the uncompressed model, every layer of it where the structure says."""
    model = deepcopy(stack.apply(Policy()).module).eval()
    open_attentions(model)
    return model


def weight_changes(
    stack: Stack,
    policies: Sequence[Policy],
    around: Policy,
    model: nn.Module,
    on_step: Callable[[], None] = lambda: None,
) -> list[Weights | None]:
    """What each policy adds to the weights of `around`; None where that is not all it does.

    In the shapes of the uncompressed model, which is given; patterns must have been expanded.
    """
    layers = [layer.name for layer in stack.structure.layers]
    base = stack.apply(around)
    known = weights_of(base.module, model, layers)
    found: list[Weights | None] = [None] * len(policies)
    if known is None:
        return found
    start = (weights_of(model, model, layers) or {}) | known
    wanted = [i for i, policy in enumerate(policies) if changes_weights_alone(policy, around)]
    for group in grouped([policies[index] for index in wanted], around):
        on_step()
        made = stack.apply(group.policy)
        for place, changed in group.layers.items():
            weights = weights_of(made.module, model, layers if changed is None else changed)
            if weights is None or (changed is None and _cuts_elsewhere(made.module, model, layers)):
                continue
            change = difference(weights, start)
            if change or made.record.parameters == base.record.parameters:
                found[wanted[place]] = change
    return found


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
        bias = getattr(modules[name], "bias", None)
        if bias is not None and len(bias) == outputs_of(before):
            found[name, "bias"] = bias.detach()
    return found


def _cuts_elsewhere(model: nn.Module, original: nn.Module, layers: Sequence[str]) -> bool:
    """Whether channels left what is no layer and treats them not one by one, as layer norms do."""
    modules = dict(model.named_modules())
    for name, before in original.named_modules():
        if name in layers or name not in modules or isinstance(before, BY_CHANNEL):
            continue
        for key, parameter in before.named_parameters(recurse=False):
            after = getattr(modules[name], key, parameter)
            if after is not None and after.shape != parameter.shape:
                return True
    return False


def outputs_of(layer: Any) -> int:
    """How many output channels a layer has."""
    return channels(layer)[1]


def difference(found: Weights, start: Weights) -> Weights:
    """What was added to the weights that are not the same any more; a new bias was zero."""
    before = {key: start.get(key, torch.zeros_like(tensor)) for key, tensor in found.items()}
    return {
        key: tensor - before[key]
        for key, tensor in found.items()
        if not torch.equal(tensor, before[key])
    }
