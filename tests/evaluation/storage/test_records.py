"""A weight that was written is read again to the last bit, in no more room than computed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluation.targets.storage.coded import Coded, decode, from_rows, to_rows
from evaluation.targets.storage.formats import fixed_levels
from evaluation.targets.storage.records import get_coded, get_float, put_coded, put_float
from evaluation.targets.storage.streams import Reader, Writer

SHAPES = arrays.array_shapes(min_dims=2, max_dims=4, max_side=5)


def through(entry: dict[str, Any], writer: Writer) -> tuple[dict[str, Any], Reader]:
    return json.loads(json.dumps(entry)), Reader(*writer.streams())


def size(writer: Writer) -> int:
    packed, floats = writer.streams()
    return int(packed.nbytes + floats.nbytes)


@st.composite
def codeds(draw: st.DrawFn) -> Coded:
    shape = draw(SHAPES)
    axis = draw(st.integers(0, 1))
    bits = draw(st.integers(1, 9))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = shape[axis]
    columns = int(np.prod(shape)) // rows
    group = draw(st.integers(1, columns))
    groups = -(-columns // group)
    many = draw(st.sampled_from([1, rows]))
    facts: dict[str, Any] = {}
    if draw(st.booleans()):
        kinds = draw(st.sampled_from([1, many * groups]))
        facts["levels"] = chance.normal(size=(kinds, 2**bits)).astype(np.float32)
    else:
        same = draw(st.booleans())
        zeros = chance.integers(0, 2**bits, (many, groups))
        facts["zeros"] = np.full_like(zeros, zeros[0, 0]) if same else zeros
    if draw(st.booleans()):
        facts["alive"] = chance.random((rows, columns)) < draw(st.floats(0, 1))
    if draw(st.booleans()):
        facts["factors"] = chance.normal(size=rows).astype(np.float32)
    return Coded(
        shape,
        axis,
        bits,
        chance.integers(0, 2**bits, (rows, columns)).astype(np.uint16),
        chance.normal(size=(many, groups)).astype(np.float32),
        group,
        **facts,
    )


@given(codeds())
def test_codes_are_read_as_they_were_written(coded: Coded) -> None:
    writer = Writer()
    entry, reader = through(put_coded(coded, "any", writer), writer)
    assert np.array_equal(get_coded(entry, reader), decode(coded))
    assert reader.at_end()


@given(codeds())
def test_a_weight_is_what_its_code_says(coded: Coded) -> None:
    """Weight by weight, in plain Python."""
    rows, columns = coded.codes.shape
    values = np.zeros((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            place = (row if len(coded.scales) > 1 else 0, column // coded.group)
            code = int(coded.codes[row, column])
            if coded.levels is not None:
                which = place[0] * coded.scales.shape[1] + place[1]
                value = coded.levels[which if len(coded.levels) > 1 else 0, code]
            else:
                assert coded.zeros is not None
                value = np.float32(code - int(coded.zeros[place]))
            value = value * coded.scales[place]
            if coded.alive is not None and not coded.alive[row, column]:
                value = np.float32(0)
            if coded.factors is not None:
                value = value * coded.factors[row]
            values[row, column] = value
    assert np.array_equal(to_rows(decode(coded), coded.axis), values)


@given(SHAPES, st.integers(0, 1))
def test_rows_are_laid_back(shape: tuple[int, ...], axis: int) -> None:
    weight = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(from_rows(to_rows(weight, axis), shape, axis), weight)
    assert np.array_equal(to_rows(weight, axis)[-1], np.take(weight, -1, axis).reshape(-1))


FLOATS = arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32) | st.just(0.0))


@given(FLOATS, st.sampled_from(["float32", "bfloat16", "float16"]))
def test_floats_are_read_as_they_were_written(values: np.ndarray, kind: str) -> None:
    if kind == "bfloat16":
        values = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    elif kind == "float16":
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(np.float16).astype(np.float32)
    writer = Writer()
    entry, reader = through(put_float(values, writer), writer)
    assert np.array_equal(get_float(entry, reader), values, equal_nan=True)
    assert reader.at_end()
    assert size(writer) <= values.nbytes // (1 if kind == "float32" else 2)


def test_of_ninety_in_a_hundred_zeros_only_a_bit_is_kept() -> None:
    values = np.random.default_rng(0).normal(size=(40, 80)).astype(np.float32)
    values.reshape(-1)[: 9 * 320] = 0
    writer = Writer()
    put_float(values, writer)
    assert size(writer) == 3200 // 8 + 320 * 4


@pytest.mark.parametrize(("share", "bytes_"), [(0.0, 400 * 4 // 8), (0.5, 400 // 8 + 200 * 4 // 8)])
def test_codes_take_their_bits_and_zeros_one_where_that_is_less(share: float, bytes_: int) -> None:
    codes = np.full((10, 40), 9, np.uint16)
    codes[:, : round(40 * share)] = 7
    scales = np.full((10, 1), 0.5, np.float32)
    coded = Coded((10, 40), 0, 4, codes, scales, 40, zeros=np.full((10, 1), 7))
    writer = Writer()
    put_coded(coded, "symmetric", writer)
    assert size(writer) == bytes_ + 10 * 4


@pytest.mark.parametrize("function", ["e4m3", "e5m2"])
def test_the_levels_of_a_known_format_take_no_room(function: str) -> None:
    levels = fixed_levels(function, 8)
    assert levels is not None
    codes = np.arange(0, 120, dtype=np.uint16).reshape(4, 30)
    coded = Coded((4, 30), 0, 8, codes, np.ones((4, 1), np.float32), 30, levels=levels)
    writer = Writer()
    entry, reader = through(put_coded(coded, function, writer), writer)
    assert np.array_equal(get_coded(entry, reader), decode(coded))
    assert size(writer) == 120 + 4 * 4
