"""What every task promises, held against every built-in one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import torch

from compressors.data import Split
from compressors.errors import UserError
from evaluation.task import Task
from evaluation.tasks.digits_mlp import DigitsMLP
from evaluation.tasks.digits_mobilenet import DigitsMobileNet
from evaluation.tasks.digits_resnet20 import DigitsResNet20

SPLITS: tuple[Split, ...] = get_args(Split)


@pytest.fixture(
    scope="module", params=[DigitsMLP, DigitsMobileNet, DigitsResNet20], ids=lambda c: c.name
)
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("cache")
    made: Task = request.param(cache_dir=str(folder), epochs=1, threads=1)
    return made


def ids(task: Task, split: Split) -> list[int]:
    found = [batch.ids for batch in task.batches(split)]
    return [int(i) for part in found if part is not None for i in part]


def test_splits_are_disjoint_and_filled(task: Task) -> None:
    every = [i for split in SPLITS for i in ids(task, split)]
    assert len(every) == len(set(every)) == 1797
    assert len(ids(task, "calibration")) == 100
    assert len(ids(task, "validation")) == 300
    assert len(ids(task, "test")) == 400


def test_splits_are_stratified(task: Task) -> None:
    for split in SPLITS:
        targets = torch.cat([batch.targets for batch in task.batches(split)])
        shares = torch.bincount(targets, minlength=10) / len(targets)
        assert shares.min() > 0.07
        assert shares.max() < 0.13


def test_order_is_fixed_without_a_seed_and_follows_the_seed_with_one(task: Task) -> None:
    def order(seed: int | None) -> list[int]:
        batches = task.batches("train", batch_size=64, seed=seed)
        return [int(i) for b in batches if b.ids is not None for i in b.ids]

    assert order(None) == order(None) == ids(task, "train")
    assert order(3) == order(3) != order(4)
    assert sorted(order(3)) == sorted(order(None))


def test_inputs_of_an_id_never_change(task: Task) -> None:
    first = next(iter(task.batches("train", batch_size=8)))
    for batch in task.batches("train", batch_size=500, seed=9):
        assert batch.ids is not None
        assert first.ids is not None
        for place, number in enumerate(first.ids):
            for found in (batch.ids == number).nonzero():
                assert torch.equal(batch.args[0][found[0]], first.args[0][place])


def test_batch_size_is_kept(task: Task) -> None:
    sizes = [len(batch.targets) for batch in task.batches("validation", batch_size=128)]
    assert sizes == [128, 128, 44]


def test_the_model_comes_from_the_cache_the_second_time(task: Task) -> None:
    first, second = task.model(), task.model()
    assert first is not second
    assert not first.training
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_building_a_model_leaves_the_callers_random_state(task: Task) -> None:
    before = torch.random.get_rng_state()
    task.model()
    assert torch.equal(before, torch.random.get_rng_state())


def test_loss_is_a_scalar_with_a_gradient(task: Task) -> None:
    batch = next(iter(task.batches("train")))
    loss = task.loss(task.model()(*batch.args), batch.targets)
    assert loss.shape == ()
    loss.backward()


def test_quality_takes_any_callable_and_counts_wrong_answers(task: Task) -> None:
    answers = {tuple(b.args[0].flatten().tolist()): b for b in task.batches("test", batch_size=1)}

    def right(x: torch.Tensor) -> torch.Tensor:
        found = [answers[tuple(row.flatten().tolist())].targets for row in x]
        return torch.nn.functional.one_hot(torch.cat(found), 10).float()

    assert task.quality(right, "test").value == 0
    assert task.quality(lambda x: -right(x), "test").value == 1
    assert task.quality(right, "test").metric == task.metric


def test_spread_is_a_standard_error_and_never_zero(task: Task) -> None:
    model = task.model()
    for share in (1.0, 0.25):
        value = task.quality(model, "validation", share)
        count = math.ceil(300 * share)
        wrong = value.value * count
        assert wrong == pytest.approx(round(wrong))
        p = (wrong + 2) / (count + 4)
        assert value.spread == pytest.approx(math.sqrt(p * (1 - p) / (count + 4)))
        assert value.spread


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_a_fraction_that_is_none_is_refused(task: Task, fraction: float) -> None:
    with pytest.raises(UserError, match="fraction"):
        task.quality(task.model(), "validation", fraction)


def test_an_unknown_split_is_refused_with_the_valid_ones(task: Task) -> None:
    with pytest.raises(UserError, match="calibration"):
        list(task.batches("tset"))  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [DigitsMLP, DigitsResNet20])
@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": 1.5}, {"seed": -1}, {"epochs": True}])
def test_impossible_arguments_are_refused(cls: type, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        cls(**wrong)


def test_a_cache_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="PAREDOWN_CACHE"):
        DigitsMLP(cache_dir=str(file), epochs=1).model()
