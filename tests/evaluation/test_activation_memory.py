"""The most that activations take at once: against an allocator that is walked step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import relu

from evaluation.costs.activations import activation_bytes
from evaluation.costs.liveness import Step, peak_bytes
from tests.evaluation.tiny import LAYERS, TinyTask


def walked(steps: Sequence[Step], sizes: Mapping[int, float], outputs: Iterable[int]) -> float:
    """Hold buffers in a list, let go of each when nothing ahead wants it, and look at the sum."""
    kept = set(outputs)
    made = {b for step in steps for b in step.writes}
    held = sorted({b for step in steps for b in step.reads} - made)
    most = 0.0
    for number, step in enumerate(steps):
        ahead = kept.union(*({*later.reads, *later.writes} for later in steps[number + 1 :]))
        for result in step.writes:
            free = [b for b in held if b in step.reads and b not in ahead]
            alike = [b for b in free if sizes[b] == sizes[result]]
            if step.in_place and alike:
                held.remove(alike[0])
            held.append(result)
        most = max(most, sum(sizes[b] for b in held))
        held = [b for b in held if b in ahead]
    return most


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Step], dict[int, float], list[int]]:
    """Steps in an order that can run; what nobody reads is an output, or is let go."""
    known, steps = list(range(draw(st.integers(1, 2)))), []
    for _ in range(draw(st.integers(1, 9))):
        reads = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        count = draw(st.integers(1, 2))
        writes = tuple(range(len(known), len(known) + count))
        known += writes
        steps.append(Step(tuple(reads), writes, draw(st.booleans())))
    sizes = {buffer: float(draw(st.sampled_from((1, 2, 2, 5)))) for buffer in known}
    made = [b for step in steps for b in step.writes]
    return steps, sizes, draw(st.lists(st.sampled_from(made), max_size=3, unique=True))


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_the_peak_is_that_of_an_allocator(
    graph: tuple[list[Step], dict[int, float], list[int]],
) -> None:
    steps, sizes, outputs = graph
    read = {b for step in steps for b in (*step.reads, *step.writes)}
    expected = walked(steps, {b: sizes[b] for b in read}, outputs)
    assert peak_bytes(steps, {b: sizes[b] for b in read}, outputs) == expected


class Tangle(nn.Module):
    """Linear layers, each fed by the sum of some results before it, which are as wide."""

    def __init__(self, sources: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.sources = sources
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in sources)

    def forward(self, x: Tensor) -> Tensor:
        results = [x]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            total = results[sources[0]]
            for source in sources[1:]:
                total = total + results[source]
            results.append(layer(total))
        return results[-1]


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_a_torch_model_needs_what_its_graph_needs(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    sources = [
        data.draw(st.lists(st.integers(0, n), min_size=1, max_size=3, unique=True))
        for n in range(count)
    ]
    steps, place, fresh = [], [0], count + 1
    for n, read in enumerate(sources):
        total = place[read[0]]
        for other in read[1:]:
            steps.append(Step((total, place[other]), (fresh,), in_place=True))
            total, fresh = fresh, fresh + 1
        steps.append(Step((total,), (n + 1,)))
        place.append(n + 1)
    wanted: set[int] = {count}
    used: list[Step] = []
    for step in reversed(steps):  # results that lead nowhere are never kept
        if wanted.intersection(step.writes):
            wanted.update(step.reads)
            used.insert(0, step)
    sizes = dict.fromkeys(range(fresh), 16.0)
    found = activation_bytes(Tangle(sources), (torch.zeros(3, 4),), {})
    assert found == walked(used, sizes, [count])


def test_a_residual_network_by_hand() -> None:
    model, image = TinyTask().model(), (torch.zeros(5, 1, 12, 12),)
    feature = 16 * 12 * 12  # of the block: what goes around it, what goes in, what comes out
    assert activation_bytes(model, image, {}) == 3 * feature * 4
    assert activation_bytes(model, image, dict.fromkeys(LAYERS, 8)) == 3 * feature
    # What block.two reads takes 4 bits, what comes after it is read by `down`, and around it too.
    mixed = {**dict.fromkeys(LAYERS, 8), "block.two": 4}
    assert activation_bytes(model, image, mixed) == 2.5 * feature
    half = {**dict.fromkeys(LAYERS, 8), "down": None}
    assert activation_bytes(model, image, half) == (1 + 4 + 4) * feature


def test_views_and_writing_in_place_take_nothing() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 36, 10)
    )
    assert activation_bytes(model, (torch.zeros(2, 3, 8, 8),), {}) == (3 * 64 + 8 * 36) * 4


class Around(nn.Module):
    """Adds in place what it was given at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 100), nn.Linear(100, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(relu(self.one(x)))
        y += x
        return y


def test_what_is_added_in_place_at_the_end_is_held_until_then() -> None:
    assert activation_bytes(Around(), (torch.zeros(1, 4),), {}) == (100 + 4 + 4) * 4


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_float_is_32_bits_whatever_the_checkpoint_has(kind: torch.dtype) -> None:
    model = nn.Linear(6, 5).to(kind)
    assert activation_bytes(model, (torch.zeros(1, 6, dtype=kind),), {}) == (6 + 5) * 4


def test_whole_numbers_take_what_they_take() -> None:
    table = nn.Embedding(11, 4)
    assert activation_bytes(table, (torch.zeros(1, 3, dtype=torch.long),), {}) == 3 * 8 + 12 * 4
