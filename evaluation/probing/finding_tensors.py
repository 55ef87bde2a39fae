"""Findings as named tensors, as a cache by content keeps them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evaluation.probing.probe import Finding


def pack(finding: Finding) -> dict[str, Tensor]:
    """A finding's arrays as tensors."""
    return {name: torch.from_numpy(array) for name, array in finding.arrays().items()}


def unpack(tensors: Mapping[str, Tensor]) -> Finding:
    """The finding; its arrays are its own."""
    return Finding.of({name: tensor.numpy().copy() for name, tensor in tensors.items()})
