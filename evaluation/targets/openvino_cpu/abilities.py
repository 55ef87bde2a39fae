"""What OpenVINO's CPU kernels carry out, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compressors.record import LayerRecord
from evaluation.target import DEFAULT_FUNCTION, FLOAT, INT8, Capability, Precision

PACKED = (Precision(8, None), Precision(4, None))
WHOLE = ("channel", "tensor")


@dataclass(frozen=True)
class Abilities(Capability):
    """Besides the table: integer kernels know symmetric weights in whole rows alone."""

    def refusal(self, layer: LayerRecord) -> str | None:
        """What cannot be carried out of a layer, with the valid choices; None: nothing."""
        return super().refusal(layer) or _of_integers(layer) or _of_groups(layer)


def _of_integers(layer: LayerRecord) -> str | None:
    if layer.weight_bits is None or layer.activation_bits is None:
        return None
    function = layer.weight_function or DEFAULT_FUNCTION
    if function != DEFAULT_FUNCTION:
        return f"in integers with function {function}; valid there: {DEFAULT_FUNCTION}"
    if layer.granularity not in (None, *WHOLE):
        return f"in integers with granularity {layer.granularity}; valid there: {', '.join(WHOLE)}"
    return None


def _of_groups(layer: LayerRecord) -> str | None:
    found = re.fullmatch(r"group(\d+)", layer.granularity or "")
    if found is None or layer.in_channels % int(found[1]) == 0 or layer.in_channels < int(found[1]):
        return None
    return (
        f"with granularity {layer.granularity}; valid: groups that divide its"
        f" {layer.in_channels} inputs, or {', '.join(WHOLE)}"
    )


CAPABILITY = Abilities(
    {
        "linear": (FLOAT, INT8, *PACKED),
        "conv2d": (FLOAT, INT8),
        "conv1d": (FLOAT,),
        "conv_transpose2d": (FLOAT,),
        "embedding": (FLOAT,),
    },
    channel_multiple=8,
    functions={"symmetric": (8, 4), "asymmetric": (8, 4)},
    granularities=(*WHOLE, "group"),
)
