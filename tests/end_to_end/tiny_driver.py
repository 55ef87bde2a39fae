"""A driver to be killed: `python tiny_driver.py FOLDER ENGINE TRIALS WORKERS`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))


def main(folder: str, engine: str, trials: int, workers: int) -> None:
    from search.driver.driver import run_search
    from search.engines.local import LocalEngine
    from search.engines.ray_engine import RayEngine
    from tests.search.searches import tiny_search

    make = {"local": LocalEngine, "ray": RayEngine}[engine]
    task = {"width": 32, "gate": str(Path(folder) / "gate")}
    run_search(tiny_search(Path(folder), make(workers), task=task, trials=trials))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
