"""Rounds: what is called when, where they end, and that their end is the policy's share."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics, mean_loss
from compressors.policies.policy import Rounds
from compressors.policies.steps import Prune, Sparsify
from compressors.pruning.channels import prune_channels
from compressors.pruning.masks import Masks
from compressors.pruning.rounds import in_rounds, ramp
from compressors.pruning.selection import removed_count
from compressors.pruning.sparsity import sparsify
from tests.compressors.tiny import Dense, Images, Residual, seeded, trained

IMAGE = (torch.zeros(1, 2, 8, 8),)


@given(count=st.integers(1, 30))
def test_the_ramp_rises_to_one_in_ever_smaller_steps(count: int) -> None:
    done = [0.0, *(ramp(number, count) for number in range(1, count + 1))]
    steps = [after - before for before, after in pairwise(done)]
    assert done[-1] == 1.0
    assert all(step > 0 for step in steps)
    assert steps == sorted(steps, reverse=True)


def test_each_cut_is_followed_by_its_training() -> None:
    calls: list[object] = []

    def cut(state: list[float], done: float) -> list[float]:
        calls.append(round(done, 3))
        return [*state, done]

    outcome = in_rounds(
        [],
        Rounds(3, epochs=2),
        cut,
        lambda _, epochs: calls.append(f"{epochs} epochs"),
        _never,
        _never,
    )
    assert calls == [0.704, "2 epochs", 0.963, "2 epochs", 1.0, "2 epochs"]
    assert (outcome.rounds, outcome.done, outcome.notes) == (3, 1.0, ())
    assert len(outcome.state) == 3


def _never(*_: object) -> float:
    raise AssertionError("nothing bounds the loss, so nobody needs it")


@pytest.mark.parametrize(
    ("losses", "rounds", "left"),
    [
        ([1.0, 1.05, 1.1, 1.0], 3, [1.0]),
        ([1.0, 1.05, 1.2], 1, [1 - (2 / 3) ** 3]),
        ([1.0, float("nan")], 0, []),
        ([1.0, float("inf")], 0, []),
    ],
)
def test_a_round_that_costs_too_much_is_taken_back(
    losses: list[float], rounds: int, left: list[float]
) -> None:
    coming = iter(losses)

    def cut(state: list[float], done: float) -> list[float]:
        state[:] = [done]  # in place, as a model is cut
        return state

    bound = Rounds(3, loss_rise=0.1)
    outcome = in_rounds(
        [], bound, cut, lambda *_: None, lambda _: next(coming), lambda: next(coming)
    )
    assert outcome.rounds == rounds
    assert outcome.state == pytest.approx(left)
    assert outcome.done == pytest.approx(left[0] if left else 0.0)
    assert next(coming, None) is None
    assert len(outcome.notes) == (0 if rounds == 3 else 1)


def test_the_note_says_how_far_it_came() -> None:
    outcome = in_rounds(
        [],
        Rounds(4, loss_rise=0.5),
        lambda state, done: state,
        lambda *_: None,
        _losses([2.0, 3.5]),
        lambda: 2.0,
    )
    assert outcome.notes == (
        "rounds: number 2 of 4 taken back, as the calibration loss was 3.5, above 3; cut to 58% of"
        " the shares",
    )


def _losses(values: list[float]) -> object:
    coming = iter(values)
    return lambda _: next(coming)


def test_channels_cut_in_rounds_end_at_the_exact_count_with_less_loss_than_bound() -> None:
    data = Images()
    calibration = Calibration(data)
    model = trained(Residual, data)
    original = mean_loss(model, calibration)
    roots = {"layer1.0.conv1": Prune(0.5, "taylor", repair=True), "conv1": Prune(0.25)}
    counts = {"layer1.0.conv1": 8, "conv1": 8}

    def cut(model: nn.Module, done: float) -> nn.Module:
        known = Statistics(model, calibration, ContentCache())
        prune_channels(model, IMAGE, roots, known, counts, done=done)
        return model

    outcome = in_rounds(model, Rounds(3, 1), cut, _train(data), _never, _never)
    assert outcome.state.layer1[0].conv1.out_channels == 4
    assert outcome.state.conv1.out_channels == 6
    assert mean_loss(outcome.state, calibration) < original + 0.2


def test_channels_stay_as_they_were_where_the_loss_may_not_rise() -> None:
    data = Images()
    calibration = Calibration(data)
    model = trained(Residual, data)
    before = mean_loss(model, calibration)

    def cut(model: nn.Module, done: float) -> nn.Module:
        known = Statistics(model, calibration, ContentCache())
        prune_channels(model, IMAGE, {"conv1": Prune(0.8)}, known, {"conv1": 8}, done=done)
        return model

    bound = Rounds(2, loss_rise=0.0)
    outcome = in_rounds(
        model, bound, cut, lambda *_: None, lambda m: mean_loss(m, calibration), lambda: before
    )
    assert outcome.rounds == 0
    assert outcome.state.conv1.out_channels == 8
    assert mean_loss(outcome.state, calibration) == before
    assert "taken back" in outcome.notes[0]


def test_zeros_in_rounds_end_at_the_exact_share() -> None:
    data = Images(flat=True)
    calibration = Calibration(data)
    steps = {"0": Sparsify(share=0.9), "2": Sparsify(share=0.5, criterion="hessian")}
    Pair = tuple[nn.Module, Masks]

    def cut(state: Pair, done: float) -> Pair:
        known = Statistics(state[0], calibration, ContentCache())
        return state[0], sparsify(state[0], steps, known, ContentCache(), done)

    def train(state: Pair, epochs: int) -> None:
        _train(data, state[1])(state[0], epochs)

    start = (trained(Dense, data), Masks({}))
    outcome = in_rounds(start, Rounds(4, 1), cut, train, _never, _never)
    model, masks = outcome.state
    for name, share in (("0", 0.9), ("2", 0.5)):
        weight = model.get_submodule(name).weight
        count = removed_count(share, weight.numel())
        assert int((weight == 0).sum()) == int((~masks.of(name)).sum()) == count


def _train(data: Images, masks: Masks | None = None) -> object:
    def train(model: nn.Module, epochs: int) -> None:
        optimizer = torch.optim.Adam(model.train().parameters(), 2e-3)
        for epoch in range(epochs):
            for batch in data.batches("train", seed=epoch):
                optimizer.zero_grad()
                data.loss(model(batch.inputs), batch.targets).backward()
                optimizer.step()
                if masks is not None:
                    masks.hold()
        model.eval()

    return train


def test_the_given_model_of_no_rounds_at_all_is_cut_once() -> None:
    done = []
    in_rounds(seeded(Dense), Rounds(), lambda m, d: done.append(d) or m, _never, _never, _never)
    assert done == [1.0]
