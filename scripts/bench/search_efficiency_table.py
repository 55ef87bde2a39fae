"""The results of `search_efficiency` as a table, a plot and a section of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import page

PICTURE = "search_efficiency.png"
MARKS = (10, 20, 40, 80, 200)
MANY = 200  # evaluations after which TPE is looked at

Results = Mapping[Any, dict[str, Any]]  # by run: experiment, sampler, seed


def write(results: Results, told: Mapping[str, str], docs: Path) -> str:
    """Write the picture and the section; the section."""
    experiments = list(dict.fromkeys(run.experiment for run in results))
    if not experiments:
        return "There are no results yet; start with: search_efficiency.py run"
    docs.mkdir(parents=True, exist_ok=True)
    draw(results, told, experiments, docs / PICTURE)
    parts = [_table(_of(results, experiment), experiment, told) for experiment in experiments]
    section = "\n".join([INTRODUCTION, *parts, f"![Hypervolume]({PICTURE})"])
    page.put(docs, "search_efficiency", section)
    return section


INTRODUCTION = """## Hypervolume against evaluations

How good a front each sampler has after so many evaluations: the share of the box between nothing
and the reference point, which is every error and 0.26 of float32's size. Medians over seeds, lowest
and highest in brackets. An evaluation is the whole validation split once; what probes take is
counted. *test* is the same front's share on the held-out test split at the last count.

```
python scripts/bench/search_efficiency.py run --minutes 600
python scripts/bench/search_efficiency.py table
```
"""


def _of(results: Results, experiment: str) -> dict[str, list[dict[str, Any]]]:
    """One experiment's results by sampler, over the seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run, result in results.items():
        if run.experiment == experiment:
            found.setdefault(run.sampler, []).append(result)
    return found


def at(curve: Sequence[Sequence[float]], evaluations: float) -> float | None:
    """The hypervolume once so much is spent; None where the run ended well before."""
    if not curve or curve[-1][0] < evaluations - 1:
        return None
    return max((share for spent, share in curve if spent <= evaluations + 1e-6), default=0.0)


def reached(curve: Sequence[Sequence[float]], share: float) -> float | None:
    """What was spent when the hypervolume first was so large; None where it never was."""
    return next((spent for spent, found in curve if found >= share), None)


def best_tpe(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> float | None:
    """The largest hypervolume of any TPE run, whatever its settings and seed, at the end."""
    ends = [
        at(r["curve"], MANY) for name, rs in found.items() if name.startswith("tpe") for r in rs
    ]
    return max((end for end in ends if end is not None), default=None)


def _table(
    found: Mapping[str, list[dict[str, Any]]], experiment: str, told: Mapping[str, str]
) -> str:
    target = best_tpe(found)
    uniform = next(iter(found.values()))[0]["uniform"]
    goal = "not run yet" if target is None else f"{target:.3f}"
    head = [
        "",
        "seeds",
        *(f"at {mark}" for mark in MARKS),
        "test",
        "to the best TPE",
        "times fewer",
    ]
    lines = [
        f"### {experiment}",
        "",
        f"The uniform policies alone: {uniform:.3f}. The best TPE run at {MANY}: {goal}.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for name in told:
        if name in found:
            cells = [told[name], str(len(found[name])), *_cells(found[name], target)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cells(seeds: Sequence[Mapping[str, Any]], target: float | None) -> list[str]:
    shares = [[at(result["curve"], mark) for result in seeds] for mark in MARKS]
    tests = [list(result["test"].values())[-1] for result in seeds if result["test"]]
    spent = [None if target is None else reached(r["curve"], target) for r in seeds]
    return [*map(_spread, shares), _spread(tests), *_ratio(spent)]


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ""
    middle = f"{median(known):.3f}"
    return middle if len(known) == 1 else f"{middle} ({min(known):.3f}, {max(known):.3f})"


def _ratio(spent: Sequence[float | None]) -> list[str]:
    """Evaluations to the target, and how many times fewer that is; seeds that never got there."""
    known = sorted(value for value in spent if value is not None)
    if not known:
        return ["never", ""]
    missed = len(spent) - len(known)
    if missed * 2 >= len(spent):
        return [f"{known[0]:.1f} in {len(known)} of {len(spent)}", ""]
    middle = sorted([*known, *[float("inf")] * missed])[(len(spent) - 1) // 2]
    words = f"{middle:.1f}" + (f", never in {missed} of {len(spent)}" if missed else "")
    return [words, f"{MANY / middle:.1f}"]


def draw(results: Results, told: Mapping[str, str], experiments: Sequence[str], path: Path) -> None:
    """A panel an experiment: the median over seeds of each sampler, by evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(
        1, len(experiments), figsize=(5 * len(experiments), 4), squeeze=False, layout="constrained"
    )
    grid = np.geomspace(1, MANY, 80)
    for axis, experiment in zip(axes[0], experiments, strict=True):
        found = _of(results, experiment)
        for place, name in enumerate(told):
            if name not in found:
                continue
            curves = [[at(r["curve"], x) for x in grid] for r in found[name]]
            middle = [
                np.nan if None in column else median(v for v in column if v is not None)
                for column in zip(*curves, strict=True)
            ]
            axis.plot(grid, middle, label=told[name], color=f"C{place}")
        target = best_tpe(found)
        if target is not None:
            axis.axhline(target, color="0.6", linewidth=0.8, linestyle=":")
        axis.set(xscale="log", xlabel="evaluations", title=experiment)
    axes[0][0].set_ylabel("hypervolume, share of the box")
    lines = {line.get_label(): line for axis in axes[0] for line in axis.get_lines()[::-1]}
    named = [(line, words) for words in told.values() if (line := lines.get(words)) is not None]
    figure.legend(
        *zip(*named, strict=True),
        loc="outside lower center",
        ncols=4,
        fontsize="small",
        frameon=False,
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)
