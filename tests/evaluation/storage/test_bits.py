"""Packing is exact at every width, and takes the bits that it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.targets.storage import bits
from evaluation.targets.storage.bits import pack, packed_bytes, unpack

WIDTHS = st.integers(1, 16)


@st.composite
def numbers(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    width = draw(WIDTHS)
    values = draw(st.lists(st.integers(0, 2**width - 1), max_size=70))
    return np.array(values, np.int64), width


@given(numbers())
def test_what_is_packed_is_unpacked(drawn: tuple[np.ndarray, int]) -> None:
    values, width = drawn
    packed = pack(values, width)
    assert len(packed) == packed_bytes(len(values), width) == -(-len(values) * width // 8)
    assert unpack(packed, width, len(values)).tolist() == values.tolist()


@given(numbers())
def test_the_bits_are_those_of_one_large_number(drawn: tuple[np.ndarray, int]) -> None:
    values, width = drawn
    whole = sum(int(value) << (place * width) for place, value in enumerate(values))
    assert pack(values, width) == whole.to_bytes(packed_bytes(len(values), width), "little")


@pytest.mark.parametrize("width", [1, 3, 7, 11, 16])
def test_pieces_join_without_a_seam(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**width, 8 * 5 + 3)
    whole = pack(values, width)
    monkeypatch.setattr(bits, "CHUNK", 8)
    assert pack(values, width) == whole
    assert unpack(whole, width, len(values)).tolist() == values.tolist()


@pytest.mark.parametrize(("values", "width"), [([8], 3), ([-1], 3), ([0], 0), ([0], 17)])
def test_what_does_not_fit_is_refused(values: list[int], width: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        pack(np.array(values), width)


def test_too_few_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        unpack(b"\0", 3, 3)
