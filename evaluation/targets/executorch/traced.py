"""A float torch module as an exported program of ATen operators, with batch norms folded.

Says of every layer's weight which layer it is of, and what a batch norm multiplied it with. Knows
nothing of quantisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, export
from torch.export.exported_program import ExportedProgram

from evaluation.lowering.attention import plain_attention

aten = torch.ops.aten
LARGEST = 32  # samples in one call; more are run in pieces
CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)
LAYERS = (*CONVOLUTIONS, aten.linear.default)
UNTIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)


@dataclass(frozen=True)
class Traced:
    """The program; by the names of weights in it, their layers; what folding multiplied them with.

    It takes up to `largest` samples, or none but that number.
    """

    program: ExportedProgram
    layers: dict[str, str]
    factors: dict[str, Tensor]  # by layer, one an output channel
    largest: int
    any_batch: bool


def trace(module: nn.Module, example: tuple[Tensor, ...], batch: int) -> Traced:
    """The module's program for up to LARGEST samples; for `batch` alone if it takes no other."""
    with plain_attention():
        first, largest = _exported(module, example, batch)
    any_batch = bool(first.range_constraints)
    graph, layers, factors = _folded(first)
    inputs: Any = first.example_inputs
    shapes = tuple({0: Dim("n", min=1, max=largest)} for _ in inputs[0]) if any_batch else None
    program = export(graph, inputs[0], dynamic_shapes=shapes)
    return Traced(program, layers, factors, largest, any_batch)


def _exported(
    module: nn.Module, example: tuple[Tensor, ...], batch: int
) -> tuple[ExportedProgram, int]:
    largest = max(batch, LARGEST)
    inputs = tuple(_repeated(tensor, largest) for tensor in example)
    if all(tensor.dim() and len(tensor) == len(example[0]) for tensor in example):
        size = Dim("n", min=1, max=largest)
        shapes = tuple({0: size} for _ in example)
        try:
            return export(module, inputs, dynamic_shapes=shapes), largest
        except (RuntimeError, ValueError, TypeError):  # torch's errors of constraints among them
            pass
    return export(module, tuple(_repeated(tensor, batch) for tensor in example)), batch


def untie(module: nn.Module) -> None:
    """Weights in common become each layer's own, for every layer may have its own integers."""
    for layer in module.modules():
        if isinstance(layer, UNTIED) and "weight" in layer._parameters:
            layer.weight = nn.Parameter(layer.weight.detach().clone())


def operator(node: fx.Node) -> str:
    """The name of what a node computes, such as aten.linear.default."""
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def sole_user(node: fx.Node) -> fx.Node | None:
    """The one node that reads a node's result."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _folded(
    program: ExportedProgram,
) -> tuple[fx.GraphModule, dict[str, str], dict[str, Tensor]]:
    """The program's graph, rewritten; the layers of weights; what batch norms left in them."""
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    layers = {f"{name}.weight": name for name, _ in module.named_modules()}
    factors = {}
    for node in list(module.graph.nodes):
        if node.target is aten.batch_norm.default and _foldable(node):
            name = str(node.args[0].args[1].target).removesuffix(".weight")
            weight, factors[name] = _fold(module, node)
            layers[weight] = name
        elif node.target is aten.mean.dim and _pools(node):
            _keep_dimensions(module.graph, node)
        elif node.target is aten.dropout.default:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module, layers, factors


def _value(module: fx.GraphModule, node: fx.Node) -> Tensor:
    """The tensor that a `get_attr` node reads."""
    *path, name = str(node.target).split(".")
    found: Tensor = getattr(module.get_submodule(".".join(path)), name)
    return found.detach()


def _constant(module: fx.GraphModule, name: str, tensor: Tensor) -> fx.Node:
    """A new constant, read at the graph's insertion point."""
    module.register_buffer(name, tensor.contiguous())
    return module.graph.get_attr(name)


def constants(program: ExportedProgram) -> dict[fx.Node, Tensor]:
    """The values of a program's parameters and buffers, by the nodes that hold them."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    names |= signature.inputs_to_lifted_tensor_constants
    values: dict[str, Any] = {**program.constants, **program.state_dict}
    nodes = program.graph_module.graph.nodes
    return {node: values[names[node.name]].detach() for node in nodes if node.name in names}


def as_float32(tensor: Tensor) -> Tensor:
    """The tensor; a real one in single precision."""
    return tensor.float() if tensor.is_floating_point() else tensor


def to_size(tensor: Tensor, size: int) -> Tensor:
    """The samples, the last one repeated until there are so many."""
    missing = size - len(tensor)
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])


def _repeated(tensor: Tensor, batch: int) -> Tensor:
    return tensor[:1].expand(batch, *tensor.shape[1:]).clone() if tensor.dim() else tensor


def _pools(node: fx.Node) -> bool:
    dims: Any = node.args[1]
    rank = node.args[0].meta["val"].dim()  # type: ignore[union-attr]
    keeps = len(node.args) > 2 and node.args[2]
    return rank == 4 and not keeps and sorted(d % rank for d in dims) == [2, 3]


def _keep_dimensions(graph: fx.Graph, node: fx.Node) -> None:
    """XNNPACK averages planes only where their dimensions stay."""
    with graph.inserting_after(node):
        flat = graph.call_function(aten.flatten.using_ints, (node, 1))
    flat.meta = dict(node.meta)
    node.replace_all_uses_with(flat, delete_user_cb=lambda user: user is not flat)
    node.args = (*node.args[:2], True)


def _foldable(norm: fx.Node) -> bool:
    layer = norm.args[0]
    if not isinstance(layer, fx.Node) or layer.target not in LAYERS or len(layer.users) != 1:
        return False
    weight, training = layer.args[1], norm.args[5]
    return isinstance(weight, fx.Node) and weight.op == "get_attr" and not training


def _fold(module: fx.GraphModule, norm: fx.Node) -> tuple[str, Tensor]:
    layer: Any = norm.args[0]
    gamma, beta, mean, variance = (_parameter(module, arg) for arg in norm.args[1:5])
    factor = (1 if gamma is None else gamma) / (variance + norm.args[7]).sqrt()
    weight = _value(module, layer.args[1])
    name = str(layer.args[1].target).replace(".", "_")
    bias = _parameter(module, layer.args[2] if len(layer.args) > 2 else None)
    shifted = ((0 if bias is None else bias) - mean) * factor + (0 if beta is None else beta)
    shape = (-1, *(1 for _ in weight.shape[1:]))
    with module.graph.inserting_before(layer):
        folded = _constant(module, f"{name}_folded", (weight * factor.view(shape)).float())
        added = _constant(module, f"{name}_bias", shifted.float())
    layer.args = (layer.args[0], folded, added, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)
    return str(folded.target), factor


def _parameter(module: fx.GraphModule, node: Any) -> Any:
    return None if node is None else _value(module, node).double()
