"""The YAML tree: everything in it composes, and what is written is read back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.errors import UserError
from search.configuration import compose as composing
from search.configuration.compose import check_nodes, compose
from search.configuration.hydra_tree import CONF

GROUPS = ("task", "target", "space", "sampler", "stopping", "engine", "tracking", "experiment")
CHOICES = [
    f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))
]


def test_the_tree_has_every_group() -> None:
    assert {choice.split("=")[0] for choice in CHOICES} == set(GROUPS)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_names_real_classes(choice: str) -> None:
    check_nodes(compose([choice]))


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_small_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 70
    assert "#" in text


def test_settings_survive_the_round_trip(tmp_path: Path) -> None:
    settings = compose(["experiment=smoke", "constraints.error_drop=0.01", "budget.hours=2"])
    composing.write(settings, tmp_path)
    assert composing.read(tmp_path) == settings


def test_the_base_space_is_the_schema_s_every_key() -> None:
    """Otherwise a key could not be overridden without Hydra's plus sign."""
    from dataclasses import asdict, fields

    import yaml

    from search.space.options import SpaceOptions

    base = yaml.safe_load((CONF / "space" / "base.yaml").read_text(encoding="utf-8"))
    assert set(base) == {field.name for field in fields(SpaceOptions)}
    for name, node in asdict(SpaceOptions()).items():
        if isinstance(node, dict):
            assert set(base[name]) == set(node), name


def test_objectives_are_named_in_a_list_and_keep_their_order() -> None:
    assert compose(["objectives=[size_bytes,quality]"]).objectives == ("size_bytes", "quality")
    assert compose(["objectives.latency_ms=false"]).objectives == ("quality", "size_bytes")


def test_the_space_suits_the_task() -> None:
    assert compose([]).space.prune.tie
    assert not compose(["task=digits_mlp"]).space.prune.tie


def test_a_user_s_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "ort_cpu.yaml").write_text(
        "name: theirs\n_target_: evaluation.targets.ort_cpu.target.OrtCpu\nthreads: 3\n"
    )
    settings = compose([], tmp_path)
    assert settings.target["threads"] == 3
    assert settings.study.name == "digits_resnet20-theirs-sensitivity"
    assert str(tmp_path.parent) in settings.modules


def test_a_config_that_is_no_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="does not hold a configuration"):
        composing.read(tmp_path)
    (tmp_path / "config.yaml").write_text("task: [\n")
    with pytest.raises(UserError, match="cannot be read"):
        composing.read(tmp_path)
