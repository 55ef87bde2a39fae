"""k-means of numbers on a line, many rows at once, without chance.

Rows are sorted, so that a cluster is a stretch of its row and its mean a difference of running
sums. Two starts, at equal shares of the values and at equal distances, each followed until nothing
moves; the better end is taken for each row.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 300


def fit_centres(rows: Tensor, alive: Tensor | None, count: int) -> Tensor:
    """The ascending centres of every row in double precision: rows x count.

    Elements that are not alive belong to no cluster.
    """
    values = rows.double()
    living = torch.ones_like(values) if alive is None else alive.double()
    last = torch.where(living > 0, values, torch.full_like(values, float("inf")))
    order = last.argsort(dim=1)
    points = _Points(values.gather(1, order), living.gather(1, order))
    ends = [points.settled(start) for start in points.starts(count)]
    errors = torch.stack([points.error(centres) for centres in ends])
    best = errors.argmin(0)[:, None]
    return torch.where(best == 0, ends[0], ends[1])


class _Points:
    """Sorted rows, those that do not count last, and their running sums."""

    def __init__(self, values: Tensor, living: Tensor) -> None:
        self._counts = living.sum(1, keepdim=True).long()
        beyond = torch.full_like(values, float("inf"))
        self._values = torch.where(living > 0, values, beyond).contiguous()
        zero = values.new_zeros(len(values), 1)
        self._plain = values * living
        self._sums = torch.cat([zero, self._plain.cumsum(1)], 1)
        self._squares = torch.cat([zero, self._plain.square().cumsum(1)], 1)

    def starts(self, count: int) -> tuple[Tensor, Tensor]:
        """Centres at equal shares of the values, and at equal distances."""
        steps = (torch.arange(count, dtype=torch.float64, device=self._sums.device) + 0.5) / count
        last = (self._counts - 1).clamp(min=0)
        places = (steps * self._counts).floor().long().minimum(last)
        low, high = self._plain[:, :1], self._plain.gather(1, last)
        return self._plain.gather(1, places), low + (high - low) * steps

    def settled(self, centres: Tensor) -> Tensor:
        """Lloyd's iteration to its end; a centre that nothing is nearest to stays."""
        cuts: Tensor | None = None
        for _ in range(ROUNDS):
            found = self._cuts(centres)
            if cuts is not None and torch.equal(found, cuts):
                break
            cuts = found
            sizes = cuts.diff(dim=1)
            means = self._sums.gather(1, cuts).diff(dim=1) / sizes.clamp(min=1)
            centres = torch.where(sizes > 0, means, centres).sort(dim=1).values
        return centres

    def error(self, centres: Tensor) -> Tensor:
        """Every row's sum of squared distances to the nearest centre."""
        cuts = self._cuts(centres)
        sums, squares = (s.gather(1, cuts).diff(dim=1) for s in (self._sums, self._squares))
        return (squares - 2 * centres * sums + centres.square() * cuts.diff(dim=1)).sum(1)

    def _cuts(self, centres: Tensor) -> Tensor:
        """Where each cluster's stretch begins, and where the last one ends."""
        middles = (centres[:, 1:] + centres[:, :-1]) / 2
        inner = torch.searchsorted(self._values, middles).minimum(self._counts)
        return torch.cat([torch.zeros_like(self._counts), inner, self._counts], 1)
