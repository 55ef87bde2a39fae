from __future__ import annotations

from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import Quantize
from compressors.structures.structure import ChannelGroup, Structure
from evaluation.target import FLOAT, INT8, Capability, Precision
from search.space.building import build_space
from search.space.knobs import Choices
from search.space.options import RecoveryOptions, SpaceOptions, StepOptions
from search.space.precision import parse_precision
from search.space.space import Space
from tests.search.spaces import CAPABILITY, STRUCTURE, conv

OFF = StepOptions(include=())


def space(**changes: Any) -> Space:
    return build_space(STRUCTURE, CAPABILITY, replace(SpaceOptions(), **changes))


def values(built: Space, name: str) -> tuple[Any, ...]:
    knob = next(knob for knob in built.knobs if knob.name == name)
    assert isinstance(knob.domain, Choices)
    return knob.domain.values


def test_finds_a_knob_for_everything_that_can_be_done() -> None:
    names = [knob.name for knob in space().knobs]
    assert "layer1.0/remove" in names
    assert "stem/channels" in names
    assert "layer1.0.conv2/channels" not in names  # follows the stem
    assert "fc/bits" in names
    assert "depthwise/rank" not in names  # grouped convolutions have no such factorisation
    assert names[-4:] == [
        "recovery/epochs",
        "recovery/learning_rate",
        "recovery/temperature",
        "recovery/weight",
    ]


def test_shares_that_keep_as_many_channels_are_one_choice() -> None:
    built = space(prune=StepOptions(choices=(0.0, 0.05, 0.25, 0.3, 0.5, 0.9, 0.95)))
    assert values(built, "stem/channels") == (0.0, 0.25, 0.5, 0.9)


def test_shares_are_told_apart_by_whole_bundles() -> None:
    """Six channels at once and the target's multiple of four: counts are multiples of twelve."""
    layers = (conv("wide", 3, 48), conv("grouped", 48, 12, groups=6))
    structure = Structure(layers, (ChannelGroup("wide", 48, ("wide",), ("grouped",), 6),), ())
    shares = (0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9)
    built = build_space(
        structure, CAPABILITY, SpaceOptions(depth=OFF, prune=StepOptions(choices=shares))
    )
    assert values(built, "wide/channels") == (0.0, 0.25, 0.5, 0.7)


def test_choices_come_from_the_capability_table() -> None:
    assert values(space(), "fc/bits") == ("float", "w8a8")
    conv_only = Capability({"conv2d": (FLOAT, INT8)}, 4)
    built = build_space(STRUCTURE, conv_only, SpaceOptions())
    assert "fc/bits" not in built.distributions()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quantize": StepOptions(choices=("float", "w4a8"))}, "'w4a8': this target has no kernel"),
        ({"quantize": StepOptions(choices=("int8",))}, "valid: float, or such as w8a8"),
        ({"quantize": StepOptions(limits={"fc": ("w2a8",)})}, "for linear: float, w8a8"),
        ({"prune": StepOptions(choices=(0.0, 1.0))}, "prune.channels cannot be 1.0"),
        ({"prune": StepOptions(choices=(True,))}, "cannot hold True; valid: numbers"),
        ({"lowrank": StepOptions(choices=(0.0,))}, "lowrank.ratio cannot be 0.0"),
        ({"depth": StepOptions(choices=(0, 1))}, "cannot hold 0; valid: False, True"),
        ({"depth": StepOptions(include=("layer1.O",))}, "Did you mean 'layer1."),
        ({"prune": StepOptions(exclude=("layer1.0.conv2",))}, "space.prune.exclude"),
        ({"quantize": StepOptions(tie=(("fc",), ("f*",)))}, "'fc' into two groups"),
        ({"recovery": RecoveryOptions(epochs=())}, "epochs cannot be empty"),
        ({"recovery": RecoveryOptions(epochs=(-1,))}, "recovery.epochs cannot be -1"),
        ({"recovery": RecoveryOptions(weight=(0.0, 1.5))}, "recovery.weight cannot be 1.5"),
        ({"recovery": RecoveryOptions(weight=(1.0, 0.5))}, "the lower end first"),
        ({"recovery": RecoveryOptions(learning_rate=(0.1,))}, "valid: two numbers"),
        ({"criterion": "l3"}, "prune.criterion cannot be 'l3'; valid: l1, l2"),
        ({"depth": OFF, "prune": OFF, "lowrank": OFF, "quantize": OFF}, "no knobs"),
    ],
)
def test_refuses_in_one_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        space(**changes)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_tie_makes_one_knob_of_many_layers() -> None:
    built = space(quantize=StepOptions(tie=(("layer1.*",), ("stem", "fc"))))
    bits = built.of_kind("quantize")
    assert [knob.name for knob in bits] == ["stem/bits", "layer1.0.conv1/bits", "depthwise/bits"]
    made = built.policy({"stem/bits": "w8a8"})
    assert [layer.name for layer in made.layers] == ["fc", "stem"]


