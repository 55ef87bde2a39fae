"""Whether channels arrive where the dependency graph says that they do, tried with numbers.

The graph takes some reorderings (a channel shuffle) for none. Where every single channel can go
alone a trial removal shows it, as shapes then disagree; where channels go in bundles shapes may
agree by chance. So the outputs of all layers are held still but for some channels, and inputs
that change without being theirs are strays. Knows nothing of what is removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from compressors.structures.bundles import Side, is_depthwise
from compressors.structures.tracing import BEYOND, tensors_in

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding, nn.RNNBase)
_Values = dict[nn.Module, list[Any]]
_Changes = Mapping[nn.Module, Sequence[int]]  # indices of outputs, by module


def astray(
    model: nn.Module, args: tuple[Tensor, ...], groups: Mapping[str, Sequence[Side]]
) -> set[str]:
    """Of groups by their roots, those whose channels go elsewhere too; all where it fails."""
    if not groups:
        return set()
    try:
        return _astray(model, args, groups)
    except BEYOND:
        return set(groups)


def _astray(
    model: nn.Module, args: tuple[Tensor, ...], groups: Mapping[str, Sequence[Side]]
) -> set[str]:
    outputs, inputs = _run(model, args, {}, {})
    most = max(max(side.channels) for sides in groups.values() for side in sides)
    for bit in range(most.bit_length()):
        changed = _by_module(groups, bit, _writes)
        arriving = _by_module(groups, bit, _takes)
        _, now = _run(model, args, outputs, changed)
        for module, before in inputs.items():
            if module in now and _moved(module, before, now[module]) - set(arriving[module]):
                known = {r for r, sides in groups.items() if any(s.module is module for s in sides)}
                return known or set(groups)
    return set()


def _writes(side: Side) -> bool:
    return isinstance(side.module, _LAYERS) and not side.reads


def _takes(side: Side) -> bool:
    """Whether the indices are the module's inputs: also of norms, whose outputs are the same."""
    return side.reads or not isinstance(side.module, _LAYERS) or is_depthwise(side.module)


def _by_module(
    groups: Mapping[str, Sequence[Side]], bit: int, fits: Callable[[Side], bool]
) -> defaultdict[nn.Module, list[int]]:
    """Indices of the channels whose number has the bit."""
    found: defaultdict[nn.Module, list[int]] = defaultdict(list)
    for side in (side for sides in groups.values() for side in sides if fits(side)):
        pairs = zip(side.indices, side.channels, strict=True)
        found[side.module] += [index for index, channel in pairs if channel >> bit & 1]
    return found


@torch.no_grad()
def _run(
    model: nn.Module, args: tuple[Tensor, ...], held: _Values, changes: _Changes
) -> tuple[_Values, _Values]:
    """Outputs of layers and inputs of them and norms; what is held is given out in their place."""
    outputs: _Values = defaultdict(list)
    inputs: _Values = defaultdict(list)

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        inputs[module].append([tensor.clone() for tensor in tensors_in(given)])

    def after(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        del given
        place = len(outputs[module])
        value = held[module][place] if held else output
        outputs[module].append(_copied(value))
        return _changed(module, _copied(value), changes.get(module, ()))

    with ExitStack() as stack:
        for module in model.modules():
            if _dimension(module) is not None:
                stack.callback(module.register_forward_pre_hook(before).remove)
            if isinstance(module, _LAYERS):
                stack.callback(module.register_forward_hook(after).remove)
        model(*args)
    return outputs, inputs


def _copied(value: Any) -> Any:
    """A copy that in-place functions after the layer do not touch; tuples (of RNNs) as they are."""
    return value.clone() if isinstance(value, Tensor) else value


def _changed(module: nn.Module, value: Any, indices: Sequence[int]) -> Any:
    """The output with other values, all positive, in some channels."""
    if indices:
        dimension = _dimension(module)
        assert dimension is not None
        channels = value.movedim(dimension, 0)  # a view
        channels[list(indices)] = channels[list(indices)].abs() + 1
    return value


def _dimension(module: nn.Module) -> int | None:
    """Where the channels are, in what goes into the module and in what comes out."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return -1 - len(module.kernel_size)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return 1
    return -1 if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Embedding)) else None


def _moved(module: nn.Module, before: Iterable[Any], now: Iterable[Any]) -> set[int]:
    """The input channels that are not what they were."""
    dimension = _dimension(module)
    assert dimension is not None
    found: set[int] = set()
    for old, new in zip(before, now, strict=True):
        for one, other in zip(old, new, strict=True):
            rows = (one != other).movedim(dimension, 0).flatten(1).any(1)
            found.update(rows.nonzero().flatten().tolist())
    return found
