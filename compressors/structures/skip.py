"""What stands in the place of a removed block.

Knows nothing of which blocks can go.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn

from compressors.structures.tracing import tensors_in

_PLAIN = (bool, int, float, str, type(None))


class Skip(nn.Module):
    """Gives out what it takes in, and may be called with whatever else the block took.

    Where the block returned a tuple of `outputs` items, what it takes in comes first in one like
    it. The plain attributes of the block and of the modules within can still be read: models ask
    their first layer how they are to call all of them.
    """

    def __init__(self, block: nn.Module, outputs: int | None = None) -> None:
        super().__init__()
        self.outputs = outputs
        self.facts = _facts(block)

    def __getattr__(self, name: str) -> Any:
        """An attribute of the removed block, where this module has none of that name."""
        facts = self.__dict__.get("facts")
        if hasattr(facts, name):
            return getattr(facts, name)
        return super().__getattr__(name)

    def forward(self, *args: object, **kwargs: object) -> object:
        """The block's input."""
        given = tensors_in((args, kwargs))[0]
        return given if self.outputs is None else (given, *[None] * (self.outputs - 1))


def _facts(module: nn.Module) -> SimpleNamespace:
    facts = {name: value for name, value in vars(module).items() if isinstance(value, _PLAIN)}
    facts.pop("training")
    children = {name: _facts(child) for name, child in module.named_children()}
    return SimpleNamespace(**facts, **children)
