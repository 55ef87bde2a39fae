"""Findings as named tensors, as a cache by content keeps them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evaluation.probing.probe import Finding


def pack(finding: Finding) -> dict[str, Tensor]:
    """A finding's arrays as tensors."""
    found = {
        "damage": torch.from_numpy(finding.damage),
        "evaluations": torch.tensor(finding.evaluations, dtype=torch.float64),
        "scores": torch.tensor(finding.scores),
    }
    return found | {name: torch.from_numpy(array) for name, array in finding.arrays().items()}


def unpack(tensors: Mapping[str, Tensor]) -> Finding:
    """The finding; its arrays are its own."""
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
    return Finding(
        damage=arrays["damage"],
        evaluations=float(arrays["evaluations"]),
        changes=arrays.get("changes"),
        outputs=arrays.get("outputs"),
        reference=arrays.get("reference"),
        scores=bool(arrays["scores"]),
    )
