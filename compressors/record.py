"""What was really done to a model: enough for every target to lower it, and for a card to tell it.

Plain data; knows nothing of how the steps work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from compressors.policies.steps import InputFormat

LayerKind = Literal["linear", "conv1d", "conv2d", "conv_transpose2d", "embedding"]


@dataclass(frozen=True)
class LayerRecord:
    """One layer of the compressed model, by its module path there."""

    name: str
    source: str  # the layer of the original model that it comes from
    kind: LayerKind
    in_channels: int
    out_channels: int
    parameters: int
    weight_bits: int | None = None  # as stored; None: left in float
    activation_bits: int | None = None
    rank: int | None = None
    removed_channels: int = 0
    weight_function: str | None = None  # the number format of quantised weights
    granularity: str | None = None  # channel, tensor, or group of so many: group32
    rounding: str | None = None
    dynamic: bool = False  # activations' ranges are found on every input
    signed: bool = False  # 0 is the middle of activations' grid
    by_row: bool = False  # every row of activations has a range of its own
    inputs: InputFormat = "affine"  # the number format of quantised activations
    compute_bits: int | None = None  # of the integer kernel it is meant for; None: float
    sparsity: float = 0.0  # share of weights that are zero because they were set so
    pattern: str | None = None  # n:m
    simulated: tuple[str, ...] = ()  # steps that change the numbers here and no cost
    groups: int = 1  # of a convolution


@dataclass(frozen=True)
class AttentionRecord:
    """One attention that lost heads, by its module path."""

    name: str
    heads: int
    removed_heads: int


@dataclass(frozen=True)
class RecoveryRecord:
    """What recovery did: epochs run and the mean loss of each."""

    epochs: int
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Record:
    """The whole compressed model."""

    policy_id: str
    parameters: int
    layers: tuple[LayerRecord, ...]
    removed_blocks: tuple[str, ...] = ()
    recovery: RecoveryRecord | None = None
    rounds: tuple[RecoveryRecord, ...] = ()  # the training between rounds of cutting
    attentions: tuple[AttentionRecord, ...] = ()
    notes: tuple[str, ...] = ()  # what was asked for and not done, and why

    def to_json(self) -> dict[str, Any]:
        """The record as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True)
class CompressedModel:
    """The torch module (a simulation where it is quantised), its record, one example input."""

    module: nn.Module
    record: Record
    example: tuple[Tensor, ...] = field(repr=False)
