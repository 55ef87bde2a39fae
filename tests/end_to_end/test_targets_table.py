"""The README's table of targets and doctor's answers, against conf/target and the classes."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pytest
import yaml

from compressors.errors import UserError
from evaluation.costs import counters
from search.cli.commands import doctor_targets
from search.cli.main import main
from search.configuration.build import instantiate
from search.configuration.hydra_tree import CONF
from tests.end_to_end.test_readme import README

SECTION = README.split("## Targets\n")[1].split("\n## ")[0]
ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \| (.*) \| *(.*?) *\|$", re.M)
ROWS = {found[0]: found[1:] for found in ROW.findall(SECTION)}
NODES = {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / "target").glob("*.yaml")}
MANY = 12  # precisions, beyond which the table says "any"


def class_of(name: str) -> Any:
    module, _, found = NODES[name]["_target_"].rpartition(".")
    try:
        return getattr(import_module(module), found)
    except ImportError as error:
        pytest.skip(str(error))


def precisions(target: Any, kind: str) -> str:
    if not hasattr(target, "capability"):
        return "its rows"
    able = target.capability.precisions[kind]
    return "any" if len(able) > MANY else ", ".join(map(str, able))


def test_every_target_has_a_row() -> None:
    assert sorted(ROWS) == sorted(NODES)


@pytest.mark.parametrize("name", sorted(NODES))
def test_a_row_says_what_the_class_says(name: str) -> None:
    lowers, basis, linear, conv, extra = ROWS[name]
    target = class_of(name)
    assert basis == target.basis
    assert (linear, conv) == (precisions(target, "linear"), precisions(target, "conv2d"))
    assert "`." not in lowers or f"`{target.suffix}`" in lowers
    assert (extra or None) == doctor_targets.RUNTIMES.get(name, doctor_targets.DEFAULT)[2]


def test_every_extra_installs_the_runtime_it_is_named_for() -> None:
    project = (CONF.parent / "pyproject.toml").read_text()
    for _, package, extra in doctor_targets.RUNTIMES.values():
        assert extra is None or f'\n{extra} = ["{package}>=' in project
    assert '\nnvml = ["nvidia-ml-py>=' in project


@pytest.mark.parametrize("name", sorted(set(NODES) - {"table"}))
def test_doctor_says_yes_where_the_target_can_be_made(name: str) -> None:
    told = doctor_targets.usable(name)
    try:
        made = instantiate(NODES[name], "target")
    except UserError:
        assert told.startswith("no: ")
        return
    assert told.startswith("files" if getattr(made, "untimed", None) else "yes")


def test_what_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_targets, "installed", lambda package: None)
    told = dict(doctor_targets.targets())
    assert told["openvino_cpu"] == "no: OpenVINO is missing, pip install 'paredown[openvino]'"
    assert told["tensorrt"].startswith("files and their quality, no timing")
    monkeypatch.setattr(counters, "counters", list)
    assert (
        doctor_targets.energy() == "none that can be read; for GPUs: pip install 'paredown[nvml]'"
    )


def test_doctor_prints_extras_as_they_are_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_targets, "installed", lambda package: None)
    main(["doctor"])
    assert "paredown[openvino]" in capsys.readouterr().out


def test_what_was_never_run_is_said() -> None:
    assert re.search(r"`torch_cuda` was never run .* `tensorrt`", SECTION)
