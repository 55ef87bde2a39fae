"""Policies drawn at random for a structure: most of them legal, some of them not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy, Recovery, Rounds
from compressors.policies.steps import (
    FUNCTION_BITS,
    Heads,
    LowRank,
    Prune,
    Quantize,
    Sparsify,
)
from compressors.structures.structure import Layer, Structure

Draw = Callable[[st.SearchStrategy[Any]], Any]
SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.95])
CRITERIA = st.sampled_from(
    ["l1", "l2", "batchnorm", "activation", "zeros", "taylor", "wanda", "hessian"]
)
GRAINS = st.sampled_from(
    [
        {"granularity": "channel"},
        {"granularity": "tensor"},
        *({"granularity": "group", "group": size} for size in (3, 8, 32)),
    ]
)
HEAD_CRITERIA = st.sampled_from(["l1", "l2", "activation", "taylor", "wanda"])
WEIGHT_CRITERIA = st.sampled_from(["magnitude", "taylor", "wanda", "hessian"])


def policies(structure: Structure) -> st.SearchStrategy[Policy | str]:
    """A policy, or the sentence with which its building was refused."""

    @st.composite
    def drawn(draw: Draw) -> Policy | str:
        try:
            return _policy(draw, structure)
        except UserError as error:
            return str(error)

    return drawn()


def _policy(draw: Draw, structure: Structure) -> Policy:
    blocks = [block.name for block in structure.blocks]
    removed = draw(st.sets(st.sampled_from(blocks), max_size=2)) if blocks else set()
    gone = {name for block in structure.blocks if block.name in removed for name in block.layers}
    inside = tuple(f"{name}." for name in removed)
    entries = []
    for layer in structure.layers:
        careless = draw(st.integers(0, 30)) == 0
        if draw(st.booleans()) or (layer.name in gone and not careless):
            continue
        entries.append(_entry(draw, layer, structure, careless))
    for attention in structure.attentions:
        if draw(st.booleans()) and not f"{attention.name}.".startswith(inside or ("\n",)):
            heads = Heads(draw(SHARES), draw(HEAD_CRITERIA), draw(st.booleans()))
            entries.append(LayerPolicy(attention.name, heads=heads))
    return Policy(
        remove=tuple(removed),
        layers=tuple(entries),
        equalize=draw(st.integers(0, 3)) == 0,
        rounds=_rounds(draw),
        recovery=_recovery(draw),
    )


def _entry(draw: Draw, layer: Layer, structure: Structure, careless: bool) -> LayerPolicy:
    group = structure.group_of(layer.name)
    root = group is not None and group.root == layer.name
    thin = layer.groups == 1
    return LayerPolicy(
        layer.name,
        prune=_prune(draw) if (root or careless) and draw(st.booleans()) else None,
        lowrank=_lowrank(draw, layer, careless) if thin and draw(st.integers(0, 3)) == 0 else None,
        sparsify=_sparsify(draw) if draw(st.integers(0, 2)) == 0 else None,
        quantize=_quantize(draw, layer, careless) if draw(st.booleans()) else None,
    )


def _prune(draw: Draw) -> Prune:
    return Prune(
        draw(SHARES), draw(CRITERIA), draw(st.sampled_from([1, 2, 8])), draw(st.booleans())
    )


def _lowrank(draw: Draw, layer: Layer, careless: bool) -> LowRank:
    size = draw(
        st.sampled_from(
            [{"ratio": 0.5}, {"ratio": 0.1}, {"ratio": 1.0}, {"energy": 0.7}, {"rank": 2}]
        )
    )
    square = layer.kind == "conv2d" and layer.kernel != (1, 1)
    forms = ["channel", "spatial", "tucker"] if square or careless else ["channel"]
    form = draw(st.sampled_from(forms))
    can_be_aware = layer.kind in ("linear", "conv1d", "conv2d") and form != "tucker"
    return LowRank(**size, form=form, aware=draw(st.booleans()) and (can_be_aware or careless))


def _sparsify(draw: Draw) -> Sparsify:
    criterion = draw(WEIGHT_CRITERIA)
    if draw(st.booleans()):
        return Sparsify(pattern=draw(st.sampled_from(["2:4", "4:8", "1:3"])), criterion=criterion)
    return Sparsify(draw(SHARES), criterion=criterion)


def _quantize(draw: Draw, layer: Layer, careless: bool) -> Quantize:
    function = draw(st.sampled_from(sorted(FUNCTION_BITS)))
    affine = function in ("symmetric", "asymmetric")
    bits = draw(st.sampled_from([*FUNCTION_BITS[function], *([16, None] if careless else [])]))
    reads_numbers = layer.kind != "embedding" or careless
    activations = draw(st.sampled_from([None, 4, 8])) if reads_numbers else None
    if bits is None and draw(st.booleans()):
        return Quantize(None, activations)
    floats = (function, activations) == ("e4m3", 8) and draw(st.booleans())
    dynamic = activations is not None and not floats and draw(st.booleans())
    rounded = affine and layer.kind in ("linear", "conv1d", "conv2d")
    return Quantize(
        bits,
        activations,
        ranges=draw(st.sampled_from(["minmax", "percentile", "mse", "entropy"])),
        function=function,
        **draw(GRAINS),
        rounding=draw(st.sampled_from(["nearest", "gptq", "learned"])) if rounded else "nearest",
        bias_correction=draw(st.booleans()) and layer.kind != "embedding",
        dynamic=dynamic,
        signed=activations is not None and not (dynamic or floats) and draw(st.booleans()),
        by_row=dynamic and layer.kind == "linear" and draw(st.booleans()),
        smooth=draw(st.sampled_from([0.0, 0.5]))
        if layer.kind == "linear" and activations is not None and bits is not None
        else 0.0,
        inputs="e4m3" if floats else "affine",
    )


def _rounds(draw: Draw) -> Rounds:
    if draw(st.integers(0, 19)):
        return Rounds()
    bound = draw(st.sampled_from([None, 0.0, 0.5]))
    return Rounds(draw(st.integers(2, 3)), draw(st.integers(0, 1)), bound)


def _recovery(draw: Draw) -> Recovery:
    if draw(st.integers(0, 24)):
        return Recovery()
    return Recovery(
        epochs=1,
        learning_rate=draw(st.sampled_from([1e-4, 1e-2])),
        weight=draw(st.sampled_from([0.0, 0.5, 1.0])),
        features=draw(st.sampled_from([0.0, 0.5])),
        attention=draw(st.sampled_from([0.0, 0.5])),
        scales=draw(st.sampled_from(["statistics", "fixed", "learned"])),
        optimizer=draw(st.sampled_from(["adamw", "sgd"])),
    )
