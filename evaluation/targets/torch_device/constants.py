"""What of an opened program depends on no input, computed once: small weights become float ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node


def fold(module: GraphModule) -> None:
    """Compute every constant of a graph and keep the results alone, in place."""
    known = _known(module)
    needed = [node for node in known if any(user not in known for user in node.users)]
    for number, node in enumerate(needed):
        if node.op == "call_function":
            _keep(module, node, known[node], f"constant{number}")
    module.graph.eliminate_dead_code()
    module.recompile()
    module.delete_all_unused_submodules()


def _known(module: GraphModule) -> dict[Node, Any]:
    known: dict[Node, Any] = {}

    def value(node: Node) -> Any:
        return known[node]

    for node in module.graph.nodes:
        if node.op == "get_attr":
            known[node] = _attribute(module, str(node.target))
        elif _pure(node) and node.all_input_nodes and all(n in known for n in node.all_input_nodes):
            args = torch.fx.node.map_arg(node.args, value)
            kwargs = torch.fx.node.map_arg(node.kwargs, value)
            known[node] = node.target(*args, **kwargs)
    return known


def _pure(node: Node) -> bool:
    """Whether it is an operator that changes nothing in place."""
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and not getattr(schema, "is_mutable", False)


def _keep(module: GraphModule, node: Node, value: Any, name: str) -> None:
    if isinstance(value, Tensor):
        if value.dim() == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        module.register_buffer(name, value)
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.get_attr(name))


def _attribute(module: GraphModule, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found
