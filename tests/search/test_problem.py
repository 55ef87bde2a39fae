"""What a search is after: the box in which gains count."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from evaluation.measurement import Metric, Value
from search.study.ledger import Objective
from search.study.problem import Problem


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_no_quality_beyond_the_uncompressed_models_counts_until_it_is_measured(
    direction: Literal["minimize", "maximize"],
) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    objectives = (
        Objective("quality", "fraction", direction),
        Objective("size_bytes", "bytes", "minimize"),
    )
    problem = Problem(objectives, "quality")
    known = {"quality": 0.5, "size_bytes": 100.0}
    better = 0.5 - sign * 0.02
    losses = problem.losses([better, 100.0])[None]
    assert problem.box(known, np.zeros((0, 2))).ideal[0] == sign * 0.5
    assert problem.box(known, losses).ideal[0] == pytest.approx(sign * better)


@pytest.mark.parametrize(
    ("direction", "value", "ideal"),
    [
        ("minimize", 0.1, 0.08),
        ("minimize", 0.01, 0.0),
        ("maximize", 0.9, -0.92),
        ("maximize", 1, -1),
    ],
)
def test_what_chance_explains_is_no_better_than_the_ideal_nor_can_a_fraction_be(
    direction: Literal["minimize", "maximize"], value: float, ideal: float
) -> None:
    quality = Metric("quality", "fraction", direction)
    objectives = (
        Objective("quality", "fraction", direction),
        Objective("size_bytes", "bytes", "minimize"),
    )
    found = {
        "quality": Value(quality, value, 0.01),
        "size_bytes": Value(Metric("size_bytes", "bytes", "minimize"), 100.0),
    }
    box = Problem(objectives, "quality").box_beside(found)
    assert box.ideal == pytest.approx([ideal, 0.0])
