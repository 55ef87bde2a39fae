"""What the benchmark of samplers makes of its results: figures, and a section that is replaced."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compressors.policies.policy import Policy
from evaluation.measurement import ERROR, SIZE, Measurement, Value
from search.driver.driver import run_search
from search.space.options import SpaceOptions, StepOptions
from tests.search.searches import tiny_search, tiny_space

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[ModuleType, ModuleType]]:
    sys.path.insert(0, str(BENCH))
    yield (
        importlib.import_module("search_efficiency"),
        importlib.import_module("search_efficiency_table"),
    )
    sys.path.remove(str(BENCH))


class Figures:
    """The same of every policy."""

    def search(self, policy: Policy) -> Measurement:
        return Measurement((Value(ERROR, 0.1, 0.01), Value(SIZE, 9.0, 0.0)))


def result(*ends: tuple[float, float]) -> dict[str, Any]:
    return {"curve": [*ends], "test": {"10": 0.3, "200": ends[-1][1] / 2}, "uniform": 0.5}


def test_a_curve_is_read_at_what_was_spent(bench: tuple[ModuleType, ModuleType]) -> None:
    _, table = bench
    curve = [(1.0, 0.2), (2.5, 0.4), (9.5, 0.6)]
    assert [table.at(curve, n) for n in (0.5, 2, 3, 10)] == [0.0, 0.2, 0.4, 0.6]
    assert table.at(curve, 11) is None
    assert [table.reached(curve, share) for share in (0.2, 0.41, 0.7)] == [1.0, 9.5, None]


def test_every_evaluation_is_counted_from_the_first(
    bench: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    engine = importlib.import_module("search_efficiency_run").InProcess(None, Figures())
    run_search(
        tiny_search(
            tmp_path,
            engine,
            space=tiny_space(SpaceOptions(quantize=StepOptions(choices=("w8a8",)))),
            trials=9,
            evaluations=3.0,
        )
    )
    assert [spent for spent, _ in engine.told] == [1.0, 2.0, 3.0]
    assert engine.told[0][1] == Policy()


def test_the_goal_is_the_best_of_all_tpe_runs_and_ratios_are_medians(
    bench: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    runs, table = bench
    results = {
        runs.Run("bits_resnet20", "tpe", 0): result((10, 0.5), (200, 0.6)),
        runs.Run("bits_resnet20", "tpe_40", 0): result((10, 0.4), (200, 0.64)),
        runs.Run("bits_resnet20", "nsga2", 0): result((10, 0.4), (200, 0.63)),
        runs.Run("bits_resnet20", "sensitivity", 0): result((8, 0.5), (10, 0.65), (200, 0.7)),
        runs.Run("bits_resnet20", "sensitivity", 1): result((25, 0.66), (200, 0.7)),
        runs.Run("bits_resnet20", "sensitivity", 2): result((20, 0.66), (200, 0.7)),
    }
    told = {name: contender.told for name, contender in runs.CONTENDERS.items()}
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nBefore.\n")
    table.write(results, told, tmp_path)
    page.write_text(page.read_text() + "\nAfter.\n")
    section = table.write(results, told, tmp_path)
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nBefore.\n")
    assert text.endswith("\nAfter.\n")
    assert text.count(section) == text.count("<!-- search_efficiency: begin -->") == 1
    assert "The best TPE run at 200: 0.640." in section
    lines = {line.split(" | ")[0].strip("| "): line for line in section.splitlines()}
    assert lines["sensitivity"].endswith("| 0.350 (0.350, 0.350) | 20.0 | 10.0 |")
    assert lines["NSGA-II"].endswith("| never |  |")
    assert (tmp_path / table.PICTURE).stat().st_size > 0


def test_first_seeds_come_first_and_names_choose(bench: tuple[ModuleType, ModuleType]) -> None:
    runs, _ = bench
    every = list(runs.runs(3, []))
    assert [run.seed for run in every] == sorted(run.seed for run in every)
    assert len({run.name for run in every}) == len(every) == 3 * 3 * len(runs.CONTENDERS)
    assert {run.sampler for run in runs.runs(2, ["gp"])} == {"gp"}
