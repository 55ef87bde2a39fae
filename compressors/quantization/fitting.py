"""One layer's grids and rounded weight, remembered by all that they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.calibration import digest
from compressors.calibration.cache import ContentCache
from compressors.errors import UserError
from compressors.policies.steps import AFFINE, Quantize
from compressors.quantization.granularity import layout_of
from compressors.quantization.input_ranges import fit_inputs
from compressors.quantization.observations import Observations
from compressors.quantization.rounding import round_weights
from compressors.quantization.weight_quantizer import computable, fit
from compressors.quantization.wrapper import Quantizable

OWN_FIT = ("kmeans", "ternary", "binary")  # functions to which ranges are of no account


@dataclass(frozen=True)
class WeightFit:
    """A weight quantiser's grid, and the layer's new weight where it is not rounded to nearest."""

    state: Mapping[str, Tensor]
    weight: Tensor | None = None


@torch.no_grad()
def fitted_weight(
    name: str,
    layer: Quantizable,
    entry: Quantize,
    mask: Tensor | None,
    factors: Tensor | None,
    seen: Observations,
    cache: ContentCache,
) -> WeightFit:
    """The grid of a layer's weight, found again where nothing that it depends on has changed."""
    weight = layer.weight.detach()
    key = digest.of_text(
        "quantize", digest.of_tensor(weight), *_fields(layer, entry), _of(mask), _of(factors)
    )
    smoothed = weight
    if factors is not None:
        smoothed = computable(weight)
        smoothed = smoothed * factors.to(smoothed.dtype)

    def make() -> Mapping[str, Tensor]:
        if not bool(weight.isfinite().all()):
            raise UserError(
                f"The weights of '{name}' are not all finite numbers, so that they cannot be"
                " quantised; valid: a model with finite weights."
            )
        return fit(layer, smoothed, entry, mask)

    state = cache.remembered(key, make)
    if entry.rounding == "nearest":
        return WeightFit(state)
    gram = seen.grams[name]
    aware = digest.of_text("round", key, entry.rounding, digest.of_tensor(gram))
    kept = cache.remembered(
        aware, lambda: {"weight": _rounded(layer, smoothed, entry, state, gram, factors)}
    )
    found = kept["weight"].to(weight.device)
    return WeightFit(state, found if factors is None else found / factors)


def _fields(layer: nn.Module, entry: Quantize) -> tuple[object, ...]:
    """What of the settings the grid depends on."""
    grouped = entry.granularity == "group"
    return (
        isinstance(layer, nn.ConvTranspose2d),
        entry.weights,
        entry.function,
        entry.granularity,
        entry.group if grouped else None,
        None if entry.function in OWN_FIT else entry.ranges,
    )


def _of(tensor: Tensor | None) -> str:
    return "" if tensor is None else digest.of_tensor(tensor)


def _rounded(
    layer: nn.Module,
    weight: Tensor,
    entry: Quantize,
    state: Mapping[str, Tensor],
    gram: Tensor,
    factors: Tensor | None,
) -> Tensor:
    """The weight on its grid, all rows rounded with regard to the layer's inputs."""
    assert entry.function in AFFINE
    assert entry.weights is not None
    assert entry.rounding != "nearest"
    layout = layout_of(layer, entry.granularity, entry.group)
    parts = {part: tensor.to(weight.device) for part, tensor in state.items()}
    scales = layout.over_matrix(parts["scale"])
    symmetric = entry.function == "symmetric"
    highest = 2 ** (entry.weights - 1) - 1 if symmetric else 2**entry.weights - 1
    lowest = -highest if symmetric else 0
    zeros = torch.zeros_like(scales) if symmetric else layout.over_matrix(parts["zero"])
    gram = gram.to(weight.device)
    if factors is not None:
        gram = gram / factors[:, None] / factors
    matrix = layout.matrix(computable(weight))
    found = round_weights(matrix, scales, zeros, lowest, highest, gram, entry.rounding)
    return layout.from_matrix(found).contiguous()


def fitted_range(
    name: str, entry: Quantize, seen: Observations, cache: ContentCache
) -> tuple[float, float]:
    """The ends of the grid of a layer's input."""
    assert entry.activations is not None
    inputs = seen.ranges[name]
    low, high = float(inputs.low.min()), float(inputs.high.max())
    if entry.ranges == "minmax":
        return low, high
    histogram, zeros, bits = seen.histograms[name], float(inputs.zeros.mean()), entry.activations
    kept = digest.of_tensor(histogram.counts), digest.of_tensor(histogram.bounds)
    key = digest.of_text("range", *kept, zeros, bits, entry.ranges, entry.inputs)

    def make() -> Mapping[str, Tensor]:
        ends = fit_inputs(histogram, zeros, bits, entry.ranges, entry.inputs)
        return {"ends": torch.tensor(ends, dtype=torch.float64)}

    low, high = cache.remembered(key, make)["ends"].tolist()
    return low, high
