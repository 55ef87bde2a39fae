"""What can be counted of a model, whatever runs it: parameters, multiply-accumulates, bits of them.

Bit operations are multiply-accumulates * bits of the weights * bits of the activations, and float
counts as 32 bits. Zeros count like any weight, unless the target's kernels leave them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from compressors.record import Record
from evaluation.target import FLOAT_BITS, Capability
from evaluation.work import Work, calls


def parameters(module: nn.Module) -> int:
    """Numbers learnt, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of every linear layer and convolution for one sample."""
    return sum(call.macs for call in calls(module, example))


def bit_operations(work: Iterable[Work], skipped: Mapping[str, float] | None = None) -> float:
    """Multiply-accumulates weighed by their bits; `skipped` is by layer, a share of its weights."""
    left_out = skipped or {}
    return sum(
        each.macs
        * (1 - left_out.get(each.layer, 0.0))
        * (each.weight_bits or FLOAT_BITS)
        * (each.activation_bits or FLOAT_BITS)
        for each in work
    )


def skipped_zeros(record: Record, capability: Capability) -> dict[str, float]:
    """The share of each layer's weights that a target's kernels do not multiply."""
    return {layer.name: capability.skipped(layer) for layer in record.layers}
