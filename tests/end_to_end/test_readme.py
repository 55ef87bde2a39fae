"""What the README shows works: its task is searched, its policy fits, its words compose."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from compressors.policies import policy_yaml
from compressors.policies.policy_rules import expand
from search.configuration.compose import compose
from tests.conftest import Paredown

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


SEARCHES = [words[2:] for words in commands() if words[:2] == ["paredown", "search"]]
SCRIPTS = [words for words in commands() if words[0].startswith("./scripts/")]


def test_there_is_something_to_test() -> None:
    assert len(SEARCHES) >= 8
    assert {words[0] for words in SCRIPTS} == {"./scripts/search", "./scripts/test"}


@pytest.mark.parametrize("words", [w for w in SEARCHES if "--config-dir" not in w], ids=" ".join)
def test_every_search_composes(words: list[str]) -> None:
    overrides = [word for word in words if not word.startswith("--")]
    if "--multirun" in words:
        overrides = [word.partition(",")[0] for word in overrides]
    assert compose(overrides, None).study.name


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_every_script_is_there_and_its_words_compose(words: list[str]) -> None:
    assert (Path(__file__).parents[2] / words[0]).is_file()
    if words[0] == "./scripts/search":
        assert compose(words[1:], None).study.name


def test_the_policy_fits_the_default_model() -> None:
    from compressors.structures.inspection import inspect_model
    from evaluation.tasks.digits_resnet20 import DigitsResNet20
    from evaluation.tasks.resnet import ResNet20

    text = next(block for block in blocks("yaml") if "remove:" in block)
    example = next(iter(DigitsResNet20().batches("calibration", batch_size=1))).args
    policy = expand(policy_yaml.load(text), inspect_model(ResNet20().eval(), example))
    assert policy.remove == ("layer1.1", "layer2.1")
    assert policy.layer("layer3.2.conv2").quantize is not None


def test_the_own_task_is_searched_as_written(tmp_path: Path, paredown: Paredown) -> None:
    (tmp_path / "my_task.py").write_text(next(b for b in blocks("python") if "class Mine" in b))
    yaml = next(block for block in blocks("yaml") if "_target_" in block)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "mine.yaml").write_text(yaml)
    words = next(words for words in commands() if "--config-dir" in words)
    done = paredown(*words[1:])
    assert done.returncode == 0, done.stderr
    front = json.loads(next(tmp_path.glob("outputs/*/front.json")).read_text())
    assert front["task"] == "mine"
    assert front["trials"]["complete"] == 8
