"""The pass that makes a float edge program's quantised layers integers, as they are simulated.

A folded batch norm's factor goes into the scales, its sign into the integers. Ranges that the
simulation has no need of (of sums, of a layer's result that no integer layer reads) are seen on the
calibration split.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from executorch.exir.pass_base import (  # type: ignore[import-untyped]
    ExportedProgramPassBase,
    ExportedProgramPassResult,
)
from torch import Tensor, fx
from torch.export.exported_program import ExportedProgram

from compressors.data import Data
from compressors.quantization.layers import LayerQuantization
from evaluation.lowering.plan import Scale
from evaluation.targets.executorch.dynamic import DynamicLayer, dynamic_layer
from evaluation.targets.executorch.plan import IntegerLayer, follow_scales, plan
from evaluation.targets.executorch.qdq import write
from evaluation.targets.executorch.ranges import ranges
from evaluation.targets.executorch.traced import Traced, constants, operator

LAYERS = ("aten.convolution.default", "aten.linear.default")
LARGEST_BIAS = 2.0**30  # of a kernel's 32-bit sums, with room for what is added to it
SMALLEST_SCALE = 1e-30
HEADROOM = 1.25  # of outputs beyond their calibrated range: nothing says that they end there


class Quantise(ExportedProgramPassBase):  # type: ignore[misc]  # untyped
    """Knows afterwards which layers' integers have which name."""

    def __init__(
        self, traced: Traced, described: Mapping[str, LayerQuantization], data: Data
    ) -> None:
        self.traced, self.described, self.data = traced, described, data
        self.layers: dict[str, str] = {}  # by the name of their integers

    def call(self, exported_program: ExportedProgram) -> ExportedProgramPassResult:
        """Rewrite the program."""
        graph = exported_program.graph_module.graph
        _infer_batches(graph)
        layers = self._layers(exported_program)
        self.layers = {f"{node.name}_integers": layer.name for node, layer in layers.items()}
        planned = plan(graph, layers)
        for node, (low, high) in ranges(exported_program, planned, self.traced, self.data).items():
            wider = HEADROOM if any(user.op == "output" for user in node.users) else 1.0
            planned.scales[node] = Scale.covering(low * wider, high * wider)
        follow_scales(planned)
        write(exported_program, planned)
        return ExportedProgramPassResult(exported_program, True)

    def _layers(self, program: ExportedProgram) -> dict[fx.Node, IntegerLayer | DynamicLayer]:
        known = constants(program)
        signature = program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        found: dict[fx.Node, IntegerLayer | DynamicLayer] = {}
        for node in program.graph_module.graph.nodes:
            weight: Any = node.args[1] if operator(node) in LAYERS else None
            name = self.traced.layers.get(names.get(weight.name, "")) if weight else None
            if name is not None and name in self.described:
                facts, factor = self.described[name], self.traced.factors.get(name)
                bias = known.get(node.args[2]) if len(node.args) > 2 else None
                made = dynamic_layer if facts.dynamic else partial(_static_layer, bias=bias)
                found[node] = made(name, facts, factor)
        missing = sorted(set(self.described) - {layer.name for layer in found.values()})
        if missing:
            raise RuntimeError(f"Quantised layers that the exported graph lost: {missing}")
        return found


def _static_layer(
    name: str, facts: LayerQuantization, factor: Tensor | None, *, bias: Tensor | None
) -> IntegerLayer:
    assert facts.weight_integers is not None
    assert facts.weight_scales is not None
    assert facts.scale is not None
    assert facts.zero_point is not None
    integers, scales = facts.weight_integers.double(), facts.weight_scales.double()
    shape = (-1, *(1 for _ in integers.shape[1:]))
    if factor is not None:
        integers, scales = integers * factor.sign().view(shape), scales * factor.abs()
    wide = scales.clamp(min=SMALLEST_SCALE)
    if bias is not None:  # which must fit into the kernel's integers
        wide = torch.maximum(wide, bias.double().abs() / (facts.scale * LARGEST_BIAS))
    integers = (integers * (scales / wide).view(shape)).round().to(torch.int8)
    source = Scale(float(torch.tensor(facts.scale).float()), facts.zero_point)
    return IntegerLayer(name, integers, wide.float(), source)


def _infer_batches(graph: fx.Graph) -> None:
    """XNNPACK reshapes to sizes that it knows, but for one that it infers."""
    for node in graph.nodes:
        if operator(node) == "aten.view_copy.default":
            sizes: Any = node.args[1]
            if sum(not isinstance(size, int) for size in sizes) == 1 and -1 not in sizes:
                inferred = [size if isinstance(size, int) else -1 for size in sizes]
                node.args = (node.args[0], inferred)
    graph.eliminate_dead_code()
