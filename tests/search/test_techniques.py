"""Spaces of every technique: choices that say more than a number, per layer and over all layers."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from compressors.errors import UserError
from compressors.policies.policy import Policy, Rounds
from compressors.policies.policy_rules import check
from compressors.policies.policy_yaml import dump, load
from compressors.policies.steps import Heads, LowRank, Prune, Quantize, Sparsify
from compressors.structures.structure import ChannelGroup, Layer, Structure
from evaluation.target import FLOAT, Capability
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage
from evaluation.targets.tensorrt.target import TensorRT
from evaluation.targets.torch_device.target import TorchCuda
from search.configuration.compose import compose
from search.configuration.settings import Settings
from search.configuration.typed import typed
from search.space.baselines import baselines
from search.space.building import build_space
from search.space.options import RecoveryOptions, SpaceOptions, StepOptions
from search.space.space import Space
from search.space.table import print_space
from tests.search.spaces import CAPABILITY, STORAGE, STRUCTURE, TRANSFORMER

OFF = StepOptions(include=())
MLP = Structure(
    (
        Layer("fc1", "linear", 64, 128, (), 1, 8192, 8192),
        Layer("fc2", "linear", 128, 10, (), 1, 1, 1),
    ),
    (ChannelGroup("fc1", 128, ("fc1",)),),
    (),
)
NOTHING = SpaceOptions(depth=OFF, prune=OFF, lowrank=OFF, quantize=OFF)
RICH = SpaceOptions(
    prune=StepOptions(choices=(0.0, 0.5, {"channels": 0.5, "criterion": "taylor"})),
    lowrank=StepOptions(choices=(1.0, 0.5, {"energy": 0.9, "aware": True})),
    quantize=StepOptions(
        choices=(
            "float",
            "w8af",
            {"weights": 4, "function": "kmeans"},
            {"weights": 4, "granularity": "group", "group": 16, "rounding": "gptq"},
            {"weights": 8, "ranges": "mse"},
        )
    ),
    heads=StepOptions(choices=(0.0, 0.5, {"share": 0.25, "criterion": "wanda"})),
    sparsify=StepOptions(choices=(0.0, "2:4", {"pattern": "2:4", "criterion": "hessian"})),
    recovery=RecoveryOptions(scales=("learned", "fixed"), features=(0.0, 1.0), hints=("mlp",)),
    ranges=("minmax", "mse"),
    equalize=(False, True),
    rounds=Rounds(3, 1),
    repair=True,
)


def transformer(options: SpaceOptions = NOTHING, **changes: Any) -> Space:
    return build_space(TRANSFORMER, STORAGE, replace(options, **changes))


def of(space: Space, name: str) -> tuple[Any, ...]:
    return next(knob.values for knob in space.knobs if knob.name == name)


@pytest.mark.parametrize("target", [TensorRT, TorchCuda], ids=lambda target: target.name)
def test_eight_bit_floats_are_a_choice_where_a_target_has_them(target: Any) -> None:
    floats = {"weights": 8, "activations": 8, "function": "e4m3", "inputs": "e4m3"}
    table, step = target.capability, Quantize(8, 8, function="e4m3", inputs="e4m3")
    for choice in ("fp8", floats):
        asked = replace(NOTHING, quantize=StepOptions(choices=("float", "w8a8", choice)))
        space = build_space(MLP, table, asked)
        assert of(space, "fc1/bits") == ("float", "w8a8", "fp8")
        assert space.policy({"fc1/bits": "fp8"}).layer("fc1").quantize == step
    unasked = build_space(MLP, table, replace(NOTHING, quantize=StepOptions()))
    assert of(unasked, "fc1/bits") == ("float", "w8a8")
    names = [baseline.name for baseline in baselines(build_space(MLP, table, asked))]
    assert names == ["fp32", "int8"]
    with pytest.raises(UserError, match="no kernel for 'fc1' as fp8; valid for linear: float"):
        build_space(MLP, OrtCpu.capability, asked)


def test_every_technique_is_a_knob_and_an_entry() -> None:
    space = transformer(RICH)
    policy = space.policy(
        {
            "attn/heads": "0.25 wanda",
            "attn.key/bits": "w4 group16 gptq",
            "attn.value/rank": "energy=0.9 aware",
            "mlp.up/channels": "0.5 taylor",
            "mlp.up/zeros": "2:4 hessian",
            "mlp.down/bits": "w8 mse",
            "table/bits": "w8af",
            "quantize/ranges": "minmax",
            "equalize": True,
        }
    )
    grouped = Quantize(4, None, granularity="group", group=16, rounding="gptq")
    assert policy.layer("attn").heads == Heads(0.25, "wanda", repair=True)
    assert policy.layer("attn.key").quantize == grouped
    assert policy.layer("attn.value").lowrank == LowRank(energy=0.9, aware=True)
    assert policy.layer("mlp.up").prune == Prune(0.5, "taylor", repair=True)
    assert policy.layer("mlp.up").sparsify == Sparsify(pattern="2:4", criterion="hessian")
    assert policy.layer("mlp.down").quantize == Quantize(8, None, "mse")
    assert policy.layer("table").quantize == Quantize(8, None, "minmax")
    assert policy.equalize
    assert policy.rounds == Rounds(3, 1)
    check(policy, TRANSFORMER)
    assert load(dump(policy)) == policy
    assert space.policy(space.params_of(policy)) == policy


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_every_setting_fits_the_model_and_reads_back(seed: int) -> None:
    space = transformer(RICH)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    policy = space.policy(study.ask(fixed_distributions=space.distributions()).params)
    check(policy, TRANSFORMER)
    assert space.policy(space.params_of(policy)) == policy


def test_a_choice_that_a_layer_cannot_take_is_cut_from_its_own() -> None:
    space = transformer(RICH)
    assert "w4 group16 gptq" in of(space, "attn.key/bits")
    assert "w4 group16 gptq" not in of(space, "table/bits")  # its inputs have no sums
    assert of(space, "table/zeros") == (0.0, "2:4")
    assert of(space, "table/rank") == (1.0, 0.5)


def test_forms_are_for_the_layers_that_have_a_kernel() -> None:
    spatial = {"ratio": 0.5, "form": "spatial"}
    space = build_space(
        STRUCTURE, CAPABILITY, replace(NOTHING, lowrank=StepOptions(choices=(1.0, 0.25, spatial)))
    )
    assert of(space, "stem/rank") == (1.0, 0.25, "0.5 spatial")
    assert of(space, "fc/rank") == (1.0, 0.25)


def test_a_factorisation_that_cannot_gain_is_no_choice() -> None:
    ranks = ({"rank": 10}, {"rank": 40}, {"rank": 60, "form": "spatial"})
    space = build_space(
        STRUCTURE, CAPABILITY, replace(NOTHING, lowrank=StepOptions(choices=(1.0, *ranks)))
    )
    assert of(space, "layer1.0.conv1/rank") == (1.0, "rank=10")
    assert "fc/rank" not in space.distributions()  # rank 10 of 16 x 10 is all of it


def test_ranks_that_none_of_the_named_layers_gains_by_are_refused() -> None:
    def named(*choices: Any, include: tuple[str, ...] = ("attn.*",)) -> Space:
        lowrank = StepOptions(include=include, choices=choices)
        heads = StepOptions(choices=(0.0, 0.5))
        return transformer(heads=heads, lowrank=lowrank)

    with pytest.raises(UserError, match=r"lowrank.choices cannot hold '0.5': no layer included"):
        named(1.0, 0.5)  # 16 of 32 x 32 has as many weights
    assert of(named(1.0, 0.5, 0.25), "attn.key/rank") == (1.0, 0.25)
    assert "mlp.up/rank" in named(1.0, 0.5, include=("attn.*", "mlp.*")).distributions()
    everywhere = named(1.0, 0.99, include=("*",))
    assert not everywhere.of_kind("lowrank")
    assert not named(1.0).of_kind("lowrank")


def test_choices_that_come_to_the_same_are_one() -> None:
    given = (0.0, 0.5, {"share": 0.51}, {"share": 0.5, "repair": True}, {"share": 0.01})
    space = transformer(heads=StepOptions(choices=given))
    assert of(space, "attn/heads") == (0.0, 0.5, "0.5 repair")


def test_all_that_the_target_gains_by_are_the_choices_of_bits() -> None:
    space = transformer(quantize=StepOptions())
    assert of(space, "mlp.up/bits") == ("float", "w8af", "w4af", "w2af")


def test_each_choice_of_a_limit_is_the_layers_own() -> None:
    limited = StepOptions(choices=("float", "w8af"), limits={"mlp.*": ("float", "w2 ternary")})
    space = transformer(quantize=limited)
    assert of(space, "mlp.up/bits") == ("float", "w2 ternary")
    assert of(space, "table/bits") == ("float", "w8af")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"lowrank": StepOptions(choices=(1.0, {"energy": 0.9, "form": "spatial"}))},
            "space.lowrank.choices cannot hold 'energy=0.9 spatial': 'table' cannot take it: form",
        ),
        (
            {"quantize": StepOptions(include=("table",), choices=("float", "w8a8"))},
            "an embedding reads whole numbers",
        ),
        (
            {"quantize": StepOptions(choices=("float", {"weights": 4, "function": "ternary"}))},
            "space.quantize.choices: quantize.weights cannot be 4 with function ternary",
        ),
        (
            {"quantize": StepOptions(limits={"mlp.*": ({"weights": 1, "function": "binary"},)})},
            "space.quantize.limits cannot hold 'w1 binary': this target has no kernel for 'mlp.up'"
            " with function binary at 1 bits; valid there: kmeans",
        ),
        (
            {"quantize": StepOptions(include=("mlp.*",), choices=("w8a8 dynamic",))},
            "with dynamic activations; valid: dynamic false",
        ),
        (
            {"sparsify": StepOptions(choices=(0.0, "4:8"))},
            "on this target nothing would be gained by such zeros; valid: 2:4, or another target,"
            " such as storage",
        ),
        ({"equalize": ()}, "space.equalize cannot be empty"),
        ({"ranges": ("medium",)}, "quantize.ranges cannot be 'medium'"),
        ({"student": ""}, "student cannot be ''"),
        ({"recovery": RecoveryOptions(scales=())}, "space.recovery.scales cannot be empty"),
        ({"recovery": RecoveryOptions(scales=("lerned",))}, "recovery.scales cannot be 'lerned'"),
        ({"recovery": RecoveryOptions(features=(-1.0, 0.0))}, "recovery.features cannot be -1.0"),
    ],
)
def test_refuses_in_one_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        transformer(**changes)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_one_threshold_over_the_model_is_one_choice() -> None:
    able = replace(STORAGE, mask_bits=1)
    shared = [{"share": share, "scope": "model"} for share in (0.5, 0.9)]
    one, both = ((0.0, *shared[:count]) for count in (1, 2))
    build_space(TRANSFORMER, able, replace(NOTHING, sparsify=StepOptions(choices=one)))
    with pytest.raises(UserError, match=r"0\.5 scope=model, 0\.9 scope=model; valid: one of them"):
        build_space(TRANSFORMER, able, replace(NOTHING, sparsify=StepOptions(choices=both)))


def test_what_has_nothing_to_act_on_is_left_out() -> None:
    space = transformer(RICH)
    training = {"recovery/epochs": 12, "recovery/scales": "fixed", "recovery/features": 0.5}
    plain = {"equalize": True, "quantize/ranges": "mse", **training}
    assert space.policy(plain) == Policy()
    cut = space.policy({**plain, "attn/heads": 0.5})
    assert (cut.equalize, cut.rounds, cut.recovery.scales) == (False, Rounds(3, 1), "statistics")
    assert cut.recovery.hints == ("mlp",)
    rounded = space.policy({**plain, "table/bits": "w8af", "recovery/features": 0.0})
    assert (rounded.equalize, rounded.rounds, rounded.recovery.scales) == (True, Rounds(), "fixed")
    assert rounded.recovery.hints == ()


def test_a_student_is_trained_even_where_nothing_is_cut() -> None:
    space = transformer(RICH, student="tiny")
    alone = space.policy({"recovery/epochs": 12})
    assert (alone.student, alone.layers, alone.recovery.epochs) == ("tiny", (), 12)
    assert space.policy(space.params_of(alone)) == alone
    assert "fp32" not in [baseline.name for baseline in baselines(space)]


def test_settings_that_came_later_are_signed_only_where_they_are_used() -> None:
    """Studies that were begun before there were such settings go on."""
    before = transformer(quantize=StepOptions()).signature()["fixed"]
    assert set(before) == {
        *("prune.multiple", "prune.criterion", "quantize.ranges", "recovery.epochs"),
        *("recovery.learning_rate", "recovery.temperature", "recovery.weight"),
        *("recovery.batch_size", "recovery.optimizer", "recovery.schedule", "recovery.seed"),
    }
    now = transformer(
        quantize=StepOptions(),
        student="tiny",
        repair=True,
        aware=True,
        equalize=(True,),
        rounds=Rounds(2),
        recovery=RecoveryOptions(teacher="large", scales=("learned",)),
    ).signature()["fixed"]
    assert {key: now[key] for key in sorted(set(now) - set(before))} == {
        "equalize": True,
        "heads.repair": True,
        "lowrank.aware": True,
        "prune.repair": True,
        "recovery.scales": "learned",
        "recovery.teacher": "large",
        "rounds": {"count": 2, "epochs": 0, "loss_rise": None},
        "student": "tiny",
    }


def test_uniform_baselines_of_the_new_steps() -> None:
    space = transformer(RICH)
    made = {baseline.name: space.policy(baseline.params) for baseline in baselines(space)}
    assert list(made) == [
        *("fp32", "w8af", "half width", "half width, w8af", "shallow, w8af"),
        *("rank 0.5 or energy=0.9 aware", "half the heads", "2:4"),
    ]
    assert made["half the heads"].layer("attn").heads == Heads(0.5, repair=True)
    assert {entry.sparsify for entry in made["2:4"].layers} == {Sparsify(pattern="2:4")}
    assert len(made["2:4"].layers) == len(TRANSFORMER.layers)
    assert made["2:4"].recovery.epochs == 12
    shares = Capability({"linear": (FLOAT,)}, mask_bits=1)
    options = replace(NOTHING, sparsify=StepOptions(choices=(0.0, 0.9, 0.6)))
    unstructured = build_space(TRANSFORMER, shares, options)
    half = baselines(unstructured)[1]
    assert half.name == "zeros 0.6"
    assert {entry.sparsify for entry in unstructured.policy(half.params).layers} == {Sparsify(0.6)}


def test_baselines_are_named_for_what_they_are() -> None:
    def names(**changes: StepOptions) -> list[str]:
        return [baseline.name for baseline in baselines(transformer(**changes))][1:]

    taylor = {"channels": 0.25, "criterion": "taylor"}
    assert names(prune=StepOptions(choices=(0.0, taylor))) == ["width 0.75 taylor"]
    assert names(heads=StepOptions(choices=(0.0, 0.9, {"share": 0.5}))) == ["half the heads"]
    assert names(heads=StepOptions(choices=(0.0, 0.25))) == ["heads 0.75"]
    aware = {"energy": 0.9, "aware": True}
    assert names(lowrank=StepOptions(choices=(1.0, aware))) == ["rank energy=0.9 aware"]
    assert names(lowrank=StepOptions(include=("mlp.*",), choices=(1.0, 0.5))) == ["half rank"]


def test_the_usual_pattern_is_a_baseline_by_any_criterion() -> None:
    hessian = {"pattern": "2:4", "criterion": "hessian"}
    space = transformer(sparsify=StepOptions(choices=(0.0, hessian)))
    made = {baseline.name: space.policy(baseline.params) for baseline in baselines(space)}
    assert list(made) == ["fp32", "2:4"]
    found = {entry.sparsify for entry in made["2:4"].layers}
    assert found == {Sparsify(pattern="2:4", criterion="hessian")}


@pytest.mark.parametrize("structure", [MLP, STRUCTURE, TRANSFORMER])
def test_the_space_of_techniques_holds_for_any_model_on_storage(structure: Structure) -> None:
    options = compose(["space=techniques", "target=storage"]).space
    space = build_space(structure, Storage.capability, options)
    for baseline in baselines(space):
        check(space.policy(baseline.params), structure)
    words = {str(value) for knob in space.knobs for value in knob.values}
    assert {"0.5 taylor", "energy=0.9 aware", "0.8 wanda", "2:4 hessian"} <= words
    assert {"w4 group32 gptq", "w4 kmeans", "w2 ternary group32"} <= words


@pytest.mark.parametrize("structure", [STRUCTURE, MLP])
def test_the_wide_space_holds_on_int8_kernels(structure: Structure) -> None:
    options = compose(["space=wide"]).space
    words = {
        str(v) for knob in build_space(structure, CAPABILITY, options).knobs for v in knob.values
    }
    assert {"0.5 taylor", "0.5 aware", "energy=0.9 aware", "w8a8", "learned"} <= words


def test_a_dry_run_shows_words_and_what_every_policy_has() -> None:
    console = Console(width=200, file=StringIO())
    print_space(transformer(RICH), console, Storage())
    said = console.file.getvalue()
    assert "0.0, 0.5, 0.25 wanda" in said
    assert "float, w8af, w4 kmeans, w4 group16 gptq, w8 mse" in said
    assert "every policy: heads.repair true, prune.repair true, rounds count=3 epochs=1," in said
    assert "recovery.hints mlp\n" in said  # the scales have a knob
    assert "simulated" not in said


@pytest.mark.parametrize(("choice", "told"), [("w4a8", True), ("w4af", False)])
def test_a_dry_run_says_what_the_target_only_simulates(choice: str, told: bool) -> None:
    options = replace(NOTHING, quantize=StepOptions(choices=("float", choice)))
    console = Console(width=200, file=StringIO())
    print_space(build_space(MLP, Storage.capability, options), console, Storage())
    line = "on storage, with no gain there: activations are simulated, as the kernels compute in"
    assert (line in console.file.getvalue()) == told


def test_a_study_keeps_its_choices_as_they_were_written() -> None:
    written = compose(["space=techniques", "target=storage", "space.rounds.count=3"])
    assert typed(Settings, written.to_plain()) == written
    assert written.space.quantize.choices[3] == {"weights": 4, "function": "kmeans"}
    assert written.space.rounds == Rounds(3)
