"""`paredown compare` on two small real studies, of a simulation, so that nothing is timed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from search.cli.main import main
from tests.in_process import paredown

WORDS = ("experiment=smoke", "target=npu_sim", "tracking=none", "budget.trials=4")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    done = paredown("search", *WORDS, cwd=folder)
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "outputs" / "smoke", folder / "outputs" / "again")
    return folder


@pytest.fixture
def here(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(searched)
    return searched


def test_two_studies_become_one_page_and_a_picture(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "smoke", "again", "--out", "both.html"]) == 0
    assert capsys.readouterr().out.strip() == "both.html"
    page = (here / "both.html").read_text()
    assert page.count("a simulation)") >= 2
    assert 'id="latency-1"' in page
    assert (here / "both.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("smoke",), "two studies or more"),
        (("smoke", "outputs/smoke"), "named twice"),
        (("smoke", "again", "--out", "both.pdf"), "a file that ends in .html"),
        (("smoke", "smoke2"), "Did you mean 'smoke'?"),
    ],
)
def test_what_does_not_compare_is_one_sentence(
    here: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(os.listdir(here))
    assert main(["compare", *words]) == 2
    assert said in capsys.readouterr().err
    assert set(os.listdir(here)) == before
