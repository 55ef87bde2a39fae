"""What calibration data says of a model's layers: collected in few passes, kept by content.

Statistics are of the model in float as it stands: of the one whose channels were cut, before any
layer is factorised, sparsified or rounded. What a layer sees then depends on nothing that is
chosen for a layer alone, so that policies which differ in one layer share all of it. Knows the
kinds of layers, and nothing of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressors.calibration import collectors, digest
from compressors.calibration.cache import ContentCache, Tensors
from compressors.calibration.collectors import Collector, Inputs
from compressors.data import Batch, Data
from compressors.modules import device_of, eval_mode, moved
from compressors.structures.tracing import tensors_in

FEW = 8  # samples


class Calibration:
    """The calibration split, read once, and its digest."""

    def __init__(self, data: Data) -> None:
        self.batches: list[Batch] = list(data.batches("calibration"))
        self.digest = digest.of_batches(self.batches)
        self.loss: Callable[[Tensor, Tensor], Tensor] = data.loss

    @torch.no_grad()
    def answers(self, model: nn.Module) -> str:
        """The digest of what a model makes of a few samples, that differs where code alone does."""
        with eval_mode(model):
            few = tuple(arg[:FEW] for arg in self.batches[0].args)
            outputs = model(*moved(few, device_of(model)))
        return digest.of_text(*(digest.of_tensor(tensor) for tensor in tensors_in(outputs)))

    @torch.no_grad()
    def cost(self, model: nn.Module) -> str:
        """The digest of the first batch's loss, that differs between tasks of different losses."""
        batch, device = self.batches[0], device_of(model)
        with eval_mode(model):
            outputs = model(*moved(batch.args, device))
        return digest.of_tensor(self.loss(outputs, batch.targets.to(device)))


@dataclass(frozen=True)
class Gradients:
    """Of the task's loss, batch by batch: their mean, and the root of their mean square."""

    mean: Tensor
    rms: Tensor


@dataclass(frozen=True)
class _Derived:
    """A layer's input, what it goes through on its way, and the module that reads it then."""

    layer: str
    through: nn.Module | None
    reader: nn.Module


