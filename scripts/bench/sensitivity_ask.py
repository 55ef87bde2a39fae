"""How long the sensitivity sampler takes to ask: `python scripts/bench/sensitivity_ask.py`.

A study in memory of a network that does not exist, with as many trials as asked for: scores,
changes of outputs and measurements are drawn. Prints processor and wall-clock milliseconds of an
ask, the median of several, the suggestion of every parameter included.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluation.probing.probe import Finding, Probe
from search.sensitivity.coding import Coding
from search.sensitivity.sampler import SensitivitySampler
from search.study.ledger import PHASE
from tests.search.sensitivity.synthetic import Network, problem


def main() -> None:
    """Fill a study, then ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--layers", type=int, default=200)
    parser.add_argument("--asks", type=int, default=7)
    arguments = parser.parse_args()
    network = Network(arguments.layers)
    sampler = SensitivitySampler(network.space, problem(), prober=answer)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.set_user_attr("reference", network.reference())
    fill(study, network, arguments.trials)
    processor, wall = [], []
    for number in range(arguments.asks + 1):
        before = time.process_time(), time.perf_counter()
        trial = study.ask(network.space.distributions())
        if number:  # the first reads every trial and has the probes answered
            processor.append(1000 * (time.process_time() - before[0]))
            wall.append(1000 * (time.perf_counter() - before[1]))
        study.tell(trial, [0.5, 0.2 * network.float_bytes])
    print(
        f"{arguments.trials} trials, {arguments.layers} layers: an ask takes "
        f"{statistics.median(processor):.0f} ms of processor, {statistics.median(wall):.0f} ms"
    )


def answer(probe: Probe) -> Finding:
    """Scores, or changes of ten outputs for 32 samples."""
    random = np.random.default_rng(len(probe.policies))
    damage = random.random(len(probe.policies)) / 100
    if probe.kind == "scores":
        return Finding(damage, 1.0)
    outputs = random.normal(size=(32, 10))
    changes = random.normal(size=(len(probe.policies), 32, 10)) / 100
    return Finding(damage, 1.0, changes, outputs, scores=True)


def fill(study: optuna.Study, network: Network, trials: int) -> None:
    """Trials around uniform settings, as though a search had asked for them."""
    random = np.random.default_rng(0)
    coding = Coding(network.space)
    distributions = network.space.distributions()
    made = []
    for number in range(trials):
        middle = random.integers(0, 6)
        row = np.clip(middle + random.integers(-1, 2, len(coding)), 0, coding.sizes - 1)
        share = (6 - row.mean()) / 24
        error = 0.9 * np.exp(-30 * share) + 0.02 * random.random()
        phase = "hull" if number < 10 else "offline" if number < 20 else "refine"
        made.append(
            optuna.trial.create_trial(
                params=coding.params(row),
                distributions=distributions,
                values=[float(error), float(share * network.float_bytes)],
                user_attrs={PHASE: phase},
            )
        )
    study.add_trials(made)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main()
