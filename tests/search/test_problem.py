"""What a search is after: the box in which gains count."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

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