class Statistics:
    """The statistics of one model, which must not change while this is in use."""

    def __init__(self, model: nn.Module, calibration: Calibration, cache: ContentCache) -> None:
        self._model = model
        self._calibration = calibration
        self._cache = cache
        self._digest: str | None = None
        self._gradient_digest: str | None = None
        self._loss: float | None = None
        self._derived: dict[str, _Derived] = {}

    @property
    def digest(self) -> str:
        """What the statistics depend on: the model and the calibration split."""
        if self._digest is None:
            self._digest = digest.of_text(
                digest.of_model(self._model),
                self._calibration.digest,
                self._calibration.answers(self._model),
            )
        return self._digest

    @property
    def gradient_digest(self) -> str:
        """What gradients depend on: the loss besides."""
        if self._gradient_digest is None:
            cost = self._calibration.cost(self._model)
            self._gradient_digest = digest.of_text(self.digest, cost)
        return self._gradient_digest

    def derive(
        self, name: str, layer: str, through: nn.Module, reader: nn.Module | None = None
    ) -> None:
        """Let a name stand for a layer's input after some module, as a factorised half sees it.

        The layer may itself be such a name. The reader, where it is not the layer, is the module
        that reads the result.
        """
        source = self._source(layer)
        passed = through if source.through is None else nn.Sequential(source.through, through)
        self._derived[name] = _Derived(source.layer, passed, reader or source.reader)

    def inputs(self, names: Sequence[str]) -> dict[str, Inputs]:
        """Range, mean, mean magnitude, mean square and share of zeros of every input feature."""
        found = self._collected(
            "inputs", names, lambda name: collectors.Moments(self._positions(name))
        )
        return {name: Inputs(**tensors) for name, tensors in found.items()}

    def grams(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The inputs' second moments, groups x d x d, as columns of the weight matrix see them."""
        found = self._collected(
            "gram", names, lambda name: collectors.Gram(self._source(name).reader)
        )
        return {name: tensors["gram"] for name, tensors in found.items()}

    def histograms(self, names: Sequence[str]) -> dict[str, collectors.Histogram]:
        """How often which values of the whole input were seen."""
        ranges = {
            name: (float(i.low.min()), float(i.high.max())) for name, i in self._ranges(names)
        }
        found = self._collected("histogram", names, lambda name: collectors.Counts(*ranges[name]))
        return {name: collectors.Histogram(**tensors) for name, tensors in found.items()}

    def gradients(self, names: Sequence[str]) -> dict[str, Gradients]:
        """The gradients of the layers' weights."""
        keys = {name: digest.of_text("gradient", name, self.gradient_digest) for name in names}
        found = {name: self._cache.get(key) for name, key in keys.items()}
        missing = [name for name, tensors in found.items() if tensors is None]
        if missing:
            for name, tensors in self._measured_gradients(missing).items():
                found[name] = collectors.finite(tensors, name)
                self._cache.put(keys[name], tensors)
                self._cache.made += 1
        return {name: Gradients(**tensors) for name, tensors in found.items() if tensors}

    def loss(self) -> float:
        """The mean loss over the calibration split."""
        if self._loss is None:
            self._loss = mean_loss(self._model, self._calibration)
        return self._loss

    def _ranges(self, names: Sequence[str]) -> list[tuple[str, Inputs]]:
        return list(self.inputs(names).items())

    def _source(self, name: str) -> _Derived:
        known = self._derived.get(name)
        return known or _Derived(name, None, self._module(name))

    def _positions(self, name: str) -> int:
        """How many dimensions of the input come after its channels."""
        return len(getattr(self._source(name).reader, "kernel_size", ()))

    def _module(self, name: str) -> nn.Module:
        return self._model.get_submodule(name)

    def _collected(
        self, kind: str, names: Sequence[str], collector: Callable[[str], Collector]
    ) -> dict[str, Tensors]:
        keys = {name: self._key(kind, name) for name in names}
        found = {name: self._cache.get(key) for name, key in keys.items()}
        missing = [name for name, tensors in found.items() if tensors is None]
        if missing:
            watching = {name: collector(name) for name in missing}
            self._watch(watching)
            for name, watcher in watching.items():
                tensors = collectors.finite(watcher.result(), name)
                self._cache.put(keys[name], tensors)
                self._cache.made += 1
                found[name] = tensors
        return {name: tensors for name, tensors in found.items() if tensors is not None}

    def _key(self, kind: str, name: str) -> str:
        source = self._source(name)
        if source.through is None:
            return digest.of_text(kind, source.layer, self.digest)
        through = digest.of_model(source.through)
        reader = f"{type(source.reader).__name__} {source.reader.extra_repr()}"
        return digest.of_text(kind, source.layer, self.digest, through, reader)

    @torch.no_grad()
    def _watch(self, collectors_by_name: Mapping[str, Collector]) -> None:
        with ExitStack() as stack:
            stack.enter_context(eval_mode(self._model))
            for name, collector in collectors_by_name.items():
                source = self._source(name)
                hook = _seer(collector, source.through)
                handle = self._module(source.layer).register_forward_pre_hook(hook)
                stack.callback(handle.remove)
            for batch in self._calibration.batches:
                self._model(*moved(batch.args, device_of(self._model)))

    def _measured_gradients(self, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
        weights = {name: self._weight(name) for name in names}
        wanted = {parameter: parameter.requires_grad for parameter in self._model.parameters()}
        sums = {name: torch.zeros_like(w, dtype=torch.float32) for name, w in weights.items()}
        squares = {name: total.clone() for name, total in sums.items()}
        batches = self._calibration.batches
        try:
            self._model.requires_grad_(False)
            for weight in weights.values():
                weight.requires_grad_(True)
            with eval_mode(self._model), torch.enable_grad():
                for batch in batches:
                    for name, gradient in self._gradient(batch, weights):
                        sums[name] += gradient.float()
                        squares[name] += gradient.float() ** 2
        finally:
            for parameter, flag in wanted.items():
                parameter.requires_grad_(flag)
        n = len(batches)
        return {name: {"mean": sums[name] / n, "rms": (squares[name] / n).sqrt()} for name in sums}

    def _gradient(
        self, batch: Batch, weights: Mapping[str, nn.Parameter]
    ) -> Iterable[tuple[str, Tensor]]:
        device = device_of(self._model)
        outputs = self._model(*moved(batch.args, device))
        loss = self._calibration.loss(outputs, batch.targets.to(device))
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            yield name, torch.zeros_like(weight) if gradient is None else gradient

    def _weight(self, name: str) -> nn.Parameter:
        weight = self._module(name).weight
        assert isinstance(weight, nn.Parameter)
        return weight


def _seer(collector: Collector, through: nn.Module | None) -> Callable[..., None]:
    def see(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        x = args[0].detach()
        collector.see(x if through is None else through(x))

    return see


@torch.no_grad()
def mean_loss(model: nn.Module, calibration: Calibration) -> float:
    """The mean loss over the calibration split, each sample counting alike."""
    total, samples, device = 0.0, 0, device_of(model)
    with eval_mode(model):
        for batch in calibration.batches:
            outputs = model(*moved(batch.args, device))
            loss = calibration.loss(outputs, batch.targets.to(device))
            total += float(loss) * len(batch.targets)
            samples += len(batch.targets)
    return total / max(samples, 1)
