"""What a record says was done to a layer, in words for a person.

Reads records as JSON, of older studies too, which lack what came later. Plain cases are short:
a format, granularity or rounding is named where it is not the usual one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compressors.policies.steps import InputFormat
from evaluation.target import STORED, Precision

Layer = Mapping[str, Any]
USUAL_INPUTS: InputFormat = "affine"
_USUAL = {"weight_function": "symmetric", "granularity": "channel", "rounding": "nearest"}


def weights(layer: Layer) -> str:
    """`float`, `8-bit`, `4-bit kmeans group32 gptq`."""
    bits = layer["weight_bits"]
    if not bits:
        return "float"
    said = [str(layer.get(key) or usual) for key, usual in _USUAL.items()]
    unusual = [word for word, usual in zip(said, _USUAL.values(), strict=True) if word != usual]
    return " ".join([f"{bits}-bit", *unusual])


def activations(layer: Layer) -> str:
    """`float`, `8-bit`, `8-bit e4m3`, `8-bit dynamic`, `8-bit signed`."""
    bits = layer["activation_bits"]
    words = ("dynamic", "signed", "by_row")
    inputs = layer.get("inputs") or USUAL_INPUTS
    said = [f"{bits}-bit", *([inputs] if inputs != USUAL_INPUTS else [])]
    said += [*(word.replace("_", " ") for word in words if layer.get(word))]
    return " ".join(said) if bits else "float"


def zeros(layer: Layer) -> str:
    """`50 % (2:4)`, `80 %`; empty where no weight was made zero."""
    share, pattern = layer.get("sparsity") or 0.0, layer.get("pattern")
    if not share and not pattern:
        return ""
    return f"{100 * share:.0f} %" + (f" ({pattern})" if pattern else "")


def heads(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Attentions that lost heads, with how many are left: `4 of 8`."""
    found = record.get("attentions") or ()
    return [
        (
            str(attention["name"]),
            f"{attention['heads'] - attention['removed_heads']} of {attention['heads']}",
        )
        for attention in found
        if attention["removed_heads"]
    ]


def simulated(layers: Sequence[Layer]) -> list[str]:
    """The steps that change numbers here and no cost, in order, each once."""
    return list(dict.fromkeys(step for layer in layers for step in layer.get("simulated") or ()))


def simulated_parts(layers: Sequence[Layer]) -> str:
    """Of which layers which parts: `activations of w4a8 and w8a8 layers, zeros of float layers`."""
    found: dict[str, dict[str, None]] = {}
    for layer in layers:
        for step in simulated([layer]):
            found.setdefault(_part(step, layer), {})[_precision(layer)] = None
    return ", ".join(f"{part} of {_listed(list(what))} layers" for part, what in found.items())


def _part(step: str, layer: Layer) -> str:
    if step == "sparsify":
        return f"{layer['pattern']} zeros" if layer.get("pattern") else "zeros"
    if step == STORED:
        return "weights (fewer bytes alone)"
    return step.removeprefix("quantize.")


def _precision(layer: Layer) -> str:
    bits = layer["weight_bits"] or None, layer["activation_bits"] or None
    return str(Precision(*bits, layer.get("inputs") or USUAL_INPUTS))


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
