"""From a compressed model to the ONNX graph that does the same with integer kernels.

Float export, batch norms folded into weights, integer weights exactly as simulated (a batch norm's
factor goes into the scales, its sign into the integers), then the plan of what stays in integers,
its missing ranges seen on the calibration split, and the pairs that say all this to a runtime.
Layers that are quantised otherwise than in fixed integers get the weights that they are simulated
with, as floats; a target whose runtime has more for them says so by its forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from copy import deepcopy
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper
from torch import Tensor, nn

from compressors.data import Data
from compressors.quantization.layers import LayerQuantization, describe, strip
from compressors.record import CompressedModel
from evaluation.lowering.export import TURNED, Factors, export
from evaluation.lowering.graph import Array, Graph, to_model
from evaluation.lowering.guard import keep_float
from evaluation.lowering.plan import Plan, QuantizedLayer, Scale, plan, set_glue
from evaluation.lowering.qdq import write, write_layers_only
from evaluation.targets.ort_cpu.session import Session

Forms = Callable[[Graph, Mapping[str, LayerQuantization], Factors], None]

UNTIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
LARGEST_BIAS = 2.0**30  # of a kernel's 32-bit sums, with room for what is added to it


def lower(compressed: CompressedModel, data: Data, forms: Forms | None = None) -> Graph:
    """The deployable graph."""
    graph, factors, described = float_graph(compressed)
    fixed = {name: facts for name, facts in described.items() if in_fixed_integers(facts)}
    round_weights(graph, {n: f for n, f in described.items() if n not in fixed}, factors)
    layers = quantized_layers(graph, fixed, factors)
    if layers:
        planned = plan(graph, layers)
        set_glue(planned, ranges(graph, planned, data))
        graph = write(graph, planned)
    if forms is not None:
        forms(graph, described, factors)
    if layers:
        keep_float(graph)
    return graph


def in_fixed_integers(facts: LayerQuantization) -> bool:
    """Whether a layer reads 8-bit integers of a scale that is known beforehand."""
    return facts.scale is not None and facts.weight_integers is not None


def round_weights(
    graph: Graph, described: Mapping[str, LayerQuantization], factors: Factors
) -> None:
    """Weights as they are simulated, in the places of the exact ones."""
    for name, facts in described.items():
        if facts.stored is None:
            continue
        weight = f"{name}.weight"
        values = facts.stored.values().float().numpy()
        if weight in factors:
            values = values * factors[weight].reshape(-1, *(1,) * (values.ndim - 1))
        for place, rounded in ((weight, values), (f"{weight}{TURNED}", values.T)):
            if place in graph.constants:
                graph.constants[place] = np.ascontiguousarray(rounded, np.float32)


def float_graph(
    compressed: CompressedModel, *, fold: bool = True
) -> tuple[Graph, Factors, dict[str, LayerQuantization]]:
    """The model in float32, what folding did to its weights, and how its layers are quantised."""
    module = deepcopy(compressed.module).cpu()
    described = describe(module)
    strip(module)
    module.float()
    _untie(module)
    example = tuple(_as_float32(tensor.cpu()) for tensor in compressed.example)
    graph, factors = export(module, example, fold=fold)
    _smooth(graph, described)
    return graph, factors, described


def _smooth(graph: Graph, described: Mapping[str, LayerQuantization]) -> None:
    """Divide the inputs of layers whose weights took their outliers."""
    for node in list(graph.nodes):
        facts = described.get(node.name)
        if facts is None or facts.smoothing is None:
            continue
        factors, smooth = graph.fresh(), graph.fresh()
        graph.constants[factors] = facts.smoothing.detach().cpu().float().numpy()
        division = helper.make_node("Div", [node.input[0], factors], [smooth])
        graph.nodes.insert(graph.nodes.index(node), division)
        node.input[0] = smooth


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _untie(module: nn.Module) -> None:
    """Weights in common become each layer's own, for every layer may have its own integers."""
    for layer in module.modules():
        if isinstance(layer, UNTIED) and "weight" in layer._parameters:
            layer.weight = nn.Parameter(layer.weight.detach().clone())


def quantized_layers(
    graph: Graph, described: Mapping[str, LayerQuantization], factors: Factors
) -> dict[str, QuantizedLayer]:
    """The layers with static integers, by the name of their node."""
    nodes = layer_nodes(graph, described)
    return {name: _layer(graph, nodes[name], facts, factors) for name, facts in described.items()}


def layer_nodes(graph: Graph, described: Mapping[str, LayerQuantization]) -> dict[str, NodeProto]:
    """The nodes that compute layers; of one written as several operators, one that has its bias."""
    by_inputs = sorted(graph.nodes, key=lambda node: len(node.input))
    nodes = {node.name: node for node in by_inputs if node.name}
    missing = sorted(set(described) - set(nodes))
    if missing:
        raise RuntimeError(f"Quantised layers that the exported graph lost: {missing}")
    return nodes


def _layer(
    graph: Graph, node: NodeProto, facts: LayerQuantization, factors: Factors
) -> QuantizedLayer:
    assert facts.weight_integers is not None
    assert facts.weight_scales is not None
    assert facts.scale is not None
    assert facts.zero_point is not None
    integers = facts.weight_integers.detach().numpy().astype(np.float64)
    scales = facts.weight_scales.detach().numpy().astype(np.float64)
    shape = (-1,) + (1,) * (integers.ndim - 1)
    factor = factors.get(node.input[1], np.ones(len(scales)))
    integers *= np.sign(factor).reshape(shape)
    scales = scales * np.abs(factor)
    wide = np.maximum(scales, _least_scales(graph, node, facts.scale))
    integers = np.round(integers * (scales / wide).reshape(shape))
    source = Scale(float(np.float32(facts.scale)), facts.zero_point)
    return QuantizedLayer(integers.astype(np.int8), wide.astype(np.float32), source)


def _least_scales(graph: Graph, node: NodeProto, source_scale: float) -> Array:
    """The smallest weight scales at which the bias still fits into the kernel's integers."""
    least = np.float64(np.finfo(np.float32).tiny)
    if len(node.input) < 3:
        return np.asarray(least)
    bias = np.abs(graph.constants[node.input[2]].astype(np.float64))
    return np.asarray(np.maximum(bias / (source_scale * LARGEST_BIAS), least))


def ranges(graph: Graph, planned: Plan, data: Data) -> dict[str, tuple[float, float]]:
    """The least and the largest value of every glue tensor, in the model as it is simulated."""
    if not planned.glue:
        return {}
    return seen_in(write_layers_only(graph, planned), planned.glue, data)


def seen_in(
    simulated: Graph,
    tensors: Set[str],
    data: Data,
    written: Callable[[Graph], onnx.ModelProto] = to_model,
) -> dict[str, tuple[float, float]]:
    """The least and the largest value of tensors of a graph on the calibration split."""
    outputs = [output.name for output in simulated.outputs]
    hidden = sorted(tensors - set(outputs))
    seen = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in hidden]
    watched = replace(simulated, outputs=[*simulated.outputs, *seen])
    session = Session(written(watched).SerializeToString(), threads=1, optimise=False)
    found = dict.fromkeys(tensors, (0.0, 0.0))
    for batch in data.batches("calibration"):
        results = session.outputs(*batch.args).values()
        values = dict(zip([*outputs, *hidden], results, strict=True))
        for name, (low, high) in found.items():
            least, most = float(values[name].min()), float(values[name].max())
            found[name] = (min(low, least), max(high, most))
    return found
