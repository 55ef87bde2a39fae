"""Every cost of a candidate that needs no clock, in the order in which it is reported."""

from __future__ import annotations

from copy import deepcopy

from compressors.quantization.layers import strip
from compressors.record import CompressedModel
from evaluation.costs.activations import activation_bytes
from evaluation.costs.counting import bit_operations, parameters, skipped_zeros
from evaluation.costs.energy import modelled
from evaluation.measurement import ACTIVATIONS, BIT_OPERATIONS, MACS, PARAMETERS, SIZE, Value
from evaluation.target import Artifact, Target
from evaluation.target_extras import PricesEnergy
from evaluation.work import work_of


def costs_of(compressed: CompressedModel, artifact: Artifact, target: Target) -> tuple[Value, ...]:
    """Size, what is counted, memory, and energy by the target's own model where it has one."""
    plain = deepcopy(compressed.module)
    strip(plain)
    work = work_of(compressed)
    skipped = skipped_zeros(compressed.record, target.capability)
    bits = {layer.name: layer.activation_bits for layer in compressed.record.layers}
    return (
        Value(SIZE, float(artifact.size_bytes)),
        Value(PARAMETERS, float(parameters(plain))),
        Value(MACS, float(sum(each.macs for each in work))),
        Value(BIT_OPERATIONS, float(bit_operations(work, skipped))),
        Value(ACTIVATIONS, activation_bytes(plain, compressed.example, bits)),
        target.energy(artifact) if isinstance(target, PricesEnergy) else modelled(work, skipped),
    )
