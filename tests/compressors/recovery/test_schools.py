"""Teachers and students that a task offers, and those that it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import nn

from compressors.data import Data, OffersStudents, OffersTeachers
from compressors.errors import PolicyError, UserError
from compressors.policies.policy import Recovery
from compressors.recovery.schools import student_named, teacher_named
from tests.compressors.recovery.networks import Staged, made, recovered, same
from tests.compressors.tiny import Images, Residual


class Lazy(Mapping[str, nn.Module]):
    """Makes a model when it is asked for, out of random numbers."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __getitem__(self, name: str) -> nn.Module:
        self.made.append(name)
        return Staged(8).train()

    def __contains__(self, name: object) -> bool:
        return name in ("wide", "wider")

    def __iter__(self) -> Iterator[str]:
        return iter(("wide", "wider"))

    def __len__(self) -> int:
        return 2


class School(Images):
    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.models = models

    def teachers(self) -> Mapping[str, nn.Module]:
        return self.models

    def students(self) -> Mapping[str, nn.Module]:
        return self.models


Named = Callable[[Data, nn.Module, str], nn.Module]
NAMED = [teacher_named, student_named]


def test_offers_are_told_by_their_methods() -> None:
    assert isinstance(School({}), OffersTeachers)
    assert isinstance(School({}), OffersStudents)
    assert not isinstance(Images(), (OffersTeachers, OffersStudents))


@pytest.mark.parametrize("named", NAMED)
def test_original_is_the_task_s_model_whatever_is_offered(named: Named) -> None:
    original = made(Residual)
    assert named(Images(), original, "original") is original
    assert named(School({"original": Staged()}), original, "original") is original


@pytest.mark.parametrize("named", NAMED)
def test_only_the_named_model_is_made_and_no_random_state_changes(named: Named) -> None:
    models = Lazy()
    state = torch.get_rng_state()
    found = named(School(models), made(Residual), "wider")
    assert torch.equal(torch.get_rng_state(), state)
    assert models.made == ["wider"]
    assert isinstance(found, Staged)
    assert not found.training


@pytest.mark.parametrize("named", NAMED)
def test_the_task_s_own_copy_is_left_alone(named: Named) -> None:
    own = Staged().train()
    found = named(School({"wide": own}), made(Residual).double(), "wide")
    assert found is not own
    assert own.training
    assert same(found, own)


def test_unknown_names_are_refused_with_the_valid_ones() -> None:
    school = School({"wide": Staged(), "original": Staged()})
    with pytest.raises(
        PolicyError, match=r"recovery\.teacher cannot be 'big'; valid: original, wide\.$"
    ):
        teacher_named(school, made(Residual), "big")
    with pytest.raises(PolicyError, match=r"student cannot be 'big'; valid: original\.$"):
        student_named(Images(), made(Residual), "big")
    with pytest.raises(UserError, match=r"teachers\(\)\['wide'\] is of type int; valid: a torch"):
        teacher_named(School({"wide": 3}), made(Residual), "wide")  # type: ignore[dict-item]


def test_a_teacher_of_other_outputs_is_refused_before_training() -> None:
    settings = Recovery(epochs=1, teacher="wide")
    with pytest.raises(
        PolicyError,
        match=r"recovery\.weight is 0\.5, .* teacher 'wide' are of shape \(64, 5\) .* \(64, 3\);"
        r" valid: 0, or",
    ):
        recovered(made(Residual), Images(), settings, made(Staged, 8, 5))
    alone = Recovery(epochs=1, teacher="wide", weight=0.0, features=1.0, hints=("layer1=layer1",))
    recovered(made(Residual), Images(), alone, made(Staged, 8, 5))
