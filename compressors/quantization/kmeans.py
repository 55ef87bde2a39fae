"""k-means of numbers on a line, many rows at once, without chance.

Rows are sorted, so that a cluster is a stretch of its row, its mean and error differences of
running sums. Few clusters start from the best cuts between cells of each row (every value its own
cell where there are not too many), found by dynamic programming; many by halving the worst cluster
again and again. From there Lloyd's iteration goes to its end.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 300  # of Lloyd's iteration
CELLS = 160
FEW = 32  # clusters
PART = 16  # rows whose cells are compared at once


def fit_centres(rows: Tensor, alive: Tensor | None, count: int) -> Tensor:
    """The ascending centres of every row in double precision: rows x count.

    Elements that are not alive belong to no cluster.
    """
    values = rows.double()
    living = torch.ones_like(values) if alive is None else alive.double()
    beyond = torch.full_like(values, float("inf"))
    ordered, order = torch.where(living > 0, values, beyond).sort(dim=1)
    points = _Points(ordered.contiguous(), living.gather(1, order))
    start = points.best_cuts(count) if count <= FEW else points.halved(count)
    return points.centres(points.settled(start))


class _Points:
    """Sorted rows, those that do not count last (as infinities), and their running sums.

    Clusters are told by their cuts: where each begins, and where the last one ends.
    """

    def __init__(self, values: Tensor, living: Tensor) -> None:
        self._values = values
        self._counts = living.sum(1, keepdim=True).long()
        plain = torch.where(living > 0, values, torch.zeros_like(values))
        # Sums of what is left of each row's mean, so that differences of squares stay exact.
        self._middle = plain.sum(1, keepdim=True) / self._counts.clamp(min=1)
        self._centred = (plain - self._middle) * living
        zero = values.new_zeros(len(values), 1)
        self._sums = torch.cat([zero, self._centred.cumsum(1)], 1)
        self._squares = torch.cat([zero, self._centred.square().cumsum(1)], 1)

    def centres(self, cuts: Tensor) -> Tensor:
        """The means of the clusters; an empty one has its left neighbour's."""
        sizes, means, _ = self._clusters(cuts)
        filled = means.masked_fill(sizes == 0, float("-inf")).cummax(1).values
        first = torch.where(self._counts > 0, self._centred[:, :1], torch.zeros_like(self._middle))
        return torch.where(filled.isfinite(), filled, first) + self._middle

    def settled(self, cuts: Tensor) -> Tensor:
        """Lloyd's iteration to its end."""
        for _ in range(ROUNDS):
            centres = self.centres(cuts)
            middles = ((centres[:, 1:] + centres[:, :-1]) / 2).contiguous()
            inner = torch.searchsorted(self._values, middles).minimum(self._counts)
            found = torch.cat([cuts[:, :1], inner, cuts[:, -1:]], 1)
            if torch.equal(found, cuts):
                break
            cuts = found
        return cuts

    def halved(self, count: int) -> Tensor:
        """Cut where the error is largest, at that cluster's mean, until there are so many."""
        cuts = torch.cat([torch.zeros_like(self._counts), self._counts], 1)
        for _ in range(count - 1):
            _, means, errors = self._clusters(cuts)
            mean = means.gather(1, errors.argmax(1, keepdim=True)) + self._middle
            cut = torch.searchsorted(self._values, mean).minimum(self._counts)
            cuts = torch.cat([cuts, cut], 1).sort(dim=1).values
        return cuts

    def best_cuts(self, count: int) -> Tensor:
        """Of all ways to cut between cells into so many clusters, the one of least error."""
        cells = self._cells()
        running = (cells, self._sums, self._squares)
        parts = zip(*(torch.split(tensor, PART) for tensor in running), strict=True)
        places = torch.cat([_best_places(_errors(*part), count) for part in parts])
        return cells.gather(1, places)

    def _clusters(self, cuts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sizes, means (of what is left of the row's) and errors."""
        sizes = cuts.diff(dim=1)
        sums, squares = (s.gather(1, cuts).diff(dim=1) for s in (self._sums, self._squares))
        means = sums / sizes.clamp(min=1)
        return sizes, means, squares - means * sums

    def _cells(self) -> Tensor:
        """Where cells begin and end: half at equal shares of the values, half as levels lie best.

        That is with the cube root of the density (Panter and Dite, 1951); between neighbours of n
        values the density is 1 / (n gap).
        """
        if self._values.shape[1] <= CELLS:
            every = torch.arange(self._values.shape[1] + 1, device=self._values.device)
            return every.minimum(self._counts)
        steps = torch.linspace(0, 1, CELLS // 2 + 1, dtype=torch.float64, device=self._sums.device)
        inside = torch.arange(1, self._values.shape[1], device=steps.device) < self._counts
        passed = (self._centred.diff(dim=1).clamp(min=0) ** (2 / 3) * inside).cumsum(1)
        close = torch.searchsorted(passed, (passed[:, -1:] * steps[:-1]).contiguous()) + 1
        even = (steps * self._counts).round().long()
        return torch.cat([even, close.minimum(self._counts)], 1).sort(dim=1).values


def _errors(cells: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
    """rows x ends x beginnings: the error of one cluster from there to there."""
    at, first, second = cells.double(), sums.gather(1, cells), squares.gather(1, cells)
    size, total, square = (t[:, :, None] - t[:, None, :] for t in (at, first, second))
    error = (square - total.square() / size.clamp(min=1)).clamp(min=0)
    backwards = torch.ones_like(error[0], dtype=torch.bool).triu(1)
    return error.masked_fill(backwards, float("inf"))


def _best_places(errors: Tensor, count: int) -> Tensor:
    """The cells at which the clusters begin, and the last one ends."""
    known = [errors[:, :, 0]]  # the least error up to each end, with ever more clusters
    for _ in range(count - 1):
        known.append((errors + known[-1][:, None, :]).amin(2))
    place = torch.full_like(known[0][:, :1], errors.shape[1] - 1, dtype=torch.long)
    places = [place]
    for before in reversed(known[:-1]):
        ending = errors.gather(1, place[:, :, None].expand(-1, -1, errors.shape[2]))[:, 0]
        place = (ending + before).argmin(1, keepdim=True)
        places.append(place)
    return torch.cat([torch.zeros_like(place), *reversed(places)], 1)
