"""What every target promises, held against the one that looks up in a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.target import Target
from tests.contracts.test_targets import *  # noqa: F403  # every promise; the target is the one below
from tests.evaluation.profiling.profiled import ProfiledTable


@pytest.fixture
def target(tmp_path: Path) -> Target:  # in place of the built-in ones
    return ProfiledTable(cache_dir=str(tmp_path / "cache"))
