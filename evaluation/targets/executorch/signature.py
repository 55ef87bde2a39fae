"""A hash of what a program's speed depends on: operators, shapes, types, wiring; no weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from executorch.exir.pass_base import (  # type: ignore[import-untyped]
    ExportedProgramPassBase,
    ExportedProgramPassResult,
)
from torch import Tensor, fx
from torch.export.exported_program import ExportedProgram

from evaluation.targets.executorch.traced import operator


class Sign(ExportedProgramPassBase):  # type: ignore[misc]  # untyped
    """Changes nothing, and knows the signature afterwards."""

    signature = ""

    def call(self, exported_program: ExportedProgram) -> ExportedProgramPassResult:
        """Read the program."""
        known: dict[fx.Node, int] = {}
        facts = []
        for number, node in enumerate(exported_program.graph_module.graph.nodes):
            known[node] = number
            facts.append(_fact(node, known))
        self.signature = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return ExportedProgramPassResult(exported_program, False)


def _fact(node: fx.Node, known: dict[fx.Node, int]) -> list[Any]:
    if node.op == "placeholder":
        tensor = node.meta["val"]
        if not isinstance(tensor, Tensor):
            return [node.op]
        shape = [size if isinstance(size, int) else "n" for size in tensor.shape]
        return [node.op, shape, str(tensor.dtype)]
    if "quantize_per_tensor" in operator(node):  # whose scale costs nothing
        return [operator(node), [known[source] for source in node.all_input_nodes]]
    plain = fx.map_arg((node.args, node.kwargs), lambda source: known[source])
    return [node.op, str(node.target), str(plain)]
