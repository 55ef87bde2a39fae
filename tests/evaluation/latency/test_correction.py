"""The correction: it finds the factors that made the figures, and does not run wild."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.latency import correction
from evaluation.latency.correction import FAMILIES, Correction, Part, Priced


def model(sums: Mapping[str, float], megabytes: float = 1.0) -> Priced:
    """Of every family two operators, of two thirds and a third of its sum."""
    shares = {"big": 2 / 3, "small": 1 / 3}
    parts = [
        Part(f"{family} {name} {total:.6f}", family, total * share)
        for family, total in sums.items()
        for name, share in shares.items()
    ]
    return Priced(tuple(parts), megabytes)


def models(seed: int, count: int = 15) -> list[Priced]:
    chance = np.random.default_rng(seed)
    drawn = chance.uniform(0.3, 2, (count, len(FAMILIES))).tolist()
    sums = [dict(zip(FAMILIES, each, strict=True)) for each in drawn]
    sizes = chance.uniform(1, 4, count).tolist()
    return [model(one, size) for one, size in zip(sums, sizes, strict=True)]


def family(model: Priced, name: str) -> float:
    return sum(part.milliseconds for part in model.parts if part.family == name)


@dataclass(frozen=True)
class Made:
    """Models and what they take, by a start and factors that the fit has to find."""

    models: list[Priced]
    told: list[float]
    floor: float

    def errors(self, found: Correction) -> np.ndarray:
        return np.array([found.latency_ms(one) for one in self.models]) / self.told - 1


@st.composite
def made(draw: st.DrawFn) -> Made:
    start, byte = draw(st.floats(0.0, 0.2)), draw(st.floats(0.0, 0.2))
    factors = {name: draw(st.floats(0.7, 1.6)) for name in FAMILIES}
    made = models(draw(st.integers(0, 99)))
    told = [
        start + byte * one.megabytes + sum(factors[name] * family(one, name) for name in FAMILIES)
        for one in made
    ]
    return Made(made, told, draw(st.sampled_from([0.0, 0.1])))


@settings(max_examples=40, deadline=None)
@given(made())
def test_it_is_no_farther_from_its_models_than_one_pace_for_all(made: Made) -> None:
    found = correction.fit(made.models, made.told, made.floor)
    totals = np.array([made.floor + one.total for one in made.models])
    pace = np.median(made.told / totals)
    errors, at_one_pace = made.errors(found), pace * totals / made.told - 1
    assert (errors**2).sum() <= (at_one_pace**2).sum() + 1e-9


@settings(max_examples=40, deadline=None)
@given(made())
def test_what_models_tell_a_hundredfold_is_believed(made: Made) -> None:
    found = correction.fit(made.models * 100, made.told * 100, made.floor)
    assert np.abs(made.errors(found)).max() < 0.02


def test_an_operator_dearer_than_its_price_is_told_by_the_models_that_hold_it() -> None:
    common = [Part(f"c{n}", "float", 0.1) for n in range(8)]
    odd = Part("odd", "float", 0.2)
    with_it = [Priced((*common[n:], odd), 1.0) for n in range(4)] * 10
    without = [Priced(tuple(common[n:]), 1.0) for n in range(4)] * 10
    told = [one.total + (0.05 if odd in one.parts else 0.0) for one in with_it + without]
    found = correction.fit(with_it + without, told)
    assert found.own["odd"] > 5 * max(abs(found.own[part.key]) for part in common)
    assert found.latency_ms(Priced((*common[5:], odd), 1.0)) == pytest.approx(0.55, rel=0.03)


@given(st.integers(0, 99))
def test_each_is_missed_by_as_much_as_a_fit_to_the_others_misses_it(seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows, likely, width = chance.random((6, 4)), chance.random(4), chance.random(4)
    _, missed = correction._posterior(rows, likely, width)
    for place, row in enumerate(rows):
        others, _ = correction._posterior(np.delete(rows, place, 0), likely, width)
        assert missed[place] == pytest.approx(1 - row @ others, abs=1e-9)


def test_departures_cover_nineteen_of_twenty_other_models() -> None:
    chance = np.random.default_rng(0)
    fitted, others = models(0, 13), models(1, 200)
    told = [one.total * chance.normal(1, 0.05) for one in (*fitted, *others)]
    found = correction.fit(fitted, told[:13])
    missed = [found.latency_ms(one) / took - 1 for one, took in zip(others, told[13:], strict=True)]
    assert 0.9 <= np.mean(np.abs(missed) <= found.departure) <= 0.99


def test_a_family_that_no_model_holds_goes_with_the_others() -> None:
    made = [model({"float": 1.0 + n / 10, "light": 0.1}) for n in range(8)]
    found = correction.fit(made, [1.2 * one.total for one in made])
    assert found.factors["integer"] == pytest.approx(1.2, rel=0.01)


def test_what_is_written_is_read_and_damage_is_no_correction(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    assert correction.read(path) is None
    made = Correction(0.01, 0.1, dict.fromkeys(FAMILIES, 1.1), {"a": 0.1}, 0.02, 0.4)
    correction.write(path, made)
    assert correction.read(path) == made
    path.write_text(path.read_text()[:-20])
    assert correction.read(path) is None
