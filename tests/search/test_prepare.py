"""The space of a study is that of the architecture it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from torch import nn

from compressors.errors import UserError
from search.configuration.compose import compose
from search.configuration.settings import Settings
from search.run import prepare
from search.space.options import RecoveryOptions, SpaceOptions
from tests.search.tiny import Net, TinyTask


class School(TinyTask):
    """The tiny task with a smaller student and a teacher."""

    def students(self) -> Mapping[str, nn.Module]:
        return {"smaller": nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))}

    def teachers(self) -> Mapping[str, nn.Module]:
        return {"larger": Net(32)}


def settings(task: str = "School", **space: object) -> Settings:
    own = {"_target_": f"tests.search.test_prepare.{task}"}
    target = {"_target_": "tests.search.tiny.TinyTarget"}
    options = replace(SpaceOptions(), **space)
    return replace(compose([]), task=own, target=target, space=options)


def test_a_students_layers_are_the_knobs() -> None:
    _, original = prepare(settings())
    _, student = prepare(settings(student="smaller"))
    assert {"stem/channels", "block/remove"} <= set(original.distributions())
    assert {"0/channels", "2/bits"} <= set(student.distributions())
    assert student.policy({"2/bits": "w8a8"}).student == "smaller"


@pytest.mark.parametrize(
    ("task", "space", "says"),
    [
        ("School", {"student": "smallest"}, "student cannot be 'smallest'; valid: original, sm"),
        ("TinyTask", {"student": "smaller"}, "student cannot be 'smaller'; valid: original"),
        (
            "School",
            {"recovery": RecoveryOptions(teacher="huge")},
            "recovery.teacher cannot be 'huge'; valid: original, larger",
        ),
    ],
)
def test_who_is_not_there_is_refused_before_a_study_begins(
    task: str, space: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError) as refused:
        prepare(settings(task, **space))
    assert says in str(refused.value)
