"""Writes down what was really done to a model, by looking at the model that came out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from compressors.modules import channels, parameter_count
from compressors.policies.policy import Policy
from compressors.policies.policy_yaml import policy_id
from compressors.quantization.layers import QuantizedLayer
from compressors.record import LayerRecord, Record, RecoveryRecord
from compressors.structures.structure import Layer, Structure


def record_of(
    model: nn.Module,
    policy: Policy,
    given: Policy,
    structure: Structure,
    ranks: Mapping[str, int],
    recovery: RecoveryRecord | None,
    notes: tuple[str, ...],
) -> Record:
    """The record of a compressed model, in the order in which the original's layers ran.

    The policy is the one with its patterns expanded; the one given has the id that files bear.
    """
    gone = {
        name for block in structure.blocks if block.name in policy.remove for name in block.layers
    }
    layers = [
        record
        for layer in structure.layers
        if layer.name not in gone
        for record in _layer_records(model, layer, ranks)
    ]
    return Record(
        policy_id=policy_id(given),
        parameters=parameter_count(model),
        layers=tuple(layers),
        removed_blocks=policy.remove,
        recovery=recovery,
        notes=notes,
    )


def _layer_records(model: nn.Module, source: Layer, ranks: Mapping[str, int]) -> list[LayerRecord]:
    rank = ranks.get(source.name)
    if rank is None:
        return [_layer_record(model, source.name, source, None, source.out_channels)]
    first, second = f"{source.name}.0", f"{source.name}.1"
    return [
        _layer_record(model, first, source, rank, rank),
        _layer_record(model, second, source, rank, source.out_channels),
    ]


def _layer_record(
    model: nn.Module, name: str, source: Layer, rank: int | None, full_outputs: int
) -> LayerRecord:
    module = model.get_submodule(name)
    wrapper = module if isinstance(module, QuantizedLayer) else None
    layer = wrapper.layer if wrapper else module
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    weights = wrapper.weight_quantizer if wrapper else None
    activations = wrapper.input_quantizer if wrapper else None
    inputs, outputs = channels(layer)
    return LayerRecord(
        name=name,
        source=source.name,
        kind=source.kind,
        in_channels=inputs,
        out_channels=outputs,
        parameters=parameter_count(layer),
        weight_bits=weights.bits if weights else None,
        activation_bits=activations.bits if activations else None,
        rank=rank,
        removed_channels=full_outputs - outputs,
    )
