"""From a compressed model to the bytes of a .pte file whose layers XNNPACK carries out.

Goes ExecuTorch's own way, exporting, partitioning, delegating, and looks at the result: a layer
that should be integers and was not taken over as such is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

from executorch.exir import (  # type: ignore[import-untyped]
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    to_edge_transform_and_lower,
)
from executorch.exir.passes import MemoryPlanningPass  # type: ignore[import-untyped]
from torch import Tensor, fx, nn
from torch.export.exported_program import ExportedProgram

from compressors.data import Data
from compressors.errors import UserError
from compressors.quantization.layers import LayerQuantization, describe, strip
from compressors.record import CompressedModel
from evaluation.targets.executorch.dynamic import check_groups
from evaluation.targets.executorch.exporting import Partitioner, few_passes, quiet_exporters
from evaluation.targets.executorch.quantise import LAYERS, Quantise
from evaluation.targets.executorch.session import FIXED_BATCH
from evaluation.targets.executorch.signature import Sign
from evaluation.targets.executorch.traced import as_float32, operator, trace, untie


def lower(compressed: CompressedModel, data: Data, batch: int) -> tuple[bytes, str]:
    """The file's bytes, and the signature of what they compute."""
    module = deepcopy(compressed.module).cpu()
    described = describe(module)
    check_groups(described)
    strip(module)
    module.float().eval()
    untie(module)
    _smooth(module, described)
    example = tuple(as_float32(tensor.cpu()) for tensor in compressed.example)
    with quiet_exporters():
        traced = trace(module, example, batch)
        quantise, sign = Quantise(traced, described, data), Sign()
        with few_passes():
            edge = to_edge_transform_and_lower(
                traced.program,
                transform_passes=[quantise, sign],
                partitioner=[Partitioner()],
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
                constant_methods=None if traced.any_batch else {FIXED_BATCH: traced.largest},
            )
        _check(edge.exported_program(), quantise.layers)
        planning = MemoryPlanningPass(alloc_graph_input=False)
        made = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
        return bytes(made.buffer), sign.signature


def _smooth(module: nn.Module, described: Mapping[str, LayerQuantization]) -> None:
    """Divide the inputs of layers whose weights took their outliers."""
    for name, facts in described.items():
        if facts.smoothing is not None:
            module.get_submodule(name).register_forward_pre_hook(_Divide(facts.smoothing))


@dataclass(frozen=True)
class _Divide:
    factors: Tensor

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return args[0] / self.factors.detach().cpu().float(), *args[1:]


def _check(program: ExportedProgram, layers: Mapping[str, str]) -> None:
    """Every integer layer's weights must lie in a delegate, read by an integer operator there."""
    taken: set[str] = set()
    for delegate in delegates(program):
        taken |= integer_weights(delegate)
    lost = sorted({layers[name] for name in set(layers) - taken})
    if lost:
        names = ", ".join(f"'{name}'" for name in lost)
        raise UserError(f"XNNPACK has no integer kernel for {names}; valid there: float.")


def delegates(program: ExportedProgram) -> list[ExportedProgram]:
    """What was given to XNNPACK."""
    module = program.graph_module
    names = [str(node.target) for node in module.graph.nodes if node.op == "get_attr"]
    return [getattr(module, n).original_module for n in names if n.startswith("lowered_module")]


def integer_weights(program: ExportedProgram) -> set[str]:
    """The names of weights that a delegate's operators read as integers, along with their input."""
    buffers = program.graph_signature.inputs_to_buffers
    found = set()
    for node in program.graph_module.graph.nodes:
        if operator(node) in LAYERS and all(_dequantised(arg) for arg in node.args[:2]):
            found.add(buffers.get(node.args[1].args[0].name, ""))
    return found


def _dequantised(arg: object) -> bool:
    return isinstance(arg, fx.Node) and "dequantize" in operator(arg)
