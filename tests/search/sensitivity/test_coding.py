from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.policies.policy_rules import kept_channels
from search.sensitivity.coding import Coding
from search.sensitivity.work import TOTALS, Work
from search.space.building import build_space
from search.space.options import SpaceOptions, StepOptions
from tests.search.spaces import CAPABILITY, STORAGE, STRUCTURE, TRANSFORMER

RESNET = build_space(STRUCTURE, CAPABILITY, SpaceOptions())
BYTES = build_space(
    TRANSFORMER,
    STORAGE,
    SpaceOptions(
        heads=StepOptions(choices=(0.0, 0.5)),
        sparsify=StepOptions(choices=(0.0, "2:4")),
        quantize=StepOptions(choices=("float", "w8af", "w2af", "w4af")),
    ),
)
CODINGS = [Coding(RESNET), Coding(BYTES)]


def rows(coding: Coding, seed: int, count: int = 40) -> np.ndarray:
    return coding.draw(np.random.default_rng(seed), count)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(CODINGS), st.integers(0, 1000))
def test_settings_go_there_and_back(coding: Coding, seed: int) -> None:
    for row in rows(coding, seed, 5):
        assert (coding.encode(coding.params(row)) == row).all()


@pytest.mark.parametrize("coding", CODINGS)
def test_settings_of_one_policy_are_one_row(coding: Coding) -> None:
    drawn = rows(coding, 0, 300)
    canonical = coding.canonical(drawn)
    for row, plain in zip(drawn, canonical, strict=True):
        assert coding.policy(row) == coding.policy(plain)
    policies = {coding.policy(row) for row in drawn}
    assert len(policies) == len({row.tobytes() for row in canonical})


@pytest.mark.parametrize("coding", CODINGS)
def test_ones_and_steps_say_the_same(coding: Coding) -> None:
    found = coding.settings(rows(coding, 1))
    assert (found.ones.sum(axis=1) == found.alive.sum(axis=1)).all()
    again = np.zeros_like(found.steps)
    for start, size in zip(coding.starts, coding.sizes, strict=True):
        part = found.ones[:, start : start + size]
        again[:, start : start + size] = part[:, ::-1].cumsum(axis=1)[:, ::-1]
        again[:, start] = 0
    assert (again == found.steps).all()
    weights = np.random.default_rng(0).normal(size=coding.width)
    assert found.climbed(weights) == pytest.approx(found.steps @ weights)


def test_choices_are_in_order_of_what_they_keep() -> None:
    coding = CODINGS[1]
    place = next(i for i, knob in enumerate(coding.knobs) if knob.name == "mlp.up/bits")
    assert coding.values[place] == ("float", "w8af", "w4af", "w2af")


def test_single_choices_do_one_thing() -> None:
    coding = CODINGS[0]
    for knob, size in enumerate(coding.sizes):
        for index in range(int(size)):
            policy = coding.single(knob, index)
            touched = {layer.name for layer in policy.layers} | set(policy.remove)
            assert touched <= set(coding.knobs[knob].controls)
            assert policy.recovery.epochs == 0


def test_totals_are_those_counted_layer_by_layer() -> None:
    coding = CODINGS[0]
    work = Work(coding)
    drawn = rows(coding, 2)
    totals = work.totals(coding.settings(drawn))
    whole = sum(layer.parameters for layer in STRUCTURE.layers)
    for row, found in zip(drawn, totals, strict=True):
        weights = stored = 0.0
        policy = coding.policy(row)
        for layer in STRUCTURE.layers:
            if any(layer.name.startswith(f"{block}.") for block in policy.remove):
                continue
            kept_out = kept_in = 1.0
            for group in STRUCTURE.groups:
                entry = policy.layer(group.root)
                if entry is not None and entry.prune is not None:
                    left = kept_channels(group.channels, entry.prune, group.bundle) / group.channels
                    kept_out *= left if layer.name in group.members else 1
                    kept_in *= left if layer.name in group.readers else 1
            entry = policy.layer(layer.name)
            low = 1.0
            if entry is not None and entry.lowrank is not None:
                inputs = layer.in_channels * prod(layer.kernel)
                rank = int(min(inputs, layer.out_channels) * entry.lowrank.ratio + 0.5)
                low = min(1.0, rank * (inputs + layer.out_channels) / inputs / layer.out_channels)
            bits = 32 if entry is None or entry.quantize is None else entry.quantize.weights
            weights += layer.parameters * kept_out * kept_in * low
            stored += layer.parameters * kept_out * kept_in * low * bits / 32
        assert found[TOTALS.index("weights")] == pytest.approx(max(weights / whole, 1e-6))
        assert found[TOTALS.index("bytes")] == pytest.approx(max(stored / whole, 1e-6))
