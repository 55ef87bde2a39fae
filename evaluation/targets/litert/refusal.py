"""What LiteRT has no operator for, told in one sentence."""

from __future__ import annotations

from typing import NoReturn

from onnx import NodeProto

from compressors.errors import UserError
from evaluation.lowering.graph import Array, Graph


def refuse(node: NodeProto, reason: str = "") -> NoReturn:
    """The operator, where it is, and what of it cannot be written."""
    where = f" of '{node.name}'" if node.name else ""
    raise UserError(
        f"litert cannot write the operator {node.op_type}{where}{' ' * bool(reason)}{reason};"
        " another target may."
    )


def parameters(graph: Graph, node: NodeProto) -> list[Array]:
    """The constants that a layer is given beside its input."""
    names = [name for name in node.input[1:] if name]
    if not graph.constants.keys() >= set(names):
        refuse(node, "with weights that are computed")
    return [graph.constants[name] for name in names]
