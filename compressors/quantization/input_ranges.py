"""Where the grid of a layer's inputs ends, found from a histogram of what was seen.

The grid is unsigned with a zero point, or that of 8-bit floats, and holds 0.0, so that values that
are zero to the last bit (what a ReLU cut off) round without error: mse and entropy leave them out.
Knows no layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressors.calibration.collectors import Histogram
from compressors.policies.steps import InputFormat, Ranges
from compressors.quantization.affine import Asymmetric
from compressors.quantization.divergence import divergence
from compressors.quantization.float_formats import Float8
from compressors.quantization.number_format import Ends, NumberFormat
from compressors.quantization.ranges import OUTSIDE, SHARES, least, rounded, span


def fit_inputs(
    seen: Histogram, zeros: float, bits: int, ranges: Ranges, inputs: InputFormat = "affine"
) -> tuple[float, float]:
    """The least and the largest value to cover; `zeros` is the share of values that were 0."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if ranges == "minmax" or not seen.high > seen.low:
        return low, high
    if ranges == "percentile":
        return _percentile(seen)
    grid: NumberFormat = Asymmetric(bits) if inputs == "affine" else Float8(inputs)
    ends = grid.ends(torch.tensor([[low, high]], dtype=torch.float64), (1,))
    middles, counts = seen.centres()[None], _without_zeros(seen, zeros)[None]
    found = (_least_error if ranges == "mse" else _entropy)(grid, middles, counts, ends)
    lowest, highest = span(found)
    return float(lowest), float(highest)


def _least_error(grid: NumberFormat, middles: Tensor, counts: Tensor, ends: Ends) -> Ends:
    def error(tried: Ends) -> Tensor:
        return ((rounded(grid, middles, tried) - middles).square() * counts).sum(1)

    return least(error, ends)


def _entropy(grid: NumberFormat, middles: Tensor, counts: Tensor, ends: Ends) -> Ends:
    shares = torch.tensor(SHARES[::-1], dtype=torch.float64)[:, None]
    tried = tuple(end * shares for end in ends)
    low, high = span(tried)
    inside = (middles >= low) & (middles <= high)
    found = divergence(counts.expand(len(shares), -1), inside, rounded(grid, middles, tried))
    best = int(found.argmin())
    return tuple(end[best : best + 1] for end in tried)


def _without_zeros(seen: Histogram, zeros: float) -> Tensor:
    counts = seen.counts.clone()
    if seen.low <= 0 <= seen.high:
        width = (seen.high - seen.low) / len(counts)
        place = min(int(-seen.low / width), len(counts) - 1)
        counts[place] = (counts[place] - zeros * counts.sum()).clamp(min=0)
    return counts


def _percentile(seen: Histogram) -> tuple[float, float]:
    share = seen.counts / seen.counts.sum()
    below = share.cumsum(0)
    inside = (below >= OUTSIDE / 2) & (below - share <= 1 - OUTSIDE / 2)
    middles = seen.centres()[inside]
    return float(middles[0]), float(middles[-1])
