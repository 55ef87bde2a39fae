"""Every technique that a policy can ask for, each on a small model that can take it.

A case is a model's name and a policy that does something; its neutral twin, which asks for the
same and does nothing, is made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

from compressors.policies import steps
from compressors.policies.policy import LayerPolicy, Policy, Recovery, Rounds, Scales
from compressors.policies.steps import Heads, LowRank, Prune, Quantize, Sparsify


@dataclass(frozen=True)
class Case:
    """One technique on one model."""

    model: str
    policy: Policy

    @property
    def neutral(self) -> Policy:
        """The same asked for, with nothing to do."""
        return replace(
            self.policy,
            remove=(),
            student="original",
            layers=tuple(map(_neutral_entry, self.policy.layers)),
            recovery=replace(self.policy.recovery, epochs=0),
        )

    @property
    def shaped_by_weights(self) -> bool:
        """Whether how much goes depends on the weights, so that other weights may fit in less."""
        ranks = [entry.lowrank for entry in self.policy.layers if entry.lowrank]
        by_energy = any(rank.energy is not None for rank in ranks)
        return by_energy or self.policy.rounds.loss_rise is not None


def _neutral_entry(entry: LayerPolicy) -> LayerPolicy:
    taken = {key: getattr(entry, key) for key in _NEUTRAL}
    return replace(entry, **{key: _NEUTRAL[key](step) for key, step in taken.items() if step})


def _whole_rank(step: LowRank) -> LowRank:
    if step.rank is not None:
        return replace(step, rank=4096)
    return replace(step, **{"ratio" if step.ratio is not None else "energy": 1.0})


_ALL_STAY: dict[str, dict[str, Any]] = {"share": {"share": 0.0}, "n:m": {"pattern": "4:4"}}
_NEUTRAL: dict[str, Callable[[Any], Any]] = {
    "prune": lambda step: replace(step, channels=0.0, multiple=8),
    "heads": lambda step: replace(step, share=0.0),
    "sparsify": lambda step: replace(step, **_ALL_STAY["share" if step.pattern is None else "n:m"]),
    "lowrank": _whole_rank,
    "quantize": lambda step: Quantize(None, None, step.ranges),
}


CASES: dict[str, Case] = {}


def add(
    model: str, words: str, *taken: Any, more: tuple[LayerPolicy, ...] = (), **rest: Any
) -> None:
    """One case: these steps on every layer that can take them, and what else the policy says."""
    fields = {type(step).__name__.lower(): step for step in taken}
    layers = (LayerPolicy("*", **fields), *more) if fields else ()
    name = f"{words}-{model}"
    assert name not in CASES
    CASES[name] = Case(model, Policy(layers=layers, **rest))


add("residual", "depth", remove=("3", "4"))
for criterion, repair in product(get_args(steps.Criterion), (False, True)):
    add("small", f"prune-{criterion}{'-repair' * repair}", Prune(0.5, criterion, 2, repair))
for model in ("dense", "residual", "depthwise", "conv1d", "decoder", "tied"):
    add(model, "prune", Prune(0.7, "wanda", repair=True))
for criterion, repair in product(get_args(steps.HeadCriterion), (False, True)):
    add("attention", f"heads-{criterion}{'-repair' * repair}", Heads(0.5, criterion, repair))

for criterion in get_args(steps.WeightCriterion):
    add("small", f"share-{criterion}", Sparsify(0.6, criterion=criterion))
    add("small", f"pattern-{criterion}", Sparsify(pattern="2:4", criterion=criterion))
    if criterion != "hessian":
        add("small", f"model-{criterion}", Sparsify(0.6, criterion=criterion, scope="model"))
for model in ("conv1d", "decoder", "tied", "attention"):
    add(model, "share", Sparsify(0.6))

SIZES: dict[str, dict[str, Any]] = {
    "ratio": {"ratio": 0.3},
    "energy": {"energy": 0.5},
    "rank": {"rank": 2},
}
for size, form, aware in product(SIZES, get_args(steps.Form), (False, True)):
    if not (aware and form == "tucker"):
        step = LowRank(**SIZES[size], form=form, aware=aware)
        add("small", f"lowrank-{size}-{form}{'-aware' * aware}", step)
for model in ("dense", "conv1d", "decoder", "tied"):
    add(model, "lowrank", LowRank(rank=1))

TYPICAL = {
    "symmetric": 4,
    "asymmetric": 3,
    "log": 4,
    "kmeans": 3,
    "ternary": 2,
    "binary": 1,
    "e4m3": 8,
    "e5m2": 8,
}
for function, granularity in product(TYPICAL, get_args(steps.Granularity)):
    group = {"group": 6} if granularity == "group" else {}
    step = Quantize(TYPICAL[function], None, function=function, granularity=granularity, **group)
    add("small", f"{function}-{granularity}", step)
for ranges in get_args(steps.Ranges):
    add("small", f"ranges-{ranges}", Quantize(6, 6, ranges, granularity="tensor"))
for rounding in get_args(steps.Rounding):
    add("small", f"rounding-{rounding}", Quantize(4, 8, rounding=rounding))
add("small", "sixteen", Quantize(16, None))
add("small", "inputs", Quantize(None, 6))
add("small", "bias-correction", Quantize(3, 8, bias_correction=True))
add("small", "dynamic", Quantize(8, 8, dynamic=True))
add("dense", "by-row", Quantize(8, 8, dynamic=True, by_row=True))
add("small", "signed", Quantize(8, 8, signed=True))
FLOATS = Quantize(8, 8, function="e4m3", inputs="e4m3")
for model in ("small", "dense", "depthwise", "conv1d", "attention"):
    add(model, "floats", FLOATS)
add("dense", "smooth", Quantize(8, 8, smooth=0.5))
add("attention", "smooth", Quantize(8, 8, smooth=0.5))
for model in ("dense", "residual", "depthwise", "conv1d", "decoder", "tied", "attention"):
    add(model, "quantize", Quantize(8, None if model == "tied" else 8))
add("small", "equalize", Quantize(8, 8), equalize=True)
add("dense", "equalize", Quantize(4, None), equalize=True)

for bound in (None, 0.5):  # the second of three rounds rises above it
    words = "rounds" if bound is None else "bounded"
    add("small", f"{words}-prune", Prune(0.6), rounds=Rounds(3, 1, bound))
    add("small", f"{words}-sparsify", Sparsify(0.9), rounds=Rounds(3, 1, bound))
    add("attention", f"{words}-heads", Heads(0.7), rounds=Rounds(2, 0, bound))

TRAINED = Recovery(epochs=2, seed=5, learning_rate=3e-3)
add("small", "recovery", recovery=TRAINED)
add("residual", "recovery", recovery=replace(TRAINED, features=0.5, attention=0.5))
add("small", "sgd", recovery=replace(TRAINED, optimizer="sgd", schedule="constant"))
add("small", "features", recovery=replace(TRAINED, features=0.5))
add("small", "attention", recovery=replace(TRAINED, attention=0.5))
add("small", "hints", recovery=replace(TRAINED, features=0.5, hints=("2=0", "4")))
for scales in get_args(Scales):
    training = replace(TRAINED, scales=scales)
    add("small", f"scales-{scales}", Quantize(3, 4), recovery=training)
    add("small", f"floats-scales-{scales}", replace(FLOATS, ranges="mse"), recovery=training)
add("school", "teacher", recovery=replace(TRAINED, teacher="wide", features=0.5))
add("school", "student", Prune(0.5), student="wider", recovery=replace(TRAINED, teacher="wide"))

QUANTIZED = Quantize(4, 8, rounding="gptq", bias_correction=True)
CUT = (Prune(0.5, "taylor", repair=True), LowRank(rank=2), Sparsify(0.5, criterion="wanda"))
ALL: dict[str, Any] = {
    "equalize": True,
    "rounds": Rounds(2, 1),
    "recovery": Recovery(epochs=1, seed=5, scales="learned"),
}
for model in ("dense", "conv1d", "decoder"):
    add(model, "all", *CUT, QUANTIZED, **ALL)
for model in ("residual", "depthwise"):
    add(model, "all", *CUT, Quantize(8, 8), remove=("3",), **ALL)
add("tied", "all", Prune(0.5), Sparsify(0.5), Quantize(4, None), **ALL)
HEADS = (Heads(0.5, repair=True), CUT[0], CUT[2], Quantize(8, 8, smooth=0.5))
add("attention", "all", *HEADS, more=(LayerPolicy("*linear*", lowrank=CUT[1]),), **ALL)
ALL["recovery"] = replace(ALL["recovery"], features=0.3, attention=0.3)
add("small", "all", *CUT, QUANTIZED, **ALL)
ALL["recovery"] = replace(ALL["recovery"], teacher="wide")
add("school", "all", *CUT, QUANTIZED, student="wider", **ALL)
