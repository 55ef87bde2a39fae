"""`paredown profile` and a search by its table, as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.profiling import copies
from search.cli.main import main
from tests.evaluation.profiling.profiled import FILE

OWN = """name: two_layers
_target_: tests.evaluation.profiling.profiled.TwoLayers
"""
DEVICE = """name: coarse
_target_: tests.evaluation.profiling.profiled.Coarse
batch: 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(copies, "MOST", 2)
    for group, name, text in (("task", "own", OWN), ("target", "device", DEVICE)):
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / f"{name}.yaml").write_text(text)
    return tmp_path


WORDS = ("--config-dir", "conf", "task=own", "target=device", "--precision", "w8a8")


def test_a_table_is_written_told_and_searched_with(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *WORDS, "--policies", "4", "out=device.csv"]) == 0
    told = capsys.readouterr().out
    assert "device.csv: 6 layers" in told
    assert "of 1 policies held out" in told
    assert "target=table target.file=device.csv" in told
    words = ["--config-dir", "conf", "task=own", "target=table", "target.file=device.csv"]
    assert main(["search", "--dry-run", *words]) == 0
    assert "w8a8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("out=a.csv", "out=b.csv"), "give out=FILE once"),
        (("out=",), "give out=FILE once"),
        (("--precision", "int8"), "'int8' is no precision"),
        (("--policies", "3"), "policies cannot be 3"),
    ],
)
def test_words_that_cannot_be_meant(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert main(["profile", *WORDS, *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "this is no table\n", FILE.read_text()[:4000]])
def test_a_search_without_a_sound_table_is_refused_before_any_trial(
    here: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (here / "t.csv").write_text(content)
    words = ["--config-dir", "conf", "task=own", "target=table", "target.file=t.csv"]
    assert main(["search", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "latency table 't.csv'" in line
    assert not (here / "outputs").exists()
