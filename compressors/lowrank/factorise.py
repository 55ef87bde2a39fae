"""Low rank: a layer becomes two or three thinner ones, by a truncated decomposition of its weight.

They stand in a row at the layer's path: `layer.0`, `layer.1`. Ranks are shares of the full rank
that the layer has when this step comes, after channels were removed. A layer that would take more
weights or more multiply-accumulates is left whole; a table, which has no multiply-accumulates, is
judged by its weights alone. A weight that other modules have too stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Statistics
from compressors.lowrank.costs import Size, nominal_sizes, sizes_met
from compressors.lowrank.factorised import Factorised, before_parts
from compressors.lowrank.jobs import Grams, Job, Plan, job_of, refusal
from compressors.lowrank.methods import Ranks
from compressors.lowrank.ranks import needs_values
from compressors.modules import replace
from compressors.policies.steps import LowRank


@dataclass(frozen=True)
class Factorisation:
    """What became of the layers: their parts' paths, their ranks, and why some were left whole.

    Ranks are in the order in which data meets them: one, or with tucker the inputs' and outputs'.
    """

    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ranks: dict[str, Ranks] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@torch.no_grad()
def factorise_layers(
    model: nn.Module,
    layers: Mapping[str, LowRank],
    statistics: Statistics,
    cache: ContentCache,
    *,
    example: tuple[Tensor, ...] | None = None,
) -> Factorisation:
    """Factorise the named layers, in place.

    The statistics are of the model as it stands. Multiply-accumulates are counted for the example,
    one sample; where it is missing, for large maps.
    """
    grams = Grams(statistics)
    jobs, whole = _jobs(model, layers, cache, grams)
    sizes = _sizes(model, jobs, example)
    plans = {job.name: job.plan() for job in jobs if not needs_values(job.step)}
    # What is left whole whatever its singular values costs nothing, so it is told apart first.
    _tell_losses(jobs, plans, sizes, whole)
    grams.wanted = {job.name for job in jobs if job.step.aware and job.name not in whole}
    late = {job.name: job.plan() for job in jobs if needs_values(job.step)}
    _tell_losses(jobs, late, sizes, whole)
    plans.update(late)
    jobs = [job for job in jobs if job.name not in whole]
    done = {job.name: job.made(plans[job.name]) for job in jobs}
    for name, factorised in done.items():
        replace(model, name, factorised)
    parts = {name: tuple(before_parts(name, factorised)) for name, factorised in done.items()}
    ranks = {name: plans[name].ranks for name in done}
    notes = (f"{name}: left whole, {whole[name]}" for name in layers if name in whole)
    return Factorisation(parts, ranks, tuple(notes))


def halves_before(
    model: nn.Module, parts: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, nn.Module | None, nn.Module]]:
    """For each part: the layer it comes from, what the layer's input has gone through, the part.

    The first part has gone through nothing. The modules are those in the model, not copies.
    """
    found = {}
    for name in parts:
        factorised = model.get_submodule(name)
        assert isinstance(factorised, Factorised)
        found.update(before_parts(name, factorised))
    return found


def _jobs(
    model: nn.Module, layers: Mapping[str, LowRank], cache: ContentCache, grams: Grams
) -> tuple[list[Job], dict[str, str]]:
    """The jobs of the layers that can be factorised, and why the others cannot."""
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for path, module in model.named_modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), []).append((path, module))
    jobs, whole = [], {}
    for name, step in layers.items():
        layer = model.get_submodule(name)
        reason = refusal(layer, owners[id(layer.weight)])
        if reason is None:
            jobs.append(job_of(name, layer, step, cache, grams))
        else:
            whole[name] = reason
    return jobs, whole


def _tell_losses(
    jobs: list[Job],
    plans: Mapping[str, Plan],
    sizes: Mapping[str, list[Size]],
    whole: dict[str, str],
) -> None:
    """Write down which of the plans would make a layer larger or slower."""
    for job in jobs:
        if job.name in plans:
            reason = job.loss(plans[job.name], sizes[job.name])
            if reason is not None:
                whole[job.name] = reason


def _sizes(
    model: nn.Module, jobs: list[Job], example: tuple[Tensor, ...] | None
) -> dict[str, list[Size]]:
    """The maps that each layer reads; measured where a factorisation's cost depends on them."""
    sizes = {job.name: nominal_sizes(job.layer) for job in jobs}
    asked = {
        job.name: job.layer
        for job in jobs
        if job.step.form != "channel" or isinstance(job.layer, nn.ConvTranspose2d)
    }
    if asked and example is not None:
        met = sizes_met(model, asked, example)
        sizes.update({name: found for name, found in met.items() if found})
    return sizes
