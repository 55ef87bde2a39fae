"""One layer's factorisation: the ranks that a step comes to, whether they pay, the filled parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from compressors.calibration import digest
from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Statistics
from compressors.errors import UserError
from compressors.lowrank.costs import Size, macs_of, weights_of
from compressors.lowrank.factorised import Factorised
from compressors.lowrank.methods import Method, Ranks, Source, exact, method_of
from compressors.lowrank.ranks import chosen_rank
from compressors.lowrank.splits import Parts
from compressors.policies.steps import LowRank


@dataclass(frozen=True)
class Plan:
    """The ranks of one layer and its parts, which have no values yet."""

    ranks: Ranks
    parts: Parts

    @property
    def words(self) -> str:
        """The ranks in words."""
        ranks = " and ".join(map(str, self.ranks))
        return f"rank{'s' if len(self.ranks) > 1 else ''} {ranks}"


@dataclass(frozen=True)
class Job:
    """A layer, what is asked for it, and the way there."""

    name: str
    layer: nn.Module
    step: LowRank
    method: Method

    def plan(self) -> Plan:
        """The ranks that the step comes to; by energy, this takes the decomposition."""
        ranks = self.method.ranks(partial(chosen_rank, self.step))
        return Plan(ranks, self.method.parts(self.layer, ranks))

    def loss(self, plan: Plan, sizes: Sequence[Size]) -> str | None:
        """What the layer would lose by being factorised, in figures; None where it gains."""
        weights, whole = weights_of(plan.parts), weights_of([self.layer])
        if weights >= whole:
            return f"as {plan.words} would take {weights} weights in place of {whole}"
        if isinstance(self.layer, nn.Embedding):
            return None
        macs, whole = macs_of(plan.parts, sizes), macs_of([self.layer], sizes)
        if macs > whole:
            return f"as {plan.words} would take {macs} multiply-accumulates in place of {whole}"
        return None

    def made(self, plan: Plan) -> Factorised:
        """The parts, with their weights."""
        for part, weight in zip(plan.parts, self.method.weights(plan.ranks), strict=True):
            _fill(part, "weight", weight)
        bias = getattr(self.layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            _fill(plan.parts[-1], "bias", bias)
        _keep_padding(self.layer, plan.parts)
        return Factorised(plan.parts, self.method.product, self.layer)


@dataclass
class Grams:
    """Inputs' Gram matrices, all those that are wanted taken in one pass once one is needed."""

    statistics: Statistics
    wanted: set[str] = field(default_factory=set)
    _found: dict[str, Tensor] = field(default_factory=dict)

    def of(self, name: str) -> Tensor:
        """The Gram matrix of a layer's inputs."""
        if name not in self._found:
            missing = {name, *self.wanted} - set(self._found)
            self._found.update(self.statistics.grams(sorted(missing)))
        return self._found[name][0]


def job_of(name: str, layer: nn.Module, step: LowRank, cache: ContentCache, grams: Grams) -> Job:
    """The job of one layer."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if not bool(weight.isfinite().all()):
        raise UserError(
            f"The weight of layer '{name}' has values that are not finite, so lowrank cannot be"
            " given to it; valid: layers of finite weights."
        )
    facts = [digest.of_tensor(weight), weight.device.type]
    if step.aware:
        facts += [name, grams.statistics.digest]
    gram = partial(grams.of, name) if step.aware else None
    source = Source(exact(weight), digest.of_text(*facts), cache, gram)
    return Job(name, layer, step, method_of(layer, step, source))


def refusal(layer: nn.Module, owners: Sequence[tuple[str, nn.Module]]) -> str | None:
    """Why a layer cannot be factorised at all; the owners are the modules with its weight."""
    if isinstance(layer, nn.Embedding) and layer.max_norm is not None:
        return "as it keeps its rows below a norm (max_norm), which two parts cannot"
    others = [path for path, owner in owners if owner is not layer]
    if others:
        return f"as its weight is also that of {', '.join(others)}, and shared weights stay whole"
    return None


def _fill(part: nn.Module, name: str, values: Tensor) -> None:
    parameter = getattr(part, name)
    assert isinstance(parameter, nn.Parameter)
    parameter.copy_(values)
    if isinstance(values, nn.Parameter):
        parameter.requires_grad_(values.requires_grad)


def _keep_padding(layer: nn.Module, parts: Parts) -> None:
    """A padding row of zeros is zero to the last bit."""
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        table = parts[0].weight
        assert isinstance(table, Tensor)
        if not bool(layer.weight[layer.padding_idx].any()):
            table[layer.padding_idx] = 0
