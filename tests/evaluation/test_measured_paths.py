"""A path means the same file in the process that opens it, whatever folder that was started in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evaluation.cache import cache_dir
from evaluation.measuring.files import Files
from tests.evaluation.bad_runtime import BadOpener


def test_a_relative_path_is_this_process_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = BadOpener("paths")
    files = Files.of("bad", opener, runtime="1", threads=1, batch=1, cache="kept")
    for number in ("1", "2"):
        folder = tmp_path / number
        folder.mkdir()
        (folder / "add.txt").write_text(number)
        monkeypatch.chdir(folder)
        path = Path("add.txt")
        add = files.load(path)
        assert add(torch.zeros(1)).tolist() == [float(number)]
        assert files.quickly([path])[0].median_ms > 0
        assert files._peak(path) is not None
    monkeypatch.chdir(tmp_path)
    assert add(torch.zeros(1)).tolist() == [2]
    assert files.latencies.folder.is_absolute()


def test_the_cache_stays_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache_dir("mine") == tmp_path / "mine"
