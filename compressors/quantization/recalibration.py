"""Ranges of inputs found again on a model in training, with its weights rounded, inputs not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from compressors.calibration.collectors import Counts, Histogram
from compressors.data import Batch
from compressors.modules import device_of, eval_mode, moved
from compressors.quantization.input_quantizer import InputQuantizer, Observer
from compressors.quantization.input_ranges import fit_inputs
from compressors.quantization.wrapper import QuantizedLayer


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Fix anew, in place, the input grids that follow statistics; others stay as they are."""
    watched = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLayer) and _follows(module.input_quantizer)
    }
    if not watched:
        return
    kept = list(batches)
    ends = {name: _Extremes() for name in watched}
    _run(model, watched, ends, kept)
    fine = {
        name: Counts(seen.low, seen.high)
        for name, seen in ends.items()
        if watched[name].settings.ranges != "minmax"
    }
    if fine:
        _run(model, watched, fine, kept)
    for name, module in watched.items():
        seen, quantizer = ends[name], module.input_quantizer
        assert quantizer is not None
        low, high = seen.low, seen.high
        if name in fine:
            histogram = Histogram(**fine[name].result())
            asked = module.settings
            low, high = fit_inputs(
                histogram, seen.zeros, quantizer.bits, asked.ranges, asked.inputs
            )
        if seen.count:
            quantizer.set_range(low, high)


def _follows(quantizer: InputQuantizer | None) -> bool:
    return quantizer is not None and quantizer.mode == "statistics" and not quantizer.dynamic


class _Extremes:
    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")
        self._zeros, self.count = 0, 0

    @property
    def zeros(self) -> float:
        return self._zeros / max(self.count, 1)

    def see(self, x: Tensor) -> None:
        low, high = (float(end) for end in torch.aminmax(x))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._zeros += int((x == 0).sum())
        self.count += x.numel()


class _Blind:
    def see(self, x: Tensor) -> None:
        """Let the activations pass unseen, and unrounded."""


def _run(
    model: nn.Module,
    watched: Mapping[str, QuantizedLayer],
    observers: Mapping[str, Observer],
    batches: list[Batch],
) -> None:
    with ExitStack() as stack:
        stack.enter_context(eval_mode(model))
        for name, module in watched.items():
            assert module.input_quantizer is not None
            module.input_quantizer.observer = observers.get(name, _Blind())
            stack.callback(setattr, module.input_quantizer, "observer", None)
        for batch in batches:
            model(*moved(batch.args, device_of(model)))
