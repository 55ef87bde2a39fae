"""Prices of layers without a row of their own, and the correction that whole models give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.errors import UserError
from evaluation.profiling.pricing import Prices
from evaluation.profiling.table_file import Row
from evaluation.profiling.whole import NEUTRAL, TERMS, Figure, fit
from evaluation.work import Work

WIDTHS = (8, 16, 32)


def work(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Work:
    shape = f"{outputs}x{inputs}x{kernel}x{kernel} s{stride} p1 d1 g1 @8x8"
    places, weights = 64 // stride**2, inputs * outputs * kernel**2
    return Work(
        shape, "conv2d", shape, places * weights, weights, 64 * inputs, places * outputs, 8, 8
    )


def row(of: Work, milliseconds: float, energy: float | None = None) -> Row:
    spread = 0.01 * milliseconds
    return Row(
        of.kind, of.shape, "w8a8", milliseconds, spread, energy, of.macs, of.inputs, of.outputs
    )


def rows(power: float, scale: float = 1e-6) -> list[Row]:
    every = [work(inputs, outputs) for inputs in WIDTHS for outputs in WIDTHS]
    return [row(each, scale * each.macs**power, each.macs * 1e-5) for each in every]


def test_a_row_of_its_own_is_the_price() -> None:
    known = rows(0.7)
    for each in known:
        of = replace(work(8, 8), shape=each.shape, macs=each.macs)
        found = Prices(known).of(of)
        assert (found.median_ms, found.spread_ms, found.exact) == (
            each.median_ms,
            each.spread_ms,
            True,
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 64), st.integers(4, 64), st.floats(0.1, 1.4))
def test_what_grows_as_a_power_is_found_between_and_beyond_rows(
    inputs: int, outputs: int, power: float
) -> None:
    asked = work(inputs, outputs)
    found = Prices(rows(power)).of(asked)
    assert found.median_ms == pytest.approx(1e-6 * asked.macs**power, rel=1e-6)
    assert found.energy_uj == pytest.approx(asked.macs * 1e-5, rel=1e-6)
    own = inputs in WIDTHS and outputs in WIDTHS
    assert found.exact == own
    assert own or found.spread_ms >= 0.05 * found.median_ms  # a guess says that it is one


def test_rows_that_disagree_widen_the_spread() -> None:
    even, uneven = rows(1.0), rows(1.0)
    uneven = [replace(r, median_ms=r.median_ms * (1 + n % 2)) for n, r in enumerate(uneven)]
    narrow, wide = (Prices(known).of(work(12, 12)) for known in (even, uneven))
    assert wide.spread_ms / wide.median_ms > 2 * narrow.spread_ms / narrow.median_ms


@pytest.mark.parametrize(
    "asked",
    [work(12, 12, stride=2), work(12, 12, kernel=5), replace(work(12, 12), weight_bits=None)],
)
def test_no_row_is_like_it(asked: Work) -> None:
    with pytest.raises(UserError) as told:
        Prices(rows(1.0)).of(asked)
    words = str(told.value)
    assert asked.layer in words
    assert asked.shape in words
    assert "8x8x3x3 s1 p1 d1 g1 @8x8 w8a8" in words


def test_a_shape_of_other_multiply_accumulates_is_no_row_of_its_own() -> None:
    known = rows(1.0)
    asked = replace(work(8, 8), macs=4 * work(8, 8).macs)  # as where a window counts as samples
    assert Prices(known).of(asked).median_ms == pytest.approx(4 * known[0].median_ms, rel=1e-6)


def terms(seed: int, count: int = 14) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    parts = chance.uniform(0.05, 2, (count, len(TERMS)))
    parts[:, 0] = 1
    return list(parts)


FACTOR = st.floats(0.7, 1.6)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.3), FACTOR, FACTOR, st.floats(0, 0.05), st.integers(0, 99))
def test_what_is_left_is_a_tenth_of_what_had_to_be_corrected(
    start: float, heavy: float, whole: float, layer: float, seed: int
) -> None:
    """Factors are drawn towards 1 with a tenth of the models' say, and this is what it costs."""
    true, seen = np.array([start, heavy, whole, layer, 0.0]), np.array(terms(seed))
    told = seen @ true
    found = fit(list(seen), [Figure(value, 0.0) for value in told.tolist()])
    errors = seen @ found / told - 1
    drawn = np.abs(true - NEUTRAL)[1:]  # the start is free
    to_correct = float((seen / told[:, None]).mean(0)[1:] @ drawn)
    assert np.sqrt((errors**2).mean()) <= 0.1 * to_correct + 1e-9


def test_exact_layers_are_left_as_they_are() -> None:
    seen = terms(0)
    found = fit(seen, [Figure(float(each[1] + each[2]), 0.0) for each in seen])
    assert found == pytest.approx([0, 1, 1, 0, 0], abs=1e-6)


def test_what_was_measured_badly_counts_for_less() -> None:
    seen = terms(1)
    right = [Figure(float(each[1] + each[2]), 0.0) for each in seen]
    wrong = [replace(right[0], value=3 * right[0].value), *right[1:]]
    doubted = [replace(wrong[0], spread=2 * wrong[0].value), *wrong[1:]]
    away = [float(np.abs(fit(seen, told) - [0, 1, 1, 0, 0]).sum()) for told in (wrong, doubted)]
    assert away[1] < away[0] / 3
