"""Learned rounding: a beam search over the columns, then descent one weight at a time.

The search keeps, for every row, the few roundings of the columns so far that cost least given
that the columns to come are fitted without rounding; GPTQ is the search that keeps one. The
descent then moves single weights to other levels where the row's error falls. No row ends
with a larger error than GPTQ's. Measured on real activations against an (untuned) relaxation of
round-up and round-down as in AdaRound, 300 steps on the same second moments: a third of its error
or less on dense layers and full convolutions, 17 to 36 % less on depthwise ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressors.quantization.gptq import gptq
from compressors.quantization.rounding_problem import RoundingProblem

BEAM = 16
BLOCK = 32  # columns whose consequences for later ones are worked out at once
SWEEPS = 4
LARGEST = 2**22  # numbers that the search holds at once


def learned(problem: RoundingProblem) -> Tensor:
    """The integers: groups x rows x d."""
    groups, rows, d = problem.weights.shape
    size = max(1, LARGEST // (BEAM * groups * d))
    parts = [problem.rows(slice(start, start + size)) for start in range(0, rows, size)]
    return torch.cat([descend(part, _best(part)) for part in parts], dim=1)


def _best(problem: RoundingProblem) -> Tensor:
    """Of every row, the better of what GPTQ and the search found."""
    found = [gptq(problem), search(problem)]
    better = problem.errors(found[1]) < problem.errors(found[0])
    return torch.where(better[..., None], found[1], found[0])


def search(problem: RoundingProblem, beam: int = BEAM) -> Tensor:
    """The integers of the beam's best, none of them changed once it was chosen."""
    shares = problem.shares()
    missing = torch.zeros_like(problem.weights)[None]  # beam x groups x rows x d
    costs = missing[..., 0]
    for start in range(0, missing.shape[-1], BLOCK):
        block = slice(start, start + BLOCK)
        targets = problem.weights[..., block] + missing[..., :start] @ shares[:, :start, block]
        kept, costs, found = _search_block(problem, targets, costs, start, beam)
        missing = missing.gather(0, kept[..., None].expand(*kept.shape, missing.shape[-1]))
        missing[..., block] = found
    return problem.nearest(problem.weights - missing[0])


def _search_block(
    problem: RoundingProblem, targets: Tensor, costs: Tensor, start: int, beam: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Round a block's columns: which of the beam each of the new one continues, costs, errors."""
    size = targets.shape[-1]
    shares = problem.shares(slice(start, start + size))[:, None]
    state = targets.clone()  # errors of the columns that are rounded, targets of the others
    origins = torch.arange(len(costs), device=costs.device)[:, None, None].expand_as(costs)
    for i in range(size):
        levels, tried = _levels(problem, state[..., i], costs, start + i)
        costs, picks = tried.topk(min(beam, len(tried)), dim=0, largest=False)
        parents = picks % len(origins)
        origins = origins.gather(0, parents)
        state = state.gather(0, parents[..., None].expand(*parents.shape, size))
        chosen = problem.values(levels.gather(0, picks), start + i)
        state[..., i] = problem.weights[..., start + i] - chosen
        state[..., i + 1 :] += state[..., i, None] * shares[..., i, i + 1 :]
    return origins, costs, state


def _levels(
    problem: RoundingProblem, target: Tensor, costs: Tensor, column: int
) -> tuple[Tensor, Tensor]:
    """The level nearest to every target and its two neighbours, and the costs with them."""
    nearest = problem.nearest(target, column)
    around = torch.stack([nearest, nearest + 1, nearest - 1])
    levels = around.clamp(problem.lowest, problem.highest)
    levels = torch.where(problem.weights[..., column] == 0, nearest, levels)
    weigh = problem.factor[:, None, column, column]
    tried = costs + ((target - problem.values(levels, column)) * weigh) ** 2
    tried[1:].masked_fill_(levels[1:] == nearest, torch.inf)
    return levels.flatten(0, 1), tried.flatten(0, 1)


def descend(problem: RoundingProblem, integers: Tensor, sweeps: int = SWEEPS) -> Tensor:
    """Integers whose error is no larger than that of those given: groups x rows x d."""
    integers = integers.clone()
    for _ in range(sweeps):
        if not _sweep(problem, integers):
            break
    return integers


def _sweep(problem: RoundingProblem, integers: Tensor) -> bool:
    """Move every weight once to the level that suits all the others; whether any moved."""
    gram, d = problem.gram, problem.gram.shape[1]
    missing = problem.weights - problem.values(integers)
    changed = False
    for start in range(0, d, BLOCK):
        stop = min(start + BLOCK, d)
        slopes = missing @ gram[:, :, start:stop]
        for i in range(start, stop):
            now = problem.weights[..., i] - missing[..., i]
            best = now + slopes[..., i - start] / gram[:, None, i, i]
            found = problem.nearest(best, i)
            if torch.equal(found, integers[..., i]):
                continue
            step = problem.scales[..., i] * (found - integers[..., i])
            integers[..., i] = found
            missing[..., i] -= step
            slopes -= step[..., None] * gram[:, None, i, start:stop]
            changed = True
    return changed
