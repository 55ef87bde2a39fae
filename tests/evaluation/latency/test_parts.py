"""Operators as a correction sees them: which are like which, and how far a price can be off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.latency.parts import Part, common
from evaluation.measuring.operators import Operator, Price

DIMENSIONS = st.lists(st.integers(0, 8), min_size=3, max_size=3).map(tuple)


def conv(shape: str, precision: str = "f32", took: float = 0.1, spread: float = 0.01) -> Part:
    return Part.of(Operator.of("Conv", shape, precision, {}), Price(took, spread))


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    sizes = draw(st.lists(DIMENSIONS, min_size=2, max_size=12, unique=True))
    prices = st.floats(0.0, 1.0)
    return [
        Part(str(n), "float", draw(prices), draw(prices), "conv", tuple(map(float, each)))
        for n, each in enumerate(sizes)
    ]


@settings(deadline=None)
@given(parts())
def test_it_is_a_covariance_of_those_widths(drawn: list[Part]) -> None:
    found = common(drawn, drawn)
    assert np.allclose(found, found.T)
    assert np.linalg.eigvalsh(found).min() > -1e-9
    assert np.diag(found) == pytest.approx([part.width_ms**2 for part in drawn])


def test_the_nearer_in_size_the_more_they_have_in_common() -> None:
    one, same, near, far = (
        conv(f"1x{width}x8x8 32x{width}x3x3", spread=n / 1e9)
        for n, width in enumerate((16, 16, 24, 256))
    )
    shared = common([one], [same, near, far])[0]
    assert shared[0] == pytest.approx(one.width_ms**2)
    assert shared[0] > shared[1] > 2 * shared[2] > 0


def test_precision_and_number_of_dimensions_make_another_kind() -> None:
    plain = conv("1x16x8x8 16x16x3x3")
    grouped, integer = conv("1x16x8x8 16x1x1x3x3"), conv("1x16x8x8 16x16x3x3", "u8")
    assert len({plain.kind, grouped.kind, integer.kind}) == 3
    wider = conv("1x32x8x8 16x32x3x3")
    assert wider.kind == plain.kind
    assert np.subtract(wider.sizes, plain.sizes).tolist() == [0, 1, 0, 0, 0, 1, 0, 0]


def test_what_has_no_numbers_is_not_there() -> None:
    assert conv("1x16 16x16 0") == conv("1x16 16x16 0")
    assert conv("1x16 16x16 0").kind == conv("1x16 16x16").kind
    assert conv("").sizes == ()


def test_a_price_can_be_off_by_its_spread_and_by_what_it_left_out() -> None:
    certain, doubted, free = (conv("8", took=t, spread=s) for t, s in ((1, 0), (1, 1), (0, 1)))
    assert 0 < certain.width_ms < free.width_ms < doubted.width_ms
    assert free.width_ms == pytest.approx(1 / 1.96)
