from __future__ import annotations

from dataclasses import replace

from compressors.policies.policy import Policy
from search.space.baselines import baselines
from search.space.building import build_space
from search.space.options import RecoveryOptions, SpaceOptions, StepOptions
from tests.search.spaces import CAPABILITY, STRUCTURE

OFF = StepOptions(include=())


def names(options: SpaceOptions) -> list[str]:
    return [b.name for b in baselines(build_space(STRUCTURE, CAPABILITY, options))]


def test_every_kind_has_its_uniform_policies() -> None:
    space = build_space(STRUCTURE, CAPABILITY, SpaceOptions())
    made = {baseline.name: space.policy(baseline.params) for baseline in baselines(space)}
    assert made["fp32"] == Policy()
    assert {entry.name for entry in made["int8"].layers} == {
        layer.name for layer in space.structure.layers
    }
    assert {e.prune.channels for e in made["half width"].layers if e.prune} == {0.5}
    assert made["shallow, int8"].remove == ("layer1.0", "layer1.1")
    assert {e.lowrank.ratio for e in made["half rank"].layers if e.lowrank} == {0.5}
    cut = [policy for name, policy in made.items() if name not in ("fp32", "int8")]
    assert {policy.recovery.epochs for policy in cut} == {12}
    assert made["int8"].recovery.epochs == 0
    distributions = space.distributions()
    for baseline in baselines(space):
        assert set(baseline.params) == set(distributions)


def test_only_those_that_the_space_has() -> None:
    bits = SpaceOptions(depth=OFF, prune=OFF, lowrank=OFF, recovery=RecoveryOptions(epochs=(0,)))
    assert names(bits) == ["fp32", "int8"]
    assert names(replace(bits, quantize=OFF, prune=SpaceOptions().prune)) == ["fp32", "half width"]
    forced = replace(bits, quantize=StepOptions(choices=("w8a8",)))
    assert names(forced) == ["int8"]
