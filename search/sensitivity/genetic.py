"""A genetic search that asks no network: tens of thousands of settings priced by surrogates.

Non-dominated sorting with crowding, as NSGA-II has them, on whole populations at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search.front.volumes import non_dominated
from search.sensitivity.coding import Coding, Rows, Settings

Floats = NDArray[np.float64]
POPULATION = 160
GENERATIONS = 100
STEP = 0.7  # share of mutations that go to a neighbouring choice


def evolve(
    coding: Coding,
    losses: Callable[[Settings], Floats],  # a column an objective, less is better
    start: Rows,
    random: np.random.Generator,
    generations: int = GENERATIONS,
) -> Rows:
    """The non-dominated settings found, from these on."""
    rows = np.unique(coding.canonical(start), axis=0)
    values = losses(coding.settings(rows))
    for _ in range(generations):
        children = coding.canonical(offspring(coding, rows, POPULATION, random))
        rows, first = np.unique(np.concatenate([rows, children]), axis=0, return_index=True)
        fresh = first >= len(values)
        found = np.empty((len(rows), values.shape[1]))
        found[~fresh] = values[first[~fresh]]
        if fresh.any():
            found[fresh] = losses(coding.settings(rows[fresh]))
        kept = survivors(found, POPULATION)
        rows, values = rows[kept], found[kept]
    return rows[non_dominated(values)]


def offspring(coding: Coding, parents: Rows, count: int, random: np.random.Generator) -> Rows:
    """Children of two parents each, with a few choices changed."""
    pairs = random.integers(0, len(parents), size=(2, count))
    crossed = random.random((count, 1)) < 0.7
    second = random.random((count, len(coding))) < 0.5
    rows = np.where(crossed & second, parents[pairs[1]], parents[pairs[0]])
    return mutated(coding, rows, random)


def mutated(coding: Coding, rows: Rows, random: np.random.Generator) -> Rows:
    """The rows with one choice changed or a few, most of them by one step."""
    shape = rows.shape
    rate = random.choice([1.0, 2.0, 4.0], size=(shape[0], 1)) / shape[1]
    changed = random.random(shape) < rate
    changed[np.arange(shape[0]), random.integers(0, shape[1], shape[0])] = True
    steps = rows + random.choice([-1, 1], size=shape)
    anything = (random.random(shape) * coding.sizes).astype(np.int16)
    near = random.random(shape) < STEP
    moved = np.where(near, np.clip(steps, 0, coding.sizes - 1), anything)
    found: Rows = np.where(changed, moved, rows).astype(np.int16)
    return found


def survivors(values: Floats, count: int) -> NDArray[np.intp]:
    """The best so many by rank, the most lonely first within the last rank taken."""
    left = np.arange(len(values))
    kept: list[int] = []
    while len(left) and len(kept) < count:
        best = non_dominated(values[left])
        layer, left = left[best], left[~best]
        room = count - len(kept)
        if len(layer) > room:
            layer = layer[np.argsort(-crowding(values[layer]), kind="stable")[:room]]
        kept.extend(int(place) for place in layer)
    return np.array(kept, dtype=np.intp)


def crowding(values: Floats) -> Floats:
    """How far each point's neighbours are from each other, summed over objectives."""
    found = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        spread = column[order[-1]] - column[order[0]]
        if spread > 0 and len(order) > 2:
            found[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
        found[order[[0, -1]]] = np.inf
    return found
