"""Finds modules that can leave a model: what remains without them is a residual that goes on.

A block runs once, takes a tensor (and masks, or whatever else), returns one of the same shape,
alone or first in a tuple, and adds its own input within. Blocks do not overlap: the innermost are
listed, but a module that has one block within and layers beside it is the block instead, as a
transformer layer whose attention alone adds its input. Each survives a trial removal on a copy.
Modules whose input their caller adds are none: what is left of them would be zero, not their
input.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from compressors.modules import device_of, moved
from compressors.structures.skip import Skip
from compressors.structures.structure import Block
from compressors.structures.tracing import BEYOND, Call, Trace, output_shapes, tensors_in


def find_blocks(
    model: nn.Module, example: tuple[Tensor, ...], seen: Trace, layers: Iterable[str]
) -> tuple[Block, ...]:
    """The blocks that hold any of these layers, in the order in which they run."""
    names = list(layers)
    found = []
    for call in seen.calls:
        inside = tuple(name for name in names if name.startswith(f"{call.name}."))
        if call.name and inside and _keeps_shape(call) and len(seen.calls_of(call.module)) == 1:
            outputs = None if isinstance(call.output, Tensor) else len(call.output)
            found.append((Block(call.name, inside, outputs), call.module))
    return _that_can_go(model, example, _apart(found))


def _keeps_shape(call: Call) -> bool:
    output = call.output
    if isinstance(output, (tuple, list)) and type(output) is tuple and output:
        output = output[0]
    given = tensors_in((call.args, call.kwargs))
    return (
        call.residual
        and bool(given)
        and isinstance(output, Tensor)
        and output.shape == given[0].shape
        and output.dtype == given[0].dtype
    )


def _apart(found: list[tuple[Block, nn.Module]]) -> list[Block]:
    """Of blocks within blocks, those that are listed; inner ones come after outer ones."""
    chosen: list[Block] = []
    for block, module in reversed(found):
        within = [other for other in chosen if other.name.startswith(f"{block.name}.")]
        if not within:
            chosen.append(block)
        elif len(within) == 1 and _is_more(block, within[0], module):
            chosen[chosen.index(within[0])] = block
    return chosen[::-1]


def _is_more(outer: Block, inner: Block, module: nn.Module) -> bool:
    """Whether a module with code of its own does more than its one block."""
    return not isinstance(module, nn.Sequential) and set(outer.layers) > set(inner.layers)


def _that_can_go(
    model: nn.Module, example: tuple[Tensor, ...], blocks: list[Block]
) -> tuple[Block, ...]:
    """Those without which the model runs and returns what it did in shape."""
    if not blocks:
        return ()
    copy, args = deepcopy(model).eval(), moved(example, device_of(model))
    expected = output_shapes(copy, args)
    if _runs_without(copy, args, expected, blocks):
        return tuple(blocks)
    return tuple(block for block in blocks if _runs_without(copy, args, expected, [block]))


def _runs_without(
    model: nn.Module,
    args: tuple[Tensor, ...],
    expected: list[torch.Size],
    blocks: Iterable[Block],
) -> bool:
    places = [(*_place(model, block), block) for block in blocks]
    removed = [parent._modules[key] for parent, key, _ in places]
    try:
        for (parent, key, block), module in zip(places, removed, strict=True):
            assert module is not None
            parent._modules[key] = Skip(module, block.outputs)
        return output_shapes(model, args) == expected
    except BEYOND:
        return False
    finally:
        for (parent, key, _), module in zip(places, removed, strict=True):
            parent._modules[key] = module


def _place(model: nn.Module, block: Block) -> tuple[nn.Module, str]:
    parent, _, key = block.name.rpartition(".")
    return model.get_submodule(parent), key
