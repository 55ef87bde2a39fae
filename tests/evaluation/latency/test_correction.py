"""The correction: it finds the factors that made the figures, and does not run wild."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.latency import correction, correction_file
from evaluation.latency.correction import FAMILIES, Correction, Measured, Pulled
from evaluation.latency.parts import Part, Priced


def operator(key: str, family: str, milliseconds: float) -> Part:
    """An operator that is like no other."""
    return Part(key, family, milliseconds, kind=key)


def fit(models: list[Priced], told: list[float], floor_ms: float = 0.0) -> Correction:
    return correction.fit([Measured(*each) for each in zip(models, told, strict=True)], floor_ms)


def model(sums: Mapping[str, float], megabytes: float = 1.0) -> Priced:
    """Of every family two operators, of two thirds and a third of its sum."""
    shares = {"big": 2 / 3, "small": 1 / 3}
    parts = [
        operator(f"{family} {name} {total:.6f}", family, total * share)
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
    found = fit(made.models, made.told, made.floor)
    totals = np.array([made.floor + one.total for one in made.models])
    pace = np.median(made.told / totals)
    errors, at_one_pace = made.errors(found), pace * totals / made.told - 1
    assert (errors**2).sum() <= (at_one_pace**2).sum() + 1e-9


@settings(max_examples=20, deadline=None)
@given(made())
def test_what_models_tell_thirtyfold_is_believed(made: Made) -> None:
    found = fit(made.models * 30, made.told * 30, made.floor)
    assert np.abs(made.errors(found)).max() < 0.02


def test_an_operator_dearer_than_its_price_is_told_by_the_models_that_hold_it() -> None:
    common = [operator(f"c{n}", "float", 0.1) for n in range(8)]
    odd = operator("odd", "float", 0.2)
    with_it = [Priced((*common[n:], odd), 1.0) for n in range(4)] * 10
    without = [Priced(tuple(common[n:]), 1.0) for n in range(4)] * 10
    told = [one.total + (0.05 if odd in one.parts else 0.0) for one in with_it + without]
    found = fit(with_it + without, told)
    assert found.own_ms(odd) > 5 * max(abs(found.own_ms(part)) for part in common)
    assert found.latency_ms(Priced((*common[5:], odd), 1.0)) == pytest.approx(0.55, rel=0.03)


@given(st.integers(0, 99))
def test_each_is_missed_by_as_much_as_a_fit_to_the_others_misses_it(seed: int) -> None:
    chance = np.random.default_rng(seed)
    roots, missing = chance.random((6, 4)), chance.random(6)
    covariance = roots @ roots.T + 0.1 * np.eye(6)
    _, missed = correction._pull(covariance, missing)
    for place in range(6):
        others = np.delete(np.arange(6), place)
        pull, _ = correction._pull(covariance[np.ix_(others, others)], missing[others])
        assert missed[place] == pytest.approx(missing[place] - covariance[place, others] @ pull)


def test_departures_cover_nineteen_of_twenty_other_models() -> None:
    chance = np.random.default_rng(0)
    fitted, others = models(0, 13), models(1, 200)
    told = [one.total * chance.normal(1, 0.05) for one in (*fitted, *others)]
    found = fit(fitted, told[:13])
    missed = [found.latency_ms(one) / took - 1 for one, took in zip(others, told[13:], strict=True)]
    assert 0.9 <= np.mean(np.abs(missed) <= found.departure) <= 0.99


def test_a_family_that_no_model_holds_goes_with_the_others() -> None:
    made = [model({"float": 1.0 + n / 10, "light": 0.1}) for n in range(8)]
    found = fit(made, [1.2 * one.total for one in made])
    assert found.factors["integer"] == pytest.approx(1.2, rel=0.01)


def sized(key: str, size: float, kind: str = "conv") -> Part:
    return Part(key, "float", 0.1, 0.0, kind, (size,))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99))
def test_what_operators_take_beyond_their_prices_is_told_of_their_like(seed: int) -> None:
    """Of one kind the large ones take more than their price, and no model holds those asked for."""
    chance = np.random.default_rng(seed)
    sizes = chance.uniform(0, 8, 40)
    known = [sized(f"known {size}", size) for size in sizes] + [sized("plain", 3.0, "sum")] * 20
    beyond = {part.key: 0.004 * part.sizes[0] * (part.kind == "conv") for part in known}
    drawn = [[known[place] for place in chance.choice(60, 12)] for _ in range(30)]
    models = [Priced(tuple(parts), 1.0) for parts in drawn]
    told = [one.total + sum(beyond[part.key] for part in one.parts) for one in models]
    found = fit(models, told)
    small, large = (found.own_ms(sized(f"new {size}", size)) for size in (1.0, 7.0))
    assert 0.012 < large - small < 0.036  # 0.024 is true
    assert found.own_ms(sized("other", 7.0, "pool")) == 0.0


def test_an_uncertain_price_is_believed_less_than_a_certain_one() -> None:
    certain = Part("certain", "float", 0.1, 0.001, "certain")
    doubted = Part("doubted", "float", 0.1, 0.05, "doubted")
    found = fit([Priced((certain, doubted), 1.0)] * 3 + [Priced((), 1.0)], [0.3] * 3 + [0.1], 0.1)
    assert found.own_ms(doubted) > 4 * abs(found.own_ms(certain))


def test_a_file_that_was_measured_well_counts_more_than_one_that_was_not() -> None:
    odd, common = operator("odd", "float", 0.3), operator("common", "float", 0.7)
    rest = [Measured(Priced((common,), 1.0), 0.7)] * 20

    def told(spread: float) -> float:
        dear = Measured(Priced((common, odd), 1.0), 1.1, spread)
        return correction.fit([*rest, dear]).own_ms(odd)

    assert told(0.5) < told(0.05) / 4


def test_what_is_written_is_read_and_damage_is_no_correction(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    assert correction_file.read(path) is None
    pulled = (Pulled(Part("a", "light", 0.1, 0.01, "Add float 2", (3.0, 4.5)), 0.7),)
    made = Correction(0.01, 0.1, dict.fromkeys(FAMILIES, 1.1), pulled, 0.02, 0.4)
    correction_file.write(path, made)
    assert correction_file.read(path) == made
    path.write_text(path.read_text()[:-20])
    assert correction_file.read(path) is None
