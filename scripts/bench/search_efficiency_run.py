"""One search in this process, with evaluations remembered by policy; see `search_efficiency`."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna._hypervolume import compute_hypervolume

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from evaluation.evaluator import Evaluator
from evaluation.measurement import SIZE, Measurement, Value
from search.configuration.build import instantiate
from search.configuration.compose import compose
from search.configuration.settings import Settings
from search.driver.driver import Search, run_search
from search.driver.trial_job import Job, JobOutcome, WorkerSpec
from search.driver.worker import in_a_sentence, run_job
from search.engines.base import JobSource
from search.run import How, assemble, prepare
from search.study import ledger

MARKS = (10, 20, 30, 40, 60, 80, 120, 200)  # evaluations at which the test split is looked at


class Remembered:
    """Qualities and sizes of policies, found out once and kept in a file of lines."""

    def __init__(self, evaluator: Evaluator, folder: Path) -> None:
        self._evaluator = evaluator
        digest = hashlib.sha256(evaluator.target.name.encode())
        for name, tensor in evaluator.task.model().state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        self._file = folder / "evaluations" / f"{digest.hexdigest()[:16]}.jsonl"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[tuple[str, str], Any] = {}
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                policy, what, value = json.loads(line)
                self._known[policy, what] = value

    def search(self, policy: Policy) -> Measurement:
        """Quality on the validation split, and size."""
        key = (policy_yaml.policy_id(policy), "search")
        if key not in self._known:
            compressed = self._evaluator.compressed(policy)
            with torch.no_grad():
                quality = self._evaluator.task.quality(compressed.module.eval(), "validation")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"model{self._evaluator.target.suffix}"
                size = self._evaluator.target.lower(compressed, self._evaluator.task, path)
            values = (quality, Value(SIZE, float(size.size_bytes), 0.0))
            self._keep(key, Measurement(values).to_json())
        return Measurement.from_json(self._known[key])

    def test(self, policy: Policy) -> float:
        """Quality on the test split, which no search sees."""
        key = (policy_yaml.policy_id(policy), "test")
        if key not in self._known:
            module = self._evaluator.compressed(policy).module.eval()
            with torch.no_grad():
                self._keep(key, self._evaluator.task.quality(module, "test").value)
        return float(self._known[key])

    def _keep(self, key: tuple[str, str], value: Any) -> None:
        self._known[key] = value
        with self._file.open("a") as file:
            file.write(json.dumps([*key, value]) + "\n")


@dataclass
class InProcess:
    """An engine that answers from what is remembered, and notes what was spent when."""

    evaluator: Evaluator
    remembered: Remembered

    def __post_init__(self) -> None:
        self.workers = 1
        self.spent = 0.0
        self.told: list[tuple[float, Policy]] = []  # evaluations so far, the policy

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        """Run jobs until none remain."""
        while source.remaining() and (job := source.next_job()) is not None:
            outcome = self._outcome(job, Path(spec.folder))
            self.spent += outcome.evaluations
            if job.probe is None:
                self.told.append((self.spent, policy_yaml.load(job.policy)))
            source.finish(outcome)

    def _outcome(self, job: Job, folder: Path) -> JobOutcome:
        if job.probe is not None:
            return run_job(self.evaluator, job, folder)
        try:
            found = self.remembered.search(policy_yaml.load(job.policy))
        except Exception as error:
            return JobOutcome(job.number, reason=in_a_sentence(error))
        return JobOutcome(job.number, found.to_json(), evaluations=1.0)


def found(
    words: Sequence[str], name: str, evaluations: int, uniform: bool, out: Path
) -> dict[str, Any]:
    """The result of one run: hypervolumes by what was spent, on both splits."""
    torch.set_num_threads(1)
    folder = out / "studies" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = (f"study.name={name}", f"output_dir={folder.parent}", f"budget.evaluations={evaluations}")
    settings = compose([*words, *own, "tracking=none", "engine.workers=1"])
    evaluator, space = prepare(settings)
    remembered = Remembered(evaluator, out)
    engine = InProcess(evaluator, remembered)
    how = How(instantiate(settings.sampler, "sampler"), engine)
    search = assemble(settings, evaluator, space, how)
    started = time.perf_counter()
    if uniform:
        _enqueue_uniform(search)
    rows = run_search(search)
    seconds = time.perf_counter() - started
    reference = rows.reference
    assert reference is not None
    curve = Curve(settings, remembered, reference[SIZE.name].value)
    return {
        "curve": curve.validation(engine.told),
        "test": curve.test(engine.told),
        "uniform": curve.uniform(space),
        "trials": len(rows.trials),
        "failed": sum(row.state == "failed" for row in rows.trials),
        "evaluations": engine.spent,
        "seconds": round(seconds, 1),
        "evaluated": words[0].partition("=")[2],
    }


def _enqueue_uniform(search: Search) -> None:
    """Let the uniform policies be asked before anything else."""
    run_search(replace(search, trials=1))  # makes the study, with its first baseline
    study = optuna.load_study(study_name=search.name, storage=search.storage)
    for word, params in uniform_settings(search.space).items():
        study.enqueue_trial(params, user_attrs={ledger.BASELINE: word}, skip_if_exists=True)


def uniform_settings(space: Any) -> dict[str, dict[str, Any]]:
    """Every layer in the same bits, and nothing else done."""
    knobs = space.of_kind("quantize")
    first = {knob.name: knob.first for knob in space.knobs}
    shared = [word for word in knobs[0].values if all(word in knob.values for knob in knobs)]
    return {word: {**first, **{knob.name: word for knob in knobs}} for word in shared}


class Curve:
    """Hypervolumes of what was evaluated so far, as shares of the reference box."""

    def __init__(self, settings: Settings, remembered: Remembered, full_size: float) -> None:
        assert settings.reference_point is not None
        self._box = np.array(settings.reference_point)
        self._remembered, self._size = remembered, full_size

    def validation(self, told: Sequence[tuple[float, Policy]]) -> list[tuple[float, float]]:
        """(evaluations spent, hypervolume) after each trial."""
        points = [self._point(policy) for _, policy in told]
        shares = [self._share(points[: n + 1]) for n in range(len(points))]
        return [(spent, share) for (spent, _), share in zip(told, shares, strict=True)]

    def test(self, told: Sequence[tuple[float, Policy]]) -> dict[int, float]:
        """The same on the test split, of the front that the validation split chose, at marks."""
        return {
            mark: self._share([self._point(p, test=True) for p in self._front(told, mark)])
            for mark in MARKS
            if told and told[-1][0] >= mark - 1
        }

    def uniform(self, space: Any) -> float:
        """What the uniform policies alone reach."""
        policies = [space.policy(params) for params in uniform_settings(space).values()]
        return self._share([self._point(policy) for policy in policies])

    def _front(self, told: Sequence[tuple[float, Policy]], mark: float) -> list[Policy]:
        seen = {policy_yaml.policy_id(p): p for spent, p in told if spent <= mark}
        points = {key: self._point(policy) for key, policy in seen.items()}
        return [
            seen[k] for k, p in points.items() if not any(_beats(q, p) for q in points.values())
        ]

    def _point(self, policy: Policy, test: bool = False) -> tuple[float, float]:
        try:
            values = self._remembered.search(policy).values
        except Exception:  # it failed in the search as well
            return (1.0, 1.0)
        error = self._remembered.test(policy) if test else values[0].value
        return error, values[1].value / self._size

    def _share(self, points: Sequence[tuple[float, float]]) -> float:
        inside = [point for point in points if all(np.array(point) <= self._box)]
        if not inside:
            return 0.0
        return float(compute_hypervolume(np.array(inside), self._box) / self._box.prod())


def _beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b
