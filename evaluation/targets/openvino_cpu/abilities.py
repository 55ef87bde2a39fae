"""What OpenVINO's CPU kernels carry out, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from compressors.policies.steps import AFFINE
from compressors.record import LayerKind, LayerRecord
from evaluation.target import FLOAT, INT8, Capability, Formats, Precision

_W8, _W4 = Precision(8, None), Precision(4, None)
_NARROW = tuple(Precision(bits, None) for bits in (7, 6, 5, 3, 2))
_ANY = (_W8, _W4, *_NARROW)
_STORED: dict[LayerKind, tuple[Precision, ...]] = {
    "linear": _NARROW,
    "conv2d": _ANY,
    "conv1d": _ANY,
    "conv_transpose2d": _ANY,
    "embedding": _ANY,
}


@dataclass(frozen=True)
class Abilities(Capability):
    """A table whose groups must fill a linear layer's rows."""

    def refusal(self, layer: LayerRecord) -> str | None:
        """What cannot be carried out of a layer, with the valid choices; None: nothing."""
        said = super().refusal(layer)
        found = re.fullmatch(r"group(\d+)", layer.granularity or "")
        if said is not None or found is None or layer.weight_bits is None:
            return said
        inputs, group = layer.in_channels, int(found[1])
        if inputs % group == 0 or inputs < group:
            return None
        return f"with groups of {group}; valid: those that divide its {inputs} inputs"


TABLE = Abilities(
    {
        "linear": (FLOAT, INT8, _W8, _W4),
        "conv2d": (FLOAT, INT8),
        "conv1d": (FLOAT,),
        "conv_transpose2d": (FLOAT,),
        "embedding": (FLOAT,),
    },
    channel_multiple=8,
    formats={
        (kind, precision): Formats(AFFINE, ("channel", "tensor", "group"))
        if kind == "linear"
        else Formats(AFFINE)
        for kind in _STORED
        for precision in _ANY
    },
    stored=_STORED,
)


def table(*, storage_only: bool) -> Capability:
    """The table; with `storage_only`, widths without a kernel are taken too."""
    return replace(TABLE, storage_only=storage_only)
