"""Writes down what was really done to a model, by looking at the model that came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from compressors.lowrank.factorise import Factorisation
from compressors.modules import as_layer, channels, layer_kind, parameter_count
from compressors.policies.policy import Policy
from compressors.policies.steps import AFFINE, Quantize, Sparsify
from compressors.pruning.masks import Masks
from compressors.quantization.layers import QuantizedLayer
from compressors.record import AttentionRecord, LayerRecord, Record, RecoveryRecord
from compressors.structures.structure import Layer, Structure

INTEGER_KERNEL = 8  # bits of the integer kernels that fewer bits are computed in


@dataclass(frozen=True)
class Done:
    """What the steps say of themselves, which cannot be seen on the model."""

    factorised: Factorisation
    masks: Masks
    sparse: Mapping[str, Sparsify]  # by the layer or part that took the step
    heads: tuple[AttentionRecord, ...]
    rounds: tuple[RecoveryRecord, ...]
    recovery: RecoveryRecord | None
    notes: tuple[str, ...]


def record_of(
    model: nn.Module, policy: Policy, name: str, structure: Structure, done: Done
) -> Record:
    """The record of a compressed model, in the order in which the original's layers ran.

    The policy is the one with its patterns expanded; `name` is the id of the one given.
    """
    modules = dict(model.named_modules())
    gone = {
        name for block in structure.blocks if block.name in policy.remove for name in block.layers
    }
    layers = [
        record
        for layer in structure.layers
        if layer.name not in gone
        for record in _layer_records(modules, layer, done)
    ]
    return Record(
        policy_id=name,
        parameters=parameter_count(model),
        layers=tuple(layers),
        removed_blocks=policy.remove,
        recovery=done.recovery,
        rounds=done.rounds,
        attentions=done.heads,
        notes=done.notes,
    )


def _layer_records(
    modules: dict[str, nn.Module], source: Layer, done: Done
) -> Iterator[LayerRecord]:
    """A record for the layer, or one for each of its parts."""
    parts = done.factorised.parts.get(source.name, (source.name,))
    ranks = done.factorised.ranks.get(source.name, ())
    for index, name in enumerate(parts):
        if name not in modules:  # inside an attention that was left closed
            yield _as_it_was(source)
            continue
        record = _layer_record(modules[name], name, source, done)
        if ranks:
            record = replace(record, rank=ranks[min(index, len(ranks) - 1)])
        last = index == len(parts) - 1
        removed = source.out_channels - record.out_channels if last else 0
        yield replace(record, removed_channels=removed)


def _as_it_was(source: Layer) -> LayerRecord:
    return LayerRecord(
        name=source.name,
        source=source.name,
        kind=source.kind,
        in_channels=source.in_channels,
        out_channels=source.out_channels,
        parameters=source.parameters,
        groups=source.groups,
    )


def _layer_record(module: nn.Module, name: str, source: Layer, done: Done) -> LayerRecord:
    wrapper = module if isinstance(module, QuantizedLayer) else None
    layer = as_layer(wrapper.layer if wrapper else module)
    inputs, outputs = channels(layer)
    sparse = done.sparse.get(name) if done.masks.sparsity(name) > 0 else None
    window = sparse.kept_of if sparse else None
    steps = (("sparsify", sparse is not None), ("quantize", wrapper is not None))
    return LayerRecord(
        name=name,
        source=source.name,
        kind=layer_kind(layer) or source.kind,
        in_channels=inputs,
        out_channels=outputs,
        parameters=parameter_count(layer),
        sparsity=done.masks.sparsity(name),
        pattern=sparse.pattern if sparse and window and done.masks.obeys(name, *window) else None,
        simulated=tuple(step for step, taken in steps if taken),
        groups=getattr(layer, "groups", 1),
        **(_quantised(wrapper.settings) if wrapper else {}),
    )


def _quantised(settings: Quantize) -> dict[str, Any]:
    """The fields of a record that tell how a layer is quantised."""
    found: dict[str, Any] = {
        "activation_bits": settings.activations,
        "dynamic": settings.dynamic,
        "signed": settings.signed,
        "by_row": settings.by_row,
        "inputs": settings.inputs,
    }
    if settings.weights is None:
        return found
    size = str(settings.group) if settings.granularity == "group" else ""
    in_integers = (
        settings.function in AFFINE
        and settings.weights <= INTEGER_KERNEL
        and settings.activations is not None
    )
    return {
        **found,
        "weight_bits": settings.weights,
        "weight_function": settings.function,
        "granularity": f"{settings.granularity}{size}",
        "rounding": settings.rounding,
        "compute_bits": INTEGER_KERNEL if in_integers else None,
    }
