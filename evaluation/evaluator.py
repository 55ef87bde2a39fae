"""From a policy to numbers: compress, score, lower, weigh and time.

Built once a worker; holds the task's model, the stack and the target between policies. Knows
nothing of searches: whoever calls it decides which policy, and what an exception means.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch

from compressors.calibration.cache import ContentCache
from compressors.calibration.generation import generation
from compressors.data import Split
from compressors.errors import UserError
from compressors.policies.policy import Policy
from compressors.record import CompressedModel
from compressors.stack import Stack
from compressors.structures.structure import Structure
from evaluation.cache import cache_dir
from evaluation.costs.listing import costs_of
from evaluation.fidelity import WHOLE, Fidelity
from evaluation.latency.sampled import samples
from evaluation.measurement import Measurement, Value
from evaluation.measuring import quiet
from evaluation.probing import finding_files
from evaluation.probing.probe import Finding, Probe
from evaluation.probing.prober import Prober
from evaluation.target import Artifact, Target
from evaluation.target_check import check_target
from evaluation.target_extras import Prepares, why_untimed
from evaluation.task import Task

SAMPLES = 36  # policies on which a model is measured beside itself, at most


@dataclass(frozen=True)
class Evaluation:
    """What one policy gave, and what finding out cost."""

    measurement: Measurement  # quality as simulated, on the validation split; then the costs
    record: dict[str, Any]  # Record.to_json(), with what this target only simulates
    artifact: Path
    seconds: float
    evaluations: float  # whole validation splits scored, or the share of one


class Evaluator:
    """A task on a target."""

    def __init__(self, task: Task, target: Target) -> None:
        check_target(target)
        self.task = task
        self.target = target
        kept = ContentCache(cache_dir() / "content", generation=generation())
        self._stack = Stack(task.model(), task, kept)
        self._prober = Prober(self._stack, task, kept)
        self._reference: Artifact | None = None

    @property
    def structure(self) -> Structure:
        """What of the task's model can be compressed."""
        return self._stack.structure

    def structure_of(self, student: str) -> Structure:
        """The same of another architecture that the task offers."""
        return self._stack.structure_of(student)

    def evaluate(
        self,
        policy: Policy,
        artifact_path: Path,
        *,
        on_step: Callable[[], None] = lambda: None,
        checkpoint: Path | None = None,
        fidelity: Fidelity = WHOLE,
        costs: Measurement | None = None,
    ) -> Evaluation:
        """Everything about one policy; makes way for timings elsewhere on the machine.

        Recovery goes on from the checkpoint where an attempt left one that was killed, or of a
        lower fidelity. Costs known from such an attempt are measured anew only at the whole
        fidelity, with the file that is then the policy's.
        """

        def step() -> None:
            quiet.pause_point()
            on_step()

        start = perf_counter()
        with quiet.busy():
            compressed = self._stack.apply(
                policy, on_step=step, checkpoint=checkpoint, epochs=fidelity.epochs
            )
            step()
            quality = self._simulated_quality(compressed, fidelity.share)
            step()
            if costs is None or fidelity.whole:
                known = self._costs(compressed, artifact_path)
            else:
                known = tuple(v for v in costs.values if v.metric.name != quality.metric.name)
        record = self._record(compressed)
        del compressed
        gc.collect()  # graphs of a trial hold each other, and the next one needs the room
        seconds = perf_counter() - start
        found = Measurement((quality, *known))
        return Evaluation(found, record, artifact_path, seconds, fidelity.share)

    def probe(self, probe: Probe, folder: Path) -> Finding:
        """What a change does, cheaply found out, and kept in the folder under the probe's key."""
        with quiet.busy():
            found = self._prober.run(probe, quiet.pause_point)
        finding_files.write(finding_files.path_of(folder, probe.key()), found)
        gc.collect()
        return found

    def price(self, probe: Probe) -> float:
        """What a probe takes at most, in evaluations."""
        return self._prober.price(probe)

    def prepare(self, tell: Callable[[str], None]) -> None:
        """Have the target find out of this model what it must before it tells latencies."""
        if isinstance(self.target, Prepares):
            with TemporaryDirectory(prefix="paredown-reference-") as folder, quiet.busy():
                path = Path(folder) / f"reference{self.target.suffix}"
                self._prepare(self._lowered(Policy(), path), tell)

    def compressed(self, policy: Policy) -> CompressedModel:
        """A policy's model, as simulated."""
        with quiet.busy():
            return self._stack.apply(policy, on_step=quiet.pause_point)

    def reference(self, folder: Path) -> Artifact:
        """The uncompressed model's file in a folder, against which every timing there is held."""
        path = folder / f"reference{self.target.suffix}"
        known = self._reference
        if known is None or known.path != path or not path.exists():
            known = self._lowered(Policy(), path)
        self._reference = known
        return known

    def exported_quality(self, path: Path, split: Split) -> Value:
        """The quality of a deployable file on a split."""
        with quiet.busy():
            return self.task.quality(self.target.load(path), split)

    def _prepare(self, reference: Artifact, tell: Callable[[str], None] = lambda _: None) -> None:
        if isinstance(self.target, Prepares):
            with TemporaryDirectory(prefix="paredown-samples-") as folder:
                self.target.prepare(reference, lambda: self._samples(Path(folder)), tell)

    def _samples(self, folder: Path) -> Iterator[Artifact]:
        """Files of the model under some policies; what the target does not take is left out."""
        policies = samples(self.structure, self.target.capability, SAMPLES)
        for number, policy in enumerate(policies):
            with suppress(UserError):
                yield self._lowered(policy, folder / f"{number}{self.target.suffix}")

    def _lowered(self, policy: Policy, path: Path) -> Artifact:
        return self.target.lower(self._stack.apply(policy), self.task, path)

    def _costs(self, compressed: CompressedModel, path: Path) -> tuple[Value, ...]:
        """What the policy's file costs; the file is written."""
        artifact = self.target.lower(compressed, self.task, path)
        reference = self.reference(path.parent)
        self._prepare(reference)
        timed = why_untimed(self.target) is None
        latency = [self.target.latency(artifact, reference)] if timed else []
        return (*latency, *costs_of(compressed, artifact, self.target))

    def _record(self, compressed: CompressedModel) -> dict[str, Any]:
        """What was done, and of every layer which steps are simulated on this target."""
        record = compressed.record.to_json()
        for layer, row in zip(compressed.record.layers, record["layers"], strict=True):
            row["simulated"] = list(self.target.capability.simulated(layer))
        return record

    def _simulated_quality(self, compressed: CompressedModel, share: float) -> Value:
        module = compressed.module.eval()
        with torch.no_grad():
            return self.task.quality(module, "validation", share)
