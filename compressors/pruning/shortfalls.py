"""Where zeroing weights does less, or other things, than a step asks for: in sentences.

Knows masks and the steps that they came from, and nothing of how weights are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from compressors.policies.steps import Sparsify
from compressors.pruning.masks import Masked
from compressors.pruning.weights import as_blocks


def shortfalls(
    masked: Mapping[str, Masked], settings: Mapping[str, Sparsify], judges: Mapping[str, str]
) -> Iterator[str]:
    """A sentence for each step that is not met by its mask, or was not asked.

    Whoever shares another layer's weight has that one as its judge.
    """
    for name, found in masked.items():
        if name in judges:
            yield (
                f"{name}: its weight is shared with {judges[name]}, whose sparsify step alone"
                " says what is zero in it"
            )
        elif name in settings:
            yield from _unmet(name, found, settings[name])


def _unmet(name: str, masked: Masked, step: Sparsify) -> Iterator[str]:
    kept, inputs = masked.kept, _inputs(masked.layer, masked.kept)
    asked = f"share {step.share:g}" if step.pattern is None else f"pattern {step.pattern}"
    few = step.kept_of is not None and inputs < step.kept_of[1]
    if bool(kept.all()):
        reason = f", as its rows have {inputs} inputs" if few else ""
        yield f"{name}: sparsify with {asked} zeroes none of its {kept.numel()} weights{reason}"
    elif step.kept_of is not None and inputs % step.kept_of[1]:
        left = inputs % step.kept_of[1]
        yield f"{name}: sparsify with {asked} leaves the last {left} of its {inputs} inputs dense"


def _inputs(layer: nn.Module, kept: Tensor) -> int:
    return as_blocks(layer, kept).shape[-1]
