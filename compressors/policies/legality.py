"""Which step a layer of a model can take, and the sentence that says why where it cannot.

One function a step kind, from the step and the structure to a reason or None. Knows a model's
structure only as data.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from compressors.errors import choices
from compressors.policies.steps import LowRank, Quantize, Sparsify
from compressors.structures.structure import Layer, Structure

Reason = str | None
INPUTS_SEEN = ("linear", "conv1d", "conv2d")  # kinds whose inputs calibration can correlate


def refusal(step: str, value: Any, name: str, structure: Structure) -> Reason:
    """Why the layer (or attention) of that name cannot take the step; None where it can."""
    return _RULES[step](value, name, structure)


def _prune(_: Any, name: str, structure: Structure) -> Reason:
    group = structure.group_of(name)
    roots = [group.root for group in structure.groups]
    if group is None:
        return (
            "its output channels must stay as they are;"
            f" valid: {choices(roots) or 'none in this model'}"
        )
    if group.root != name:
        return (
            f"its channels go with those of '{group.root}', the first of its group; give it there"
        )
    return None


def _heads(_: Any, name: str, structure: Structure) -> Reason:
    names = [attention.name for attention in structure.attentions]
    if name in names:
        return None
    return f"it is no attention; valid: {choices(names) or 'none in this model'}"


def _lowrank(step: LowRank, name: str, structure: Structure) -> Reason:
    layer = structure.layer(name)
    if layer is None:
        return _no_layer(name)
    if layer.groups != 1:
        return f"it has {layer.groups} groups; valid: layers of one group"
    if step.form != "channel" and (layer.kind != "conv2d" or prod(layer.kernel) == 1):
        return f"form {step.form} is for a conv2d with a kernel larger than 1 x 1; valid: channel"
    if step.aware and layer.kind not in INPUTS_SEEN:
        return f"aware is for {choices(INPUTS_SEEN)}, and it is {_article(layer)}; valid: false"
    return None


def _sparsify(step: Sparsify, name: str, structure: Structure) -> Reason:
    layer = structure.layer(name)
    if layer is None:
        return _no_layer(name)
    if step.criterion in ("wanda", "hessian") and layer.kind not in INPUTS_SEEN:
        return (
            f"the criterion {step.criterion} is for {choices(INPUTS_SEEN)}, and it is"
            f" {_article(layer)}; valid: magnitude, taylor"
        )
    return None


def _quantize(step: Quantize, name: str, structure: Structure) -> Reason:
    layer = structure.layer(name)
    if layer is None:
        return _no_layer(name)
    if layer.kind == "embedding" and step.activations is not None:
        return "an embedding reads whole numbers; valid: activations float"
    if step.rounding != "nearest" and layer.kind not in INPUTS_SEEN:
        return (
            f"rounding {step.rounding} is for {choices(INPUTS_SEEN)}, and it is"
            f" {_article(layer)}; valid: nearest"
        )
    if layer.kind == "embedding" and step.bias_correction:
        return "an embedding has no sums to make good; valid: bias_correction false"
    if step.by_row and layer.kind != "linear":
        return f"by_row is for linear layers, and it is {_article(layer)}; valid: false"
    if step.smooth and layer.kind != "linear":
        return f"smooth is for linear layers, and it is {_article(layer)}; valid: 0"
    return None


def _no_layer(name: str) -> str:
    return f"'{name}' is an attention, which takes heads alone; its layers take the rest"


def _article(layer: Layer) -> str:
    return f"{'an' if layer.kind[0] in 'aeiou' else 'a'} {layer.kind}"


_RULES: dict[str, Callable[[Any, str, Structure], Reason]] = {
    "prune": _prune,
    "heads": _heads,
    "lowrank": _lowrank,
    "sparsify": _sparsify,
    "quantize": _quantize,
}