def test_limits_hold_for_the_layers_they_match_and_a_forced_choice_is_taken() -> None:
    built = space(
        quantize=StepOptions(limits={"*": ("float", "w8a8"), "fc": ("w8a8",), "stem": ("float",)})
    )
    assert values(built, "fc/bits") == ("w8a8",)
    assert "stem/bits" not in built.distributions()
    assert built.policy({}).layer("fc").quantize == Quantize(8, 8)


def test_what_lies_in_a_removed_block_is_dropped() -> None:
    built = space()
    inside = {"layer1.0.conv1/bits": "w8a8", "layer1.0.conv1/channels": 0.5}
    plain = {"layer1.0/remove": True, "recovery/epochs": 0}
    assert built.policy({**plain, **inside}) == built.policy(plain)
    assert built.policy(plain) == Policy(remove=("layer1.0",))


def test_without_cuts_or_epochs_recovery_is_plain() -> None:
    built = space(recovery=RecoveryOptions(seed=7))
    tuned = {"recovery/epochs": 12, "recovery/learning_rate": 0.003}
    assert built.policy(tuned) == Policy(recovery=Recovery(seed=7))
    cut = built.policy({**tuned, "fc/bits": "w8a8"}).recovery
    assert (cut.epochs, cut.learning_rate, cut.seed) == (12, 0.003, 7)
    uncut = built.policy({"recovery/epochs": 0, "recovery/weight": 0.9, "fc/bits": "w8a8"})
    assert uncut.recovery == Recovery(seed=7)


def test_the_channel_multiple_is_written_into_the_policy() -> None:
    entry = space().policy({"stem/channels": 0.5}).layer("stem")
    assert entry.prune is not None
    assert entry.prune.multiple == CAPABILITY.channel_multiple


def test_several_ranges_make_one_global_knob() -> None:
    built = space(ranges=("minmax", "mse"))
    entry = built.policy({"fc/bits": "w8a8", "quantize/ranges": "mse"}).layer("fc")
    assert entry.quantize == Quantize(8, 8, "mse")


def test_size_multiplies_the_choices() -> None:
    built = space(depth=OFF, prune=OFF, lowrank=OFF, recovery=RecoveryOptions(epochs=(0,), seed=1))
    assert built.size() == 2 ** len(STRUCTURE.layers)
    assert built.continuous() == 0


def test_refuses_a_policy_it_cannot_say() -> None:
    outside = Policy(layers=(LayerPolicy("fc", quantize=Quantize(3, None)),))
    with pytest.raises(UserError, match="outside this space"):
        space().params_of(outside)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), ranges=st.sampled_from([("minmax",), ("minmax", "mse")]))
def test_a_policy_reads_back_as_params_that_give_it_again(
    seed: int, ranges: tuple[str, ...]
) -> None:
    built = space(ranges=ranges, depth=StepOptions(tie=(("layer1.*",),)))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    policy = built.policy(study.ask(fixed_distributions=built.distributions()).params)
    assert built.policy(built.params_of(policy)) == policy


@given(st.sampled_from([FLOAT, INT8, Precision(4, None), Precision(None, 8), Precision(2, 3)]))
def test_precisions_read_back_from_their_words(precision: Precision) -> None:
    assert parse_precision(str(precision)) == precision
