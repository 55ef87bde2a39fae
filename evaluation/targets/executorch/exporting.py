"""What surrounds ExecuTorch's exporters: their talk is kept from users, and idle passes left out.

XNNPACK's preparation runs a score of passes, each of which interprets the whole graph anew. Most
look for operators that plain convolutional networks lack; of a graph with none but `PLAIN` ones,
three passes change something, and only these are run. Operators that XNNPACK takes whole are found
in one trace of the program instead of three, where it takes all of them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from executorch.backends.xnnpack import _passes, xnnpack_preprocess  # type: ignore[import-untyped]
from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # type: ignore[import-untyped]
    XnnpackPartitioner,
)
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
    "quantized_decomposed.dequantize_per_channel_group.default",
    "quantized_decomposed.choose_qparams.tensor",
    "quantized_decomposed.quantize_per_tensor.tensor",
    "quantized_decomposed.dequantize_per_tensor.tensor",
    "getitem",
}
NEEDED = [
    _passes.FuseActivationPass,
    _passes.ChannelsLastTaggedReshapePass,
    _passes.RemoveRedundantCopyPass,
]


class Partitioner(XnnpackPartitioner):  # type: ignore[misc]  # untyped
    """XNNPACK's own; asked again about single operators only where it does not take them all."""

    def ops_to_not_decompose(self, ep: ExportedProgram) -> Any:
        """What stays whole, and which of it after a second look; None: no such look."""
        whole, takes = super().ops_to_not_decompose(ep)
        asked = [node for node in ep.graph.nodes if node.target in whole]
        return whole, (None if all(takes(node) for node in asked) else takes)


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
