"""Layers whose weights are integers in the file while their inputs are float there.

Either the kernel rounds its input by the range that it finds (`dynamic`), row by row, where the
simulation takes one range for all; or the weights are expanded as the file is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compressors.quantization.layers import LayerQuantization
from evaluation.lowering.export import Factors
from evaluation.lowering.graph import Array, Graph


@dataclass(frozen=True)
class Beside:
    """Integer weights beside a float input."""

    weights: Array  # int8, output channels first
    scales: Array  # float32, one an output channel
    dynamic: bool

    def values(self) -> Array:
        """The weights as they are simulated."""
        return self.weights * _along(self.scales, self.weights)


def besides(described: Mapping[str, LayerQuantization], factors: Factors) -> dict[str, Beside]:
    """Those layers by name; batch norms are folded into scales and signs."""
    found = {}
    for name, facts in described.items():
        if facts.scale is None and facts.weight_integers is not None:
            assert facts.weight_scales is not None
            integers = facts.weight_integers.detach().cpu().numpy()
            scales = facts.weight_scales.detach().cpu().double().numpy()
            factor = factors.get(f"{name}.weight", np.ones(len(scales)))
            turned = (integers * _along(np.sign(factor), integers)).astype(np.int8)
            wide = (scales * np.abs(factor)).astype(np.float32)
            found[name] = Beside(turned, wide, facts.dynamic)
    return found


def round_weights(graph: Graph, layers: Mapping[str, Beside]) -> None:
    """The simulated weights in the places of the exact ones."""
    for node in graph.nodes:
        if node.name in layers:
            values = layers[node.name].values()
            graph.constants[node.input[1]] = values.T if node.op_type == "MatMul" else values


def _along(values: Array, weights: Array) -> Array:
    return values.reshape(-1, *(1,) * (weights.ndim - 1))
