"""Layers whose weights and inputs are 8-bit floats, as their pairs are to say them."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np

from compressors.quantization.layers import LayerQuantization
from evaluation.lowering.export import Factors
from evaluation.lowering.graph import Array, Graph
from evaluation.lowering.lower import layer_nodes
from evaluation.lowering.plan import QuantizedLayer, Scale

TYPES = {"e4m3": np.dtype(ml_dtypes.float8_e4m3fn)}


def float_layers(
    graph: Graph, described: Mapping[str, LayerQuantization], factors: Factors
) -> dict[str, QuantizedLayer]:
    """The layers by the name of their node; a batch norm's factor goes into scale and sign."""
    nodes = layer_nodes(graph, described)
    return {
        name: _layer(facts, factors.get(nodes[name].input[1])) for name, facts in described.items()
    }


def _layer(facts: LayerQuantization, factor: Array | None) -> QuantizedLayer:
    stored = facts.stored
    assert stored is not None
    assert facts.scale is not None
    codes = stored.codes if stored.alive is None else stored.codes * stored.alive
    kind = TYPES[facts.inputs]
    levels = codes.numpy().astype(np.uint8).view(kind).reshape(stored.shape)
    scales = np.broadcast_to(stored.scales.double().numpy().flatten(), len(codes))
    if factor is not None:
        signs = np.sign(factor).reshape(-1, *(1,) * (levels.ndim - 1))
        levels, scales = (levels.astype(np.float32) * signs).astype(kind), scales * np.abs(factor)
    least = float(np.finfo(np.float32).tiny)
    return QuantizedLayer(
        levels, np.maximum(scales, least).astype(np.float32), Scale(float(facts.scale), 0)
    )
