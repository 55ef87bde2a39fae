"""Objects from configuration nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compressors.errors import UserError
from search.configuration import user_path
from search.configuration.build import check, instantiate


@dataclass(frozen=True)
class Leaf:
    size: int = 1


@dataclass(frozen=True)
class Tree:
    height: float
    leaf: Leaf | None = None


class Named:
    def __init__(self, name: str, *, extra: str = "x") -> None:
        self.name, self.extra = name, extra


class Free:
    def __init__(self, **anything: Any) -> None:
        self.anything = anything


HERE = __name__


def test_arguments_nested_nodes_and_labels() -> None:
    node = {
        "name": "a label",
        "_target_": f"{HERE}.Tree",
        "height": 2,
        "leaf": {"_target_": f"{HERE}.Leaf", "size": 3},
    }
    assert instantiate(node, "plant") == Tree(2, Leaf(3))


def test_the_name_is_an_argument_where_the_class_takes_one() -> None:
    assert instantiate({"_target_": f"{HERE}.Named", "name": "mine"}, "x").name == "mine"
    free = instantiate({"_target_": f"{HERE}.Free", "name": "mine", "other": 1}, "x")
    assert free.anything == {"name": "mine", "other": 1}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({}, "plant._target_ cannot be None"),
        ({"_target_": "Tree"}, "plant._target_ cannot be 'Tree'"),
        ({"_target_": "no_such_module.Tree"}, "'no_such_module' is not found"),
        ({"_target_": f"{HERE}.Tre", "height": 1}, "Did you mean 'Tree'?"),
        ({"_target_": f"{HERE}.HERE"}, "is a str; it must be a class"),
        ({"_target_": f"{HERE}.Tree", "heigth": 1}, "Did you mean 'height'?"),
        ({"_target_": f"{HERE}.Tree"}, "needs a value for height"),
        ({"_target_": f"{HERE}.Tree", "height": "x"}, "plant.height cannot be 'x'; valid: a num"),
        (
            {"_target_": f"{HERE}.Tree", "height": 1, "leaf": {"_target_": f"{HERE}.Leaf", "s": 1}},
            "argument of plant.leaf",
        ),
    ],
)
def test_a_wrong_node_is_told_in_one_sentence(node: dict[str, Any], words: str) -> None:
    for act in (instantiate, check):
        with pytest.raises(UserError) as caught:
            act(node, "plant")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_module_that_cannot_import_another_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="No module named 'a_package_nobody_has'"):
        instantiate({"_target_": "needs_more.Mine"}, "task")


def test_user_folders_go_to_the_end_of_the_module_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "__init__.py").write_text("raise AssertionError('shadowed')\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    user_path.append([str(tmp_path)])
    user_path.append([str(tmp_path)])
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert user_path.shadowed() is None
