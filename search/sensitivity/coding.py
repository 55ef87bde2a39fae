"""A space's settings as rows of small integers, and as rows of zeros and ones.

The knobs that change the network are in it, each with its choices in order, the one that keeps
most first; the knobs of training after the cuts are not. What lies in a removed block has no
ones, so that settings of one network are one row. Knows no model and no sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.policies.policy import Policy, Recovery, Rounds
from search.space.knobs import Choices, Knob
from search.space.options import Choice
from search.space.space import Space

Rows = NDArray[np.int16]  # settings, a line each
Ones = NDArray[np.float32]  # the same with a column for every choice of every knob


@dataclass(frozen=True)
class Settings:
    """Rows with what follows from them; a column is one choice of one knob."""

    rows: Rows
    alive: NDArray[np.bool_]  # of each row which knobs do anything
    starts: NDArray[np.int64]  # the first column of each knob
    width: int  # columns in all

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """Of each row the column of every knob's choice."""
        found: NDArray[np.int64] = self.starts[None, :] + self.rows
        return found

    @cached_property
    def ones(self) -> Ones:
        """A one in the column of each choice that does anything."""
        table = np.zeros((len(self.rows), self.width), dtype=np.float32)
        table[np.arange(len(self.rows))[:, None], self.columns] = self.alive
        return table

    @cached_property
    def steps(self) -> Ones:
        """Ones up to the choice of each knob that does anything, but for its first."""
        sizes = np.diff([*self.starts, self.width])
        places = np.arange(self.width) - np.repeat(self.starts, sizes)
        reached = np.repeat(np.where(self.alive, self.rows, 0), sizes, axis=1) >= places
        return (reached & (places > 0)).astype(np.float32)

    def climbed(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product of `steps` and weights, without the many zeros."""
        rising = weights.copy()
        rising[self.starts] = 0.0
        rising = rising.cumsum()
        rising -= np.repeat(rising[self.starts], np.diff([*self.starts, self.width]))
        found: NDArray[np.float64] = (rising[self.columns] * self.alive).sum(axis=1)
        return found


class Coding:
    """Settings of one space as numbers."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.knobs = tuple(
            knob
            for knob in space.knobs
            if knob.kind != "recovery" and isinstance(knob.domain, Choices)
        )
        self.values = tuple(_ordered(space, knob) for knob in self.knobs)
        self._index = [{value: i for i, value in enumerate(values)} for values in self.values]
        self.sizes = np.array([len(values) for values in self.values], dtype=np.int16)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        self.width = int(self.sizes.sum())
        self._inside, self._owned = _nesting(self.knobs)

    def __len__(self) -> int:
        return len(self.knobs)

    def encode(self, params: Mapping[str, Any]) -> Rows:
        """A setting as a row; knobs left out are at their first value."""
        pairs = zip(self.knobs, self._index, strict=True)
        row = [index[params.get(knob.name, knob.first)] for knob, index in pairs]
        return np.array(row, dtype=np.int16)

    def params(self, row: Rows) -> dict[str, Any]:
        """The setting that a row stands for, without the knobs of recovery."""
        triples = zip(self.knobs, self.values, row, strict=True)
        return {knob.name: values[int(index)] for knob, values, index in triples}

    def alive(self, rows: Rows) -> NDArray[np.bool_]:
        """Of each setting which knobs do anything: those not wholly inside removed blocks."""
        removed = np.zeros((len(rows), len(self._inside)), dtype=np.float32)
        place = 0
        for index, knob in enumerate(self.knobs):
            if knob.kind != "depth":
                continue
            gone = np.array([bool(value) for value in self.values[index]])
            removed[:, place] = gone[rows[:, index]]
            place += 1
        standing = (removed @ self._inside) == 0
        found: NDArray[np.bool_] = (standing.astype(np.float32) @ self._owned) > 0
        return found

    def canonical(self, rows: Rows) -> Rows:
        """The rows with every knob that does nothing at its first choice."""
        return np.where(self.alive(rows), rows, 0).astype(np.int16)

    def settings(self, rows: Rows) -> Settings:
        """Rows with what follows from them."""
        rows = np.atleast_2d(rows)
        return Settings(rows, self.alive(rows), self.starts, self.width)

    def draw(self, random: np.random.Generator, count: int) -> Rows:
        """Settings drawn evenly."""
        return random.integers(0, self.sizes, size=(count, len(self))).astype(np.int16)

    def single(self, knob: int, index: int) -> Policy:
        """The policy of one choice and nothing else, without any training."""
        chosen = self.knobs[knob]
        alone = Space(self.space.structure, (chosen,), self.space.fixed)
        return untrained(alone.policy({chosen.name: self.values[knob][index]}))

    def policy(self, row: Rows) -> Policy:
        """The policy of a row, without any training."""
        return untrained(self.space.policy(self.params(row)))


def untrained(policy: Policy) -> Policy:
    """The policy's cuts alone, made at once."""
    return replace(policy, recovery=Recovery(), rounds=Rounds())


def _ordered(space: Space, knob: Knob) -> tuple[Choice, ...]:
    """A knob's choices, from the one that keeps most to the one that keeps least."""
    if knob.kind in ("depth", "policy"):
        return knob.values
    words = space.fixed.words(knob.kind)
    return tuple(sorted(knob.values, key=lambda word: kept(words.step(word)), reverse=True))


def kept(step: Any) -> float:
    """Roughly how much a step leaves, for the order of choices alone; 1 where it is no step."""
    if step is None:
        return 1.0
    names = vars(step)
    if "weights" in names:
        return float((step.weights or 32) + 0.1 * (step.activations or 32)) / 40
    if "ratio" in names:
        return float(step.ratio or step.energy or 0.5)
    if getattr(step, "pattern", None):
        share, of = step.kept_of
        return float(share / of)
    return 1.0 - float(step.channels if "channels" in names else step.share)


def _nesting(knobs: tuple[Knob, ...]) -> tuple[Ones, Ones]:
    """Which names lie inside each block that a knob removes, and which names each knob has.

    A knob's own blocks do not count as inside of it. Knobs without names stand for themselves.
    """
    names = [(index, name) for index, knob in enumerate(knobs) for name in knob.controls or ("",)]
    owned = np.zeros((len(names), len(knobs)), dtype=np.float32)
    removers = [index for index, knob in enumerate(knobs) if knob.kind == "depth"]
    inside = np.zeros((len(removers), len(names)), dtype=np.float32)
    for column, (index, name) in enumerate(names):
        owned[column, index] = 1
        for line, remover in enumerate(removers):
            blocks = knobs[remover].controls
            inside[line, column] = index != remover and any(_within(name, b) for b in blocks)
    return inside, owned


def _within(name: str, block: str) -> bool:
    return name == block or name.startswith(f"{block}.")
