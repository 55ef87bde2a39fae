"""A study's folder that was moved, renamed or reused is read as what it holds now."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from evaluation.measurement import ERROR, SIZE
from search.cli.opened import open_study
from search.configuration import compose
from search.study.study import Study

IDENTITY = {
    "task": {"name": "digits_mlp"},
    "target": {"name": "ort_cpu"},
    "objectives": [asdict(ERROR), asdict(SIZE)],
}


def made(folder: Path) -> str:
    """The uid of a new study in a folder."""
    settings = compose.compose([f"study.name={folder.name}", "task=digits_mlp"])
    compose.write(settings, folder)
    return Study.open(f"sqlite:///{folder / 'study.db'}", folder.name, IDENTITY).rows().uid


def test_the_folder_that_is_given_wins_over_the_name_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(tmp_path / "outputs" / "one")
    shutil.move(tmp_path / "outputs" / "one", tmp_path / "outputs" / "kept")
    second = made(tmp_path / "outputs" / "one")
    monkeypatch.chdir(tmp_path)
    assert open_study("kept").rows.uid == first
    assert open_study("one").rows.uid == second
    monkeypatch.chdir(tmp_path / "outputs" / "kept")
    assert open_study(".").rows.uid == first
    assert open_study(".").settings.tracking_uri.endswith("/outputs/mlflow.db")


def test_a_study_keeps_its_uid_and_no_other_has_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    uid = Study.open(url, "one", IDENTITY).rows().uid
    assert uid
    assert Study.open(url, "one", IDENTITY).rows().uid == uid
    assert Study.open(url, "two", IDENTITY).rows().uid != uid
