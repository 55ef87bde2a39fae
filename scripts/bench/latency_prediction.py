"""Predicted latencies against measured ones: random policies of three networks on each target.

    python scripts/bench/latency_prediction.py [--policies 40] [--out docs] [target ...]

Every policy is lowered, predicted as a search would (from the prices of operators, corrected), and
its file measured in two interleaved runs with all the others of its network. Writes the mean
absolute percentage error and Spearman's rank correlation into benchmarks.md, and draws the points;
networks that are not asked for keep the results of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import page
from networks import NETWORKS
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from compressors.errors import UserError
from compressors.policies.policy import Policy
from compressors.stack import Stack
from evaluation.evaluator import SAMPLES
from evaluation.latency.sampled import sampled, samples
from evaluation.target import Artifact

KEPT = Path("outputs/bench/latency_prediction")
RUNS = 2  # of the timing, whose mean counts
FIRST_SEED = 1000  # none of those that the correction is fitted on


@dataclass(frozen=True)
class Points:
    """The policies of one network on one target."""

    target: str
    network: str
    predicted: np.ndarray[Any, Any]
    measured: np.ndarray[Any, Any]
    spread: float  # of a measured ratio, as a share of it

    @property
    def error(self) -> float:
        """Mean absolute percentage error, as a share."""
        return float(np.abs(self.predicted / self.measured - 1).mean())

    @property
    def rank(self) -> float:
        """Spearman's correlation."""
        return float(spearmanr(self.predicted, self.measured)[0])

    def keep(self) -> None:
        """Write the points where another run of the benchmark finds them."""
        KEPT.mkdir(parents=True, exist_ok=True)
        told = {"predicted": self.predicted.tolist(), "measured": self.measured.tolist()}
        text = json.dumps({**told, "spread": self.spread})
        _kept(self.target, self.network).write_text(text)

    @staticmethod
    def kept(target: str, network: str) -> Points:
        """What `keep` wrote."""
        told = json.loads(_kept(target, network).read_text())
        arrays = (np.array(told[name]) for name in ("predicted", "measured"))
        return Points(target, network, *arrays, told["spread"])


def _kept(target: str, network: str) -> Path:
    return KEPT / f"{target}-{network}.json"


def points(target: Any, name: str, policies: int, folder: Path) -> Points:
    """One network's policies, predicted and measured, beside the network as it is.

    Both are stated in the network's own time as it was once measured, as a front's latencies are:
    files are timed in turns with it, and what counts is how much faster or slower they are.
    """
    reference, *artifacts = _files(target, name, policies, folder)
    stack, data = _model(name)
    target.prepare(reference, lambda: _samples(target, stack, data, folder), _quietly)
    known = target.latency(reference, reference).value
    predicted = np.array([target.latency(artifact, reference).value for artifact in artifacts])
    paths = [artifact.path for artifact in artifacts]
    runs = [target.compare(reference.path, paths) for _ in range(RUNS)]
    shares = [[timing.speedup_spread / timing.speedup for timing in run] for run in runs]
    ratios = np.mean([[1 / timing.speedup for timing in run] for run in runs], axis=0)
    spread = float(np.median(shares)) / RUNS**0.5
    return Points(target.name, name, predicted, known * ratios, spread)


def _quietly(_: str) -> None:
    """Nothing is told: this is no search."""


def _model(name: str) -> tuple[Stack, Any]:
    network = NETWORKS[name]
    data = network.data()
    return Stack(network.model(), data), data


def _samples(target: Any, stack: Stack, data: Any, folder: Path) -> Iterator[Artifact]:
    """What an evaluator gives a target to prepare itself with."""
    for number, policy in enumerate(samples(stack.structure, target.capability, SAMPLES)):
        with suppress(UserError):
            path = folder / f"sample-{number}{target.suffix}"
            yield target.lower(stack.apply(policy), data, path)


def _files(target: Any, name: str, policies: int, folder: Path) -> list[Artifact]:
    """The network as it is, and so many policies of it of different signatures."""
    stack, data = _model(name)
    drawn = (sampled(stack.structure, target.capability, seed) for seed in count(FIRST_SEED))
    made: dict[str, Artifact] = {}
    for number, policy in enumerate(chain([Policy()], drawn)):
        if len(made) > policies:
            break
        with suppress(UserError):
            path = folder / f"{target.name}-{name}-{number}{target.suffix}"
            artifact = target.lower(stack.apply(policy), data, path)
            made.setdefault(artifact.signature, artifact)
    return list(made.values())


def draw(found: list[Points], path: Path) -> None:
    """Measured against predicted, a panel a target, a colour a network."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    from search.views.ticks import ticks

    targets = list(dict.fromkeys(p.target for p in found))
    figure, axes = plt.subplots(1, len(targets), figsize=(5.2 * len(targets), 4.8), squeeze=False)
    for axis, target in zip(axes[0], targets, strict=True):
        mine = [p for p in found if p.target == target]
        values = np.concatenate([np.r_[p.predicted, p.measured] for p in mine])
        ends = [values.min() * 0.9, values.max() * 1.1]
        axis.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
        for p in mine:
            label = f"{p.network}: {100 * p.error:.1f} %, rank {p.rank:.3f}"
            axis.scatter(p.predicted, p.measured, s=14, label=label)
        axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=target)
        axis.set(xlabel="predicted", ylabel="measured")
        values, words = zip(*ticks((ends[0], ends[1]), "ms", log=True), strict=True)
        for side in (axis.xaxis, axis.yaxis):
            side.set_ticks(values, words)
            side.set_minor_locator(NullLocator())
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    """The table and the picture."""
    from evaluation.targets.openvino_cpu.target import OpenVinoCpu
    from evaluation.targets.ort_cpu.target import OrtCpu

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=["ort_cpu", "openvino_cpu"])
    parser.add_argument("--policies", type=int, default=40)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    words = parser.parse_args()
    classes = {"ort_cpu": OrtCpu, "openvino_cpu": OpenVinoCpu}
    for target in (classes[name]() for name in words.targets):
        for network in words.networks:
            with tempfile.TemporaryDirectory() as folder:
                timed = points(target, network, words.policies, Path(folder))
            timed.keep()
            print(_line(timed), flush=True)
    there = [(target, network) for target in classes for network in NETWORKS]
    found = [Points.kept(*pair) for pair in there if _kept(*pair).exists()]
    page.put(words.out, "latency_prediction", _section(found))
    draw(found, words.out / PICTURE)


def _section(found: list[Points]) -> str:
    table = "\n".join([*HEADER, *(_line(p) for p in found)])
    return f"{INTRODUCTION}\n{table}\n\n![Predicted and measured latencies]({PICTURE})"


def _line(p: Points) -> str:
    low, high = p.measured.min(), p.measured.max()
    return (
        f"| {p.target} | {p.network} | {len(p.measured)} | {low:.2f} to {high:.2f} ms "
        f"| {100 * p.error:.1f} % | {p.rank:.3f} | {100 * p.spread:.1f} % |"
    )


HEADER = (
    "| target | network | policies | measured | error | rank correlation | ± of a measurement |",
    "|---|---|--:|--:|--:|--:|--:|",
)
PICTURE = "latency_prediction.png"
INTRODUCTION = """## Predicted latencies against measured ones

Random policies (bits, widths and ranks a layer) of three networks, priced as a search prices them,
then timed in turns with the uncompressed network. The error is the mean of the absolute relative
departures; ± is half of the 95 % interval in which another run's figure is to be expected.

```
PYTHONPATH=. python scripts/bench/latency_prediction.py
```
"""


if __name__ == "__main__":
    main()
