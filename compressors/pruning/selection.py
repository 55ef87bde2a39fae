"""Choosing the least of many scores, exactly so many; equal scores go by index.

Everything gives back flags, true for what was chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor


def removed_count(share: float, total: int) -> int:
    """How many weights a share comes to: the nearest number (the larger of two)."""
    return min(total, int(share * total + 0.5 + 1e-9))


def least(scores: Tensor, count: int) -> Tensor:
    """So many of all scores."""
    flat = scores.flatten()
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    bound = flat.kthvalue(count).values
    chosen = flat < bound
    ties = (flat == bound).nonzero().flatten()
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen.view(scores.shape)


def least_of_rows(scores: Tensor, count: int) -> Tensor:
    """So many in all, as evenly over the rows as can be: the first rows have the odd ones."""
    rows = len(scores)
    share, odd = divmod(count, rows)
    counts = torch.full((rows, 1), share, device=scores.device)
    counts[:odd] += 1
    order = torch.argsort(scores, dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places) < counts


def least_of_windows(scores: Tensor, kept: int, of: int) -> Tensor:
    """All but n of every m along the last dimension; what is left over there is not chosen."""
    whole = scores.shape[-1] // of * of
    windows = scores[..., :whole].reshape(-1, of)
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    flags = least_of_rows(windows, (of - kept) * len(windows)) if len(windows) else windows.bool()
    chosen[..., :whole] = flags.view(*scores.shape[:-1], whole)
    return chosen
