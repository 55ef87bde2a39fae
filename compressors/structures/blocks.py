"""Finds modules that can leave a model: what remains without them is a residual that goes on.

A block runs once, takes a tensor (and masks, or whatever else), returns one of the same shape,
alone or first in a tuple, and adds its own input within. Blocks do not overlap: the innermost are
listed, but a module that has one block within and adds more to what that gives out is the block
instead, as a transformer layer around its attention. Each survives a trial removal on a copy.
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
    chosen: dict[str, tuple[Block, Call]] = {}
    for call in reversed(seen.calls):  # what runs within a module comes after it
        inside = tuple(name for name in names if name.startswith(f"{call.name}."))
        if not (call.name and inside and _keeps_shape(call)) or len(seen.calls_of(call.module)) > 1:
            continue
        within = [name for name in chosen if name.startswith(f"{call.name}.")]
        inner = chosen[within[0]] if len(within) == 1 else None
        if (call.residual and not within) or (inner and _goes_on(call, inside, *inner, seen)):
            outputs = None if isinstance(call.output, Tensor) else len(call.output)
            chosen[call.name] = Block(call.name, inside, outputs), call
            for name in within:
                del chosen[name]
    order = [call.name for call in seen.calls]
    blocks = sorted((block for block, _ in chosen.values()), key=lambda b: order.index(b.name))
    return _that_can_go(model, example, blocks)


def _keeps_shape(call: Call) -> bool:
    first = call.output[0] if type(call.output) is tuple and call.output else call.output
    given = _given(call)
    return (
        given is not None
        and isinstance(first, Tensor)
        and first.shape == given.shape
        and first.dtype == given.dtype
    )


def _given(call: Call) -> Tensor | None:
    return next(iter(tensors_in((call.args, call.kwargs))), None)


def _goes_on(outer: Call, inside: tuple[str, ...], inner: Block, its: Call, seen: Trace) -> bool:
    """Whether a module does more than its one block, adding to what the block gave out."""
    given = its.output if inner.outputs is None else its.output[0]
    return (
        not isinstance(outer.module, nn.Sequential)
        and set(inside) > set(inner.layers)
        and (outer.residual or _given(outer) is _given(its))
        and seen.was_added(given)
    )


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
