"""The correction: it finds the factors that made the figures, and does not run wild."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.latency import correction
from evaluation.latency.correction import FAMILIES, Correction, by_family


def models(seed: int, count: int = 15) -> list[dict[str, float]]:
    parts = np.random.default_rng(seed).uniform(0.3, 2, (count, len(FAMILIES)))
    return [dict(zip(FAMILIES, each, strict=True)) for each in parts.tolist()]


@dataclass(frozen=True)
class Made:
    """Models and what they take, by a start and factors that the fit has to find."""

    sums: list[dict[str, float]]
    told: list[float]

    def errors(self, found: Correction) -> np.ndarray:
        return np.array([found.latency_ms(one) for one in self.sums]) / self.told - 1


@st.composite
def made(draw: st.DrawFn) -> Made:
    start = draw(st.floats(0.0, 0.2))
    factors = {name: draw(st.floats(0.7, 1.6)) for name in FAMILIES}
    sums = models(draw(st.integers(0, 99)))
    return Made(sums, [start + sum(factors[name] * one[name] for name in FAMILIES) for one in sums])


@settings(max_examples=40, deadline=None)
@given(made())
def test_it_is_no_farther_from_its_models_than_one_pace_for_all(made: Made) -> None:
    found = correction.fit(made.sums, made.told)
    totals = np.array([sum(one.values()) for one in made.sums])
    pace = np.median(made.told / totals)
    errors, at_one_pace = made.errors(found), pace * totals / made.told - 1
    assert (errors**2).sum() <= (at_one_pace**2).sum() + 1e-9
    assert found.departure == pytest.approx(np.abs(errors).mean(), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(made())
def test_what_very_many_models_tell_is_believed(made: Made) -> None:
    """Drawn as they are, fifteen may be left some way off; what they say a hundredfold is not."""
    found = correction.fit(made.sums * 100, made.told * 100)
    assert np.abs(made.errors(found)).max() < 0.05
    one, other = made.sums[:2]
    unseen = found.latency_ms({name: (one[name] + other[name]) / 2 for name in FAMILIES})
    assert unseen == pytest.approx(sum(made.told[:2]) / 2, rel=0.05)


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
