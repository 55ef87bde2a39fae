"""The correction: it finds the factors that made the figures, and does not run wild."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.latency import correction
from evaluation.latency.correction import FAMILIES, Correction, by_family


def models(seed: int, count: int = 15) -> list[dict[str, float]]:
    chance = np.random.default_rng(seed)
    return [
        dict(zip(FAMILIES, chance.uniform(0.05, 2, 3).tolist(), strict=True)) for _ in range(count)
    ]


FACTOR = st.floats(0.7, 1.6)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 0.2), FACTOR, FACTOR, FACTOR, st.integers(0, 99))
def test_latencies_are_found_where_factors_made_them(
    start: float, heavy: float, whole: float, light: float, seed: int
) -> None:
    true = Correction(start, dict(zip(FAMILIES, (heavy, whole, light), strict=True)), 0.0)
    sums = models(seed)
    found = correction.fit(sums, [true.latency_ms(one) for one in sums])
    for one in models(seed + 1):
        assert found.latency_ms(one) == pytest.approx(true.latency_ms(one), rel=0.12)


def test_departures_are_told() -> None:
    sums = models(3)
    chance = np.random.default_rng(4)
    noisy = [sum(one.values()) * (1 + 0.1 * chance.choice([-1, 1])) for one in sums]
    found = correction.fit(sums, noisy)
    assert 0.05 < found.departure < 0.15


def test_a_family_that_no_model_holds_goes_with_the_others() -> None:
    sums = [{"float": 1.0 + n / 10, "light": 0.1} for n in range(8)]
    found = correction.fit(sums, [1.2 * one["float"] + 0.1 for one in sums])
    assert found.factors["integer"] == pytest.approx(1.2, rel=0.15)
    assert found.latency_ms(sums[0]) == pytest.approx(1.3, rel=0.03)


def test_what_is_written_is_read_and_damage_is_no_correction(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    assert correction.read(path) is None
    made = Correction(0.01, dict.fromkeys(FAMILIES, 1.1), 0.02)
    correction.write(path, made)
    assert correction.read(path) == made
    path.write_text(path.read_text()[:-20])
    assert correction.read(path) is None


def test_sums_are_by_family() -> None:
    assert by_family([("float", 1.0), ("light", 0.5), ("float", 2.0)]) == {
        "float": 3.0,
        "light": 0.5,
    }
