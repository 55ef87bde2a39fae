"""Policies and steps of every kind drawn at random, for property tests."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import reject
from hypothesis import strategies as st

from compressors.errors import PolicyError
from compressors.policies import policy as policy_module
from compressors.policies import steps
from compressors.policies.policy import LayerPolicy, Policy, Recovery, Rounds
from compressors.policies.steps import Heads, LowRank, Prune, Quantize, Sparsify

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
SHARES = st.floats(0, 1, exclude_max=True)
POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False)
NOT_NEGATIVE = st.floats(0, allow_infinity=False, allow_nan=False)


def words(literal: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(get_args(literal))


@st.composite
def legal(draw: st.DrawFn, kind: type[Any], **fields: st.SearchStrategy[Any]) -> Any:
    """A step of every field drawn at random; combinations that its own rules refuse are not."""
    try:
        return kind(**{name: draw(values) for name, values in fields.items()})
    except PolicyError:
        reject()


PRUNES = legal(
    Prune,
    channels=SHARES,
    criterion=words(steps.Criterion),
    multiple=st.integers(1, 64),
    repair=st.booleans(),
)
HEADS = legal(Heads, share=SHARES, criterion=words(steps.HeadCriterion), repair=st.booleans())
SPARSIFIES = st.one_of(
    st.just(Sparsify(0.7, criterion="taylor", scope="model")),  # the same in all of the entries
    legal(Sparsify, share=SHARES, criterion=words(steps.WeightCriterion)),
    legal(
        Sparsify,
        pattern=st.integers(1, 64).flatmap(
            lambda of: st.integers(1, of).map(lambda kept: f"{kept}:{of}")
        ),
        criterion=words(steps.WeightCriterion),
    ),
)
RATIOS = st.floats(0, 1, exclude_min=True)
LOWRANKS = st.one_of(
    legal(LowRank, **{size: values}, form=words(steps.Form), aware=st.booleans())
    for size, values in (("ratio", RATIOS), ("energy", RATIOS), ("rank", st.integers(1, 4096)))
)
GRAINS = st.one_of(
    st.fixed_dictionaries({"granularity": st.sampled_from(["channel", "tensor"])}),
    st.fixed_dictionaries({"granularity": st.just("group"), "group": st.integers(2, 512)}),
)


@st.composite
def quantizes(draw: st.DrawFn) -> Quantize:
    inputs = {
        "activations": st.none() | st.sampled_from(list(steps.ACTIVATION_BITS)),
        "ranges": words(steps.Ranges),
        "dynamic": st.booleans(),
        "signed": st.booleans(),
        "by_row": st.booleans(),
    }
    if draw(st.integers(0, 4)) == 0:
        floats = {"activations": st.just(8), "inputs": st.just("e4m3")}
        inputs = {"ranges": inputs["ranges"], **floats}
    if draw(st.integers(0, 4)) == 0:
        return draw(legal(Quantize, weights=st.none(), **inputs))
    able = ["e4m3"] if "inputs" in inputs else sorted(steps.FUNCTION_BITS)
    function = draw(st.sampled_from(able))
    return draw(
        legal(
            Quantize,
            weights=st.sampled_from(steps.FUNCTION_BITS[function]),
            **inputs,
            function=st.just(function),
            rounding=words(steps.Rounding) if function in steps.AFFINE else st.just("nearest"),
            bias_correction=st.booleans(),
            smooth=st.just(0.0) | SHARES,
            **{key: st.just(value) for key, value in draw(GRAINS).items()},
        )
    )


QUANTIZES = quantizes()
LAYERS = st.builds(
    LayerPolicy,
    name=NAMES,
    prune=st.none() | PRUNES,
    lowrank=st.none() | LOWRANKS,
    quantize=st.none() | QUANTIZES,
    sparsify=st.none() | SPARSIFIES,
    heads=st.none() | HEADS,
)
RECOVERIES = st.builds(
    Recovery,
    epochs=st.integers(0, 100),
    learning_rate=POSITIVE,
    temperature=POSITIVE,
    weight=st.floats(0, 1),
    batch_size=st.integers(1, 512),
    optimizer=words(policy_module.Optimizer),
    schedule=words(policy_module.Schedule),
    seed=st.integers(0, 2**63),
    teacher=st.just("original") | NAMES,
    features=NOT_NEGATIVE,
    attention=NOT_NEGATIVE,
    hints=st.lists(NAMES, max_size=3, unique=True).map(tuple),
    scales=words(policy_module.Scales),
)
ROUNDS = st.builds(
    Rounds,
    count=st.integers(1, 100),
    epochs=st.integers(0, 100),
    loss_rise=st.none() | NOT_NEGATIVE,
)
POLICIES = st.builds(
    Policy,
    remove=st.lists(NAMES, max_size=4, unique=True).map(tuple),
    layers=st.lists(LAYERS, max_size=4, unique_by=lambda layer: layer.name).map(tuple),
    recovery=RECOVERIES,
    rounds=ROUNDS,
    equalize=st.booleans(),
    student=st.just("original") | NAMES,
)
STEPS = {
    "heads": HEADS,
    "prune": PRUNES,
    "lowrank": LOWRANKS,
    "sparsify": SPARSIFIES,
    "quantize": QUANTIZES,
}
