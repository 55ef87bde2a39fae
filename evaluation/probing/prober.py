"""Answers probes about a task's model, each once: what was found is kept by content.

`scores` come from gradients (see `gauss_newton`), `changes` from the outputs of the compressed
models themselves. Policies are taken without their training. Knows nothing of who asks, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from compressors.calibration import digest
from compressors.calibration.cache import ContentCache
from compressors.data import Batch
from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.policies.policy_rules import effective, expand
from compressors.stack import Stack
from evaluation.probing import finding_tensors
from evaluation.probing.distances import spread
from evaluation.probing.gauss_newton import damages
from evaluation.probing.outputs import changes_of_outputs, most_passes
from evaluation.probing.probe import Finding, Probe
from evaluation.probing.samples import answers, first_samples, size
from evaluation.probing.together import plain
from evaluation.probing.weights import original, weight_changes
from evaluation.task import Task

GENERATION = 1  # of the way in which probes are answered
BACKWARD = 2  # forward passes that a backward pass takes


class Prober:
    """A stack and a task, between probes."""

    def __init__(self, stack: Stack, task: Task, cache: ContentCache | None = None) -> None:
        self._stack = stack
        self._task = task
        self._cache = ContentCache() if cache is None else cache
        self._shares: dict[int, float] = {}

    def price(self, probe: Probe) -> float:
        """What a probe takes at most, in evaluations; less where a policy cannot be taken."""
        if probe.samples not in self._shares:
            self._shares[probe.samples] = self._splits(first_samples(self._task, probe.samples))
        passes = self._score_passes if probe.kind == "scores" else most_passes(probe)
        return passes * self._shares[probe.samples]

    def run(self, probe: Probe, on_step: Callable[[], None] = lambda: None) -> Finding:
        """What a probe asks for; `on_step` is called now and then."""
        batches = first_samples(self._task, probe.samples)
        key = digest.of_text("probe", probe.key(self._content), digest.of_batches(batches))
        answer = self._scores if probe.kind == "scores" else self._changes
        kept = self._cache.remembered(
            key, lambda: finding_tensors.pack(answer(probe, batches, on_step))
        )
        return finding_tensors.unpack(kept)

    def _changes(self, probe: Probe, batches: list[Batch], on_step: Callable[[], None]) -> Finding:
        policies, around = self._read(probe)
        return changes_of_outputs(
            self._stack, self._task, policies, around, batches, self._splits(batches), on_step
        )

    def _scores(self, probe: Probe, batches: list[Batch], on_step: Callable[[], None]) -> Finding:
        policies, around = self._read(probe)
        model = original(self._stack)
        scores = self._by_class
        scale = 1.0 if scores else spread(answers(model, batches).rows)
        found = weight_changes(self._stack, policies, around, model, on_step)
        known = [index for index, change in enumerate(found) if change is not None]
        damage = np.full(len(policies), np.nan)
        damage[known] = damages(
            model,
            batches,
            [change for change in found if change is not None],
            scale,
            on_step,
        )
        return Finding(damage, self._score_passes * self._splits(batches), scores=scores)

    def _read(self, probe: Probe) -> tuple[list[Policy], Policy]:
        """The policies and the one around which they are, without patterns and training."""
        around, *policies = (
            effective(expand(plain(policy_yaml.load(text)), self._stack.structure))
            if text
            else Policy()
            for text in (probe.around, *probe.policies)
        )
        return policies, around

    def _splits(self, batches: list[Batch]) -> float:
        """How much of a validation split so many samples are."""
        return sum(map(size, batches)) / self._validation

    @property
    def _score_passes(self) -> int:
        """Passes over the samples that scores take, however many policies there are."""
        return (1 if self._by_class else 2) + BACKWARD

    @cached_property
    def _by_class(self) -> bool:
        """Whether the model's outputs are the scores of classes."""
        return answers(original(self._stack), first_samples(self._task, 1)).scores

    @cached_property
    def _validation(self) -> int:
        return sum(map(size, self._task.batches("validation")))

    @cached_property
    def _content(self) -> str:
        """A digest of the model, what it answers, and what an evaluation is."""
        model = self._stack.apply(Policy()).module.eval()
        few = answers(model, first_samples(self._task, 8))
        told = [digest.of_tensor(tensor) for tensor in few.outputs]
        return digest.of_text(GENERATION, digest.of_model(model), *told, self._validation)
