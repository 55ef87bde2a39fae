"""The smallest member within bounds: sensitivity after 40 evaluations, NSGA-II after 400.

    PYTHONPATH=. python scripts/bench/constrained.py [--seeds 3] [--share 0.3] [--samplers tpe ...]

Weight and activation bits of every layer of ResNet-20 on the accelerator model `npu_sim`, with at
most a point of error given up and at most a share of the uncompressed latency (which is computed,
not measured). Searches run in one process; an evaluation is the whole validation split once, and
what probes take is counted. Writes the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import page
import torch
from search_efficiency_run import InProcess

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from evaluation.evaluator import Evaluator
from evaluation.measurement import LATENCY, SIZE, Measurement
from search.configuration.build import instantiate
from search.configuration.compose import compose
from search.driver.driver import run_search
from search.run import How, assemble, prepare
from search.space.space import Space

DROP = 0.01
TASK = ("task=digits_resnet20", "target=npu_sim", "space=bits", "objectives=[quality,size_bytes]")
CONTENDERS = {"sensitivity": 40, "nsga2": 400, "tpe": 400, "random": 400}


class Whole:
    """Measurements of policies, each found out once."""

    def __init__(self, evaluator: Evaluator, folder: Path) -> None:
        self._evaluator, self._folder = evaluator, folder
        self._known: dict[str, Measurement] = {}

    def search(self, policy: Policy) -> Measurement:
        """Quality on the validation split, and costs."""
        key = policy_yaml.policy_id(policy)
        if key not in self._known:
            path = self._folder / f"model{self._evaluator.target.suffix}"
            self._known[key] = self._evaluator.evaluate(policy, path).measurement
        return self._known[key]


@dataclass(frozen=True)
class Bounded:
    """The smallest size within the bounds after so many evaluations, as a share; None: none."""

    spent: float
    size: float | None


def found(
    made: tuple[Evaluator, Space], whole: Whole, sampler: str, seed: int, share: float
) -> Bounded:
    """One search."""
    reference = whole.search(Policy())
    bounds = {LATENCY.name: share * reference[LATENCY.name].value}
    worst = reference.values[0].value + DROP
    evaluations = CONTENDERS[sampler]
    with tempfile.TemporaryDirectory() as folder:
        words = [*TASK, f"sampler={sampler}", f"seed={seed}", "budget.trials=null"]
        words += [f"budget.evaluations={evaluations}", f"output_dir={folder}", "study.name=bench"]
        words += [f"constraints.{name}={value}" for name, value in bounds.items()]
        settings = compose([*words, f"constraints.error_drop={DROP}", "tracking=none"])
        engine = InProcess(made[0], whole)
        how = How(instantiate(settings.sampler, "sampler"), engine)
        run_search(assemble(settings, *made, how))
    sizes = [
        measured[SIZE.name].value
        for measured in (whole.search(policy) for _, policy in engine.told)
        if measured.values[0].value <= worst + 1e-9
        and all(measured[name].value <= bound for name, bound in bounds.items())
    ]
    return Bounded(engine.spent, min(sizes) / reference[SIZE.name].value if sizes else None)


def main() -> None:
    """A line a sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument(
        "--samplers", nargs="+", choices=CONTENDERS, default=["sensitivity", "nsga2"]
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    made = prepare(compose([*TASK]))
    lines = list(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(made[0], Path(folder))
        for sampler in given.samplers:
            seeds = [found(made, whole, sampler, seed, given.share) for seed in range(given.seeds)]
            lines.append(_line(sampler, seeds))
            print(lines[-1], flush=True)
    table = "\n".join(lines)
    page.put(
        given.docs, "constrained", INTRODUCTION.format(share=given.share, seeds=given.seeds) + table
    )


def _line(sampler: str, seeds: Sequence[Bounded]) -> str:
    known = sorted(one.size for one in seeds if one.size is not None)
    middle = f"{median(known):.4f} ({known[0]:.4f}, {known[-1]:.4f})" if known else ""
    spent = median(one.spent for one in seeds)
    return f"| {sampler} | {spent:.0f} | {len(known)} of {len(seeds)} | {middle} |"


HEADER = (
    "| sampler | evaluations | seeds with a member within | its size (lowest, highest) |",
    "|---|--:|--:|--:|",
)
INTRODUCTION = """## The smallest member within bounds

Bits of every layer of ResNet-20 on the accelerator model `npu_sim`: at most a point of validation
error given up, at most {share:g} of the uncompressed model's latency. Sizes are shares of the
uncompressed model's; medians over seeds.

```
PYTHONPATH=. python scripts/bench/constrained.py --seeds {seeds}
```

"""


if __name__ == "__main__":
    main()
