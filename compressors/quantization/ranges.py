"""How much of their values a weight's grids cover, for every row at once.

minmax covers everything; percentile leaves out the outermost thousandth; mse takes what rounds
with the least squared error; entropy what changes the distribution of the values least. Knows
number formats by their interface, and nothing of layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compressors.calibration.collectors import BINS
from compressors.policies.steps import Ranges
from compressors.quantization.divergence import divergence
from compressors.quantization.number_format import Ends, Grid, NumberFormat

OUTSIDE = 1e-3  # the share that percentile leaves out
SHARES = tuple(i / 40 for i in range(1, 41))  # of all there is, that mse and entropy try
FINE = tuple(i / 400 for i in range(-9, 10) if i)  # moves that mse tries around the best
BINS_A_LEVEL = 16  # of a row's histogram, up to BINS in all
LARGEST_HISTOGRAMS = 2**20  # bins that are held at once
Error = Callable[[Ends], Tensor]


@torch.no_grad()
def fit_ends(
    number_format: NumberFormat, rows: Tensor, alive: Tensor | None, ranges: Ranges
) -> Grid:
    """The grid of every row, its parts one value a row."""
    grid = number_format.grid(_ends(number_format, rows, alive, ranges))
    zero = None if grid.zero is None else grid.zero[:, 0]
    return Grid(grid.scale[:, 0], zero)


def _ends(number_format: NumberFormat, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Ends:
    ends = number_format.ends(rows, (1,))
    if ranges == "percentile":
        return _percentiles(rows, alive, ends)
    if ranges == "mse":

        def error(tried: Ends) -> Tensor:
            return (rounded(number_format, rows, tried) - rows).square().sum(1)

        return least(error, ends)
    if ranges == "entropy":
        return _entropy(number_format, rows, alive, ends)
    return ends


def rounded(number_format: NumberFormat, x: Tensor, ends: Ends) -> Tensor:
    """Values on the grid that covers the ends."""
    grid = number_format.grid(ends)
    return number_format.nearest(x / grid.scale, grid) * grid.scale


def least(error: Error, ends: Ends) -> Ends:
    """The ends of least error: at first in step, then each for itself, then a little to and fro."""
    best = _Best(error, ends)
    for share in reversed(SHARES[:-1]):
        best.take(tuple(end * share for end in ends))
    if len(ends) > 1:
        for side, end in enumerate(ends):
            for share in (0.0, *SHARES):
                best.take(_with(best.ends, side, end * share))
    for side, end in enumerate(ends):
        centre = best.ends[side]
        for move in FINE:
            best.take(_with(best.ends, side, centre + move * end))
    return best.ends


def span(ends: Ends) -> tuple[Tensor, Tensor]:
    """From where to where; of a single end, to both sides of 0."""
    low, high = (-ends[0], ends[0]) if len(ends) == 1 else ends
    return low, high


class _Best:
    """The best ends so far of every row."""

    def __init__(self, error: Error, ends: Ends) -> None:
        self._error, self.ends, self._errors = error, ends, error(ends)

    def take(self, candidate: Ends) -> None:
        """Rows that it serves better take the candidate."""
        found = self._error(candidate)
        better = (found < self._errors)[:, None]
        pairs = zip(candidate, self.ends, strict=True)
        self.ends = tuple(torch.where(better, new, old) for new, old in pairs)
        self._errors = torch.minimum(found, self._errors)


def _with(ends: Ends, side: int, end: Tensor) -> Ends:
    return tuple(end if place == side else other for place, other in enumerate(ends))


def _percentiles(rows: Tensor, alive: Tensor | None, ends: Ends) -> Ends:
    """Half of what is left out lies beyond each end, or all of it beyond the only one."""
    if len(ends) == 1:
        return (_quantile(rows.abs(), alive, 1 - OUTSIDE).minimum(ends[0]),)
    low, high = ends
    inner = (_quantile(rows, alive, share) for share in (OUTSIDE / 2, 1 - OUTSIDE / 2))
    return next(inner).clamp(max=0).maximum(low), next(inner).clamp(min=0).minimum(high)


def _quantile(rows: Tensor, alive: Tensor | None, share: float) -> Tensor:
    """Between the two nearest of the values that count; of none, zero."""
    if alive is None:
        last, ordered = rows.new_full((len(rows), 1), rows.shape[1] - 1.0), rows.sort(1).values
    else:
        last = alive.sum(1, keepdim=True).clamp(min=1).to(rows.dtype) - 1
        beyond = torch.full_like(rows, float("inf"))
        ordered = torch.where(alive, rows, beyond).sort(1).values
    place = last * share
    below = place.floor()
    low, high = (ordered.gather(1, at.long()) for at in (below, torch.minimum(below + 1, last)))
    found = low + (high - low) * (place - below)
    return torch.where(found.isfinite(), found, torch.zeros_like(found))


def _entropy(number_format: NumberFormat, rows: Tensor, alive: Tensor | None, ends: Ends) -> Ends:
    """Rows in parts, as their histograms are large."""
    part = LARGEST_HISTOGRAMS // _bins(number_format)
    found = []
    for start in range(0, len(rows), part):
        some = slice(start, start + part)
        living = rows[some] != 0 if alive is None else alive[some] & (rows[some] != 0)
        found.append(
            _least_divergence(number_format, rows[some], living, tuple(e[some] for e in ends))
        )
    return tuple(torch.cat(sides) for sides in zip(*found, strict=True))


def _bins(number_format: NumberFormat) -> int:
    return int(min(BINS, BINS_A_LEVEL * 2**number_format.bits))


def _least_divergence(
    number_format: NumberFormat, rows: Tensor, living: Tensor, ends: Ends
) -> Ends:
    low, high = span(ends)
    bins = _bins(number_format)
    width = ((high - low) / bins).clamp(min=torch.finfo(rows.dtype).tiny)
    places = ((rows - low) / width).floor().clamp(0, bins - 1).long()
    counts = torch.zeros(len(rows), bins, dtype=torch.float64, device=rows.device)
    counts.scatter_add_(1, places, living.double())
    middles = low + width * (torch.arange(bins, device=rows.device, dtype=rows.dtype) + 0.5)
    best, lowest = ends, torch.full((len(rows),), float("inf"), device=rows.device).double()
    for share in reversed(SHARES):
        tried = tuple(end * share for end in ends)
        inside = (middles >= low * share) & (middles <= high * share)
        found = divergence(counts, inside, rounded(number_format, middles, tried))
        better = (found < lowest)[:, None]
        best = tuple(torch.where(better, new, old) for new, old in zip(tried, best, strict=True))
        lowest = torch.minimum(found, lowest)
    return best
