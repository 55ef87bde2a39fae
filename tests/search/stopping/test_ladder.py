"""The rungs that a policy climbs follow from its own epochs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressors.errors import UserError
from evaluation.fidelity import WHOLE, Fidelity
from search.stopping.ladder import Steps

STEPS = Steps(shares=(0.25, 1.0, 1.0), epochs=(0.0, 0.25, 1.0))
PARTS = st.lists(st.floats(0.01, 1), max_size=4).map(sorted)


def test_the_first_rung_may_be_what_a_policy_does_before_it_is_trained() -> None:
    assert STEPS.ladder(12) == (Fidelity(0.25, 0), Fidelity(1.0, 3), WHOLE)


def test_who_trains_a_little_has_no_rung_of_less_than_an_epoch_but_that() -> None:
    assert STEPS.ladder(2) == (Fidelity(0.25, 0), Fidelity(1.0, 1), WHOLE)
    assert STEPS.ladder(1) == (Fidelity(0.25, 0), WHOLE)


def test_who_does_not_train_climbs_data_alone() -> None:
    assert STEPS.ladder(0) == (Fidelity(0.25, 0), WHOLE)


@given(PARTS, PARTS, st.integers(0, 50))
def test_a_ladder_only_rises_and_ends_in_the_whole(
    shares: list[float], epochs: list[float], length: int
) -> None:
    count = min(len(shares), len(epochs))
    steps = Steps((*shares[:count], 1.0), (*epochs[:count], 1.0))
    *below, last = steps.ladder(length)
    assert last == WHOLE
    climbed = [(rung.share, rung.epochs) for rung in below]
    assert climbed == sorted(set(climbed))
    assert not any(rung.whole for rung in below)


@pytest.mark.parametrize(
    ("shares", "epochs", "told"),
    [
        ((0.0, 1.0), (0.5, 1.0), r"stopping.shares cannot be .*; valid: shares above 0"),
        ((0.5, 1.0), (-0.5, 1.0), r"stopping.epochs cannot be .*; valid: shares from 0"),
        ((0.5, 0.4, 1.0), (0.1, 0.2, 1.0), "never fall"),
        ((0.5, 0.9), (0.5, 1.0), "the last 1"),
        ((), (), "stopping.shares"),
        ((0.5, 1.0), (1.0,), "as many of each"),
    ],
)
def test_other_rungs_are_refused(
    shares: tuple[float, ...], epochs: tuple[float, ...], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        Steps(shares, epochs)
