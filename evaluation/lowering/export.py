"""A float torch module as an ONNX graph, with batch norms folded and no detours.

Exports through TorchScript: thirty times faster than the newer exporter, which matters where every
trial exports, and the graphs are equal. Every layer's weight keeps its module path as its name.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from onnx import NodeProto
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from evaluation.lowering.attention import plain_attention
from evaluation.lowering.batch import follow_batch
from evaluation.lowering.graph import OPSET, Array, Graph, attributes
from evaluation.lowering.operators import (
    count_no_padding,
    pool_globally,
    ranks,
    spell_out_padding,
)

Factors = dict[str, Array]  # by weight name: what folding multiplied each output channel with


def export(
    module: nn.Module, example: tuple[Tensor, ...], *, fold: bool = True
) -> tuple[Graph, Factors]:
    """The graph of a module in eval mode, and the factors that batch norms left in the weights."""
    traced, doubtful = _trace(module.eval(), example)
    graph = Graph.of(traced)
    if doubtful:
        pair = tuple(torch.cat([tensor, tensor]) for tensor in example)
        follow_batch(graph, Graph.of(_trace(module, pair)[0]))
    _drop_identities(graph)
    _fold_transposes(graph)
    pool_globally(graph, ranks(traced))
    count_no_padding(graph)
    spell_out_padding(graph)
    factors = _fold_batch_norms(graph) if fold else {}
    for node in graph.nodes:
        _drop_defaults(graph, node)
        _name(graph, node)
    return graph, factors


def _trace(module: nn.Module, example: tuple[Tensor, ...]) -> tuple[onnx.ModelProto, bool]:
    """The model, and whether tensors became plain numbers on the way."""
    inputs = [f"input{n}" for n in range(len(example))]
    buffer = io.BytesIO()
    with _quiet() as said, plain_attention(), torch.no_grad():
        torch.onnx.export(
            module,
            example,
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,  # leaves batch norms for us to fold
            do_constant_folding=False,
            input_names=inputs,
            output_names=["output0"],
            dynamic_axes={name: {0: "n"} for name in [*inputs, "output0"]},
        )
    doubtful = any(issubclass(w.category, TracerWarning) for w in said)
    return onnx.load_from_string(buffer.getvalue()), doubtful


@contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """What is warned of; the exporter's advice to use its successor is not for our users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield said
    finally:
        logger.setLevel(level)


def _drop_identities(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.op_type == "Identity" and node.input[0] in graph.constants:
            graph.constants[node.output[0]] = graph.constants[node.input[0]]
            graph.nodes.remove(node)
        elif node.op_type in ("Identity", "Dropout"):
            graph.bypass(node)


def _fold_transposes(graph: Graph) -> None:
    """A weight that is read transposed, be it often, is stored so.

    Under its own name if that is the only way it is read, as a second constant otherwise.
    """
    for name in list(graph.constants):
        users = graph.consumers(name)
        turning = [node for node in users if node.op_type == "Transpose"]
        perms = [attributes(node).get("perm") for node in turning]
        if not turning or any(perm != perms[0] for perm in perms):
            continue
        stored = name if len(turning) == len(users) else f"{name}{TURNED}"
        graph.constants[stored] = graph.constants[name].transpose(perms[0])
        for node in turning:
            node.input[0] = stored
            graph.bypass(node)


def _fold_batch_norms(graph: Graph) -> Factors:
    factors: Factors = {}
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        layer = graph.producer(norm.input[0])
        if layer is not None and _foldable(graph, layer):
            weight = layer.input[1]
            factors[weight] = _fold(graph, layer, norm)
            graph.bypass(norm)
    return factors


def _foldable(graph: Graph, layer: NodeProto) -> bool:
    if layer.op_type not in ("Conv", "Gemm") or graph.sole_consumer(layer.output[0]) is None:
        return False
    if layer.op_type == "Gemm" and attributes(layer).get("transB") != 1:
        return False
    weight = layer.input[1]
    return weight in graph.constants and len(graph.consumers(weight)) == 1


def _fold(graph: Graph, layer: NodeProto, norm: NodeProto) -> Array:
    gamma, beta, mean, variance = (graph.constants[n].astype(np.float64) for n in norm.input[1:5])
    factor = gamma / np.sqrt(variance + attributes(norm).get("epsilon", 1e-5))
    weight = graph.constants[layer.input[1]]
    shape = (-1,) + (1,) * (weight.ndim - 1)
    graph.constants[layer.input[1]] = (weight * factor.reshape(shape)).astype(np.float32)
    bias = graph.constants[layer.input[2]] if len(layer.input) > 2 else 0.0
    name = graph.fresh()
    graph.constants[name] = ((bias - mean) * factor + beta).astype(np.float32)
    layer.input[:] = [*layer.input[:2], name]
    return np.asarray(factor)


LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
TURNED = "^T"
DEFAULTS: dict[str, dict[str, object]] = {
    "Conv": {"dilations": [1, 1], "group": 1, "strides": [1, 1], "pads": [0, 0, 0, 0]},
    "Gemm": {"alpha": 1.0, "beta": 1.0},
}


def _drop_defaults(graph: Graph, node: NodeProto) -> None:
    """Attributes that say what is so anyhow only take bytes."""
    defaults = DEFAULTS.get(node.op_type, {})
    facts = attributes(node)
    shape_is_known = node.op_type == "Conv" and node.input[1] in graph.constants
    keep = [
        a
        for a in node.attribute
        if not (a.name in defaults and facts[a.name] == defaults[a.name])
        and not (a.name == "kernel_shape" and shape_is_known)
    ]
    del node.attribute[:]
    node.attribute.extend(keep)


def _name(graph: Graph, node: NodeProto) -> None:
    """A layer's node bears the layer's module path; no other node needs a name."""
    node.name = ""
    if node.op_type in LAYERS and node.input[1] in graph.constants:
        node.name = node.input[1].removesuffix(TURNED).removesuffix(".weight")
