"""A record held against the model that it tells of: what is counted there must be what it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from torch import Tensor, nn

from compressors.modules import as_layer, channels, layer_kind, tied_parameters
from compressors.policies.policy import Policy
from compressors.policies.steps import AFFINE, Quantize, Sparsify
from compressors.quantization.layers import QuantizedLayer, describe
from compressors.record import CompressedModel, LayerRecord
from compressors.structures.structure import Layer, Structure


def check_whole(compressed: CompressedModel, policy: Policy, structure: Structure) -> None:
    """What is said of the whole model; the policy is without patterns."""
    module, record = compressed.module, compressed.record
    assert record.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert record.removed_blocks == policy.remove
    epochs, told = policy.recovery.epochs, record.recovery
    assert (told.epochs if told else 0) == epochs
    losses = told.losses if told else ()
    assert len(losses) == epochs
    assert np.isfinite(losses).all()
    assert {e.name for e in policy.layers if e.heads} == {a.name for a in record.attentions}
    for row in record.attentions:
        before = next(found for found in structure.attentions if found.name == row.name)
        opened = module.get_submodule(row.name)
        assert opened.num_heads == row.heads == before.heads - row.removed_heads
        width = opened.v_proj.weight.shape[0]  # type: ignore[union-attr, index]
        assert width == row.heads * opened.head_dim


def check_layers(compressed: CompressedModel, policy: Policy, structure: Structure) -> None:
    """What is said of each layer."""
    module, rows = compressed.module, {row.name: row for row in compressed.record.layers}
    layers, tied = _layers(module), tied_parameters(module)
    assert len(rows) == len(compressed.record.layers)
    assert layers.keys() == rows.keys() & dict(module.named_modules()).keys()
    for name, layer in layers.items():
        row, steps = rows[name], policy.layer(rows[name].source)
        assert row.kind == layer_kind(layer)
        assert (row.in_channels, row.out_channels) == channels(as_layer(layer))
        assert row.parameters == sum(parameter.numel() for parameter in layer.parameters())
        _check_bits(row, module.get_submodule(name), steps.quantize)
        assert isinstance(layer.weight, Tensor)
        if steps.quantize is None or steps.quantize.rounding == "nearest":  # else weights move
            _check_zeros(row, layer.weight, steps.sparsify)
            whole = policy.rounds.loss_rise is None and id(layer.weight) not in tied
            _check_share(row, steps.sparsify if whole else None)
        told = (("sparsify", steps.sparsify and row.sparsity), ("quantize", steps.quantize))
        assert row.simulated == tuple(step for step, taken in told if taken)
    for source in structure.layers:
        parts = [row for row in rows.values() if row.source == source.name]
        gone = any(source.name in b.layers for b in structure.blocks if b.name in policy.remove)
        assert bool(parts) == (not gone)
        if parts:
            _check_parts(parts, source)
            assert len(parts) == 1 or policy.layer(source.name).lowrank


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers that can be compressed, by the paths that a record has for them."""
    modules = dict(module.named_modules())
    closed = [name for name, found in modules.items() if isinstance(found, nn.MultiheadAttention)]
    return {
        name.removesuffix(".layer"): found
        for name, found in modules.items()
        if layer_kind(found) and not any(name.startswith(f"{path}.") for path in closed)
    }


def _check_bits(row: LayerRecord, module: nn.Module, asked: Quantize | None) -> None:
    assert isinstance(module, QuantizedLayer) == (asked is not None)
    if asked is None:
        assert (row.weight_bits, row.activation_bits, row.compute_bits) == (None, None, None)
        return
    assert (row.weight_bits, row.activation_bits) == (asked.weights, asked.activations)
    assert (row.dynamic, row.signed) == (asked.dynamic, asked.signed)
    assert (row.by_row, row.inputs) == (asked.by_row, asked.inputs)
    told = describe(nn.ModuleDict({"it": module}))["it"]
    assert (told.weight_bits, told.activation_bits) == (row.weight_bits, row.activation_bits)
    assert told.inputs == row.inputs
    if asked.weights is None:
        assert (row.weight_function, row.granularity, row.rounding) == (None, None, None)
        return
    grouped = asked.granularity == "group"
    assert row.granularity == asked.granularity + (str(asked.group) if grouped else "")
    assert (row.weight_function, row.rounding) == (asked.function, asked.rounding)
    integers = asked.activations and asked.function in AFFINE and asked.weights <= 8
    assert row.compute_bits == (8 if integers else None)
    assert told.stored is not None
    assert 0 <= told.stored.codes.min() <= told.stored.codes.max() < 2**asked.weights


def _check_share(row: LayerRecord, asked: Sparsify | None) -> None:
    if asked is not None and asked.share is not None and asked.scope == "layer":
        assert row.sparsity == pytest.approx(
            asked.share, abs=1 / (row.in_channels * row.out_channels)
        )


def _check_zeros(row: LayerRecord, weight: Tensor, asked: Sparsify | None) -> None:
    zeros = int((weight == 0).sum())
    if asked is None:
        assert (row.sparsity, row.pattern) == (0, None)
        return
    assert row.sparsity == pytest.approx(zeros / weight.numel())
    whole = asked.kept_of is not None and weight.shape[1] % asked.kept_of[1] == 0
    assert row.pattern == (asked.pattern if whole else None)
    if asked.kept_of is not None:
        kept, of = asked.kept_of
        windows = weight.split(of, dim=1)  # of inputs
        assert all(((window != 0).sum(1) <= kept).all() for window in windows)


def _check_parts(parts: list[LayerRecord], source: Layer) -> None:
    """Each part hands on as many channels as the next reads, which is the rank between them."""
    for one, two in pairwise(parts):
        assert one.out_channels == two.in_channels == one.rank
        assert one.removed_channels == 0
    last = parts[-1]
    assert last.rank == (last.in_channels if len(parts) > 1 else None)
    assert last.removed_channels == source.out_channels - last.out_channels
