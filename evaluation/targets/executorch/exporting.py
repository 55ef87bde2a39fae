"""What surrounds ExecuTorch's exporters: their talk is kept from users, and idle passes left out.

XNNPACK's preparation runs a score of passes, each of which interprets the whole graph anew. Most
look for operators that plain convolutional networks lack; of a graph with none but `PLAIN` ones,
three passes change something, and only these are run.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from executorch.backends.xnnpack import _passes, xnnpack_preprocess  # type: ignore[import-untyped]
from torch.export.exported_program import ExportedProgram

from evaluation.targets.executorch.traced import operator

PLAIN = {
    "",  # of what computes nothing
    "aten.convolution.default",
    "aten.linear.default",
    "aten.relu.default",
    "aten.hardtanh.default",
    "aten.add.Tensor",
    "aten.mean.dim",
    "aten.max_pool2d.default",
    "aten.view_copy.default",
    "quantized_decomposed.quantize_per_tensor.default",
    "quantized_decomposed.dequantize_per_tensor.default",
    "quantized_decomposed.dequantize_per_channel.default",
}
NEEDED = [
    _passes.FuseActivationPass,
    _passes.ChannelsLastTaggedReshapePass,
    _passes.RemoveRedundantCopyPass,
]


class _FewPasses(_passes.XNNPACKPassManager):  # type: ignore[misc]  # untyped
    def __init__(self, exported_program: ExportedProgram, passes: Any = None) -> None:
        super().__init__(exported_program, NEEDED if _is_plain(exported_program) else passes)


def _is_plain(program: ExportedProgram) -> bool:
    nodes = program.graph_module.graph.nodes
    planes = all(
        node.args[1].meta["val"].dim() == 4
        for node in nodes
        if operator(node) == "aten.convolution.default"
    )
    return planes and all(operator(node) in PLAIN for node in nodes)


@contextmanager
def few_passes() -> Iterator[None]:
    """Leave out passes that would find nothing."""
    before = xnnpack_preprocess.XNNPACKPassManager
    xnnpack_preprocess.XNNPACKPassManager = _FewPasses
    try:
        yield
    finally:
        xnnpack_preprocess.XNNPACKPassManager = before


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """What exporters warn of is not for our users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
