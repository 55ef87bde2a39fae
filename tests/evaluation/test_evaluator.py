"""A policy goes in; its numbers, its record and its file come out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressors.policies.policy import LayerPolicy, Policy, Recovery, Scales
from compressors.policies.steps import LowRank, Prune, Quantize, Sparsify
from evaluation.evaluator import Evaluation, Evaluator
from evaluation.fidelity import Fidelity
from evaluation.measurement import COSTS
from evaluation.measuring import quiet
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage
from tests.evaluation.tiny import LAYERS, TinyTask

INT8 = Policy(layers=tuple(LayerPolicy(name, quantize=Quantize(8, 8)) for name in LAYERS))


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory, hasty: None) -> Evaluator:
    return Evaluator(TinyTask(), OrtCpu(cache_dir=str(tmp_path_factory.mktemp("cache"))))


def values(evaluation: Evaluation) -> dict[str, float]:
    return {v.metric.name: v.value for v in evaluation.measurement.values}


def test_every_cost_is_measured(evaluator: Evaluator, tmp_path: Path) -> None:
    found = evaluator.evaluate(Policy(), tmp_path / "m.onnx")
    assert list(values(found)) == ["error", *(metric.name for metric in COSTS)]
    assert min(values(found).values()) > 0
    assert values(found)["size_bytes"] == found.artifact.stat().st_size
    assert found.record["policy_id"]
    assert found.seconds > 0
    assert found.evaluations == 1
    model = TinyTask().model()
    assert found.measurement["error"] == TinyTask().quality(model, "validation")
    assert values(found)["parameters"] == sum(p.numel() for p in model.parameters())


def test_integers_take_fewer_bytes_and_no_fewer_parameters(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    plain = values(evaluator.evaluate(Policy(), tmp_path / "a.onnx"))
    small = values(evaluator.evaluate(INT8, tmp_path / "b.onnx"))
    assert small["size_bytes"] < plain["size_bytes"]
    assert small["parameters"] == plain["parameters"]
    assert small["macs"] == plain["macs"]
    assert small["bit_operations"] == plain["bit_operations"] / 16
    assert small["activation_bytes"] == plain["activation_bytes"] / 4
    assert small["energy_uj"] < plain["energy_uj"]


def test_cutting_takes_parameters_and_work_away(evaluator: Evaluator, tmp_path: Path) -> None:
    plain = values(evaluator.evaluate(Policy(), tmp_path / "a.onnx"))
    cut = Policy(
        layers=(
            LayerPolicy("block.one", prune=Prune(0.5, multiple=8)),
            LayerPolicy("down", lowrank=LowRank(0.25)),
        )
    )
    thin = values(evaluator.evaluate(cut, tmp_path / "b.onnx"))
    assert thin["parameters"] < plain["parameters"]
    assert thin["macs"] < plain["macs"]
    assert thin["size_bytes"] < plain["size_bytes"]


def test_the_record_says_what_is_simulated_on_this_target(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    zeros = LayerPolicy("fc", quantize=Quantize(8, 8), sparsify=Sparsify(pattern="2:4"))
    policy = Policy(layers=(*INT8.layers[:2], zeros))
    layers = evaluator.evaluate(policy, tmp_path / "m.onnx").record["layers"]
    assert {row["name"]: row["simulated"] for row in layers if row["simulated"]} == {
        "fc": ["sparsify"]
    }
    storage = Evaluator(TinyTask(), Storage(cache_dir=str(tmp_path)))
    layers = storage.evaluate(policy, tmp_path / "m.safetensors").record["layers"]
    inputs = ["quantize.activations"]
    quantised = {row["name"]: row["simulated"] for row in layers if row["weight_bits"]}
    assert list(quantised.values()) == [inputs] * 3


def test_the_file_scores_as_the_simulation(evaluator: Evaluator, tmp_path: Path) -> None:
    for number, policy in enumerate((Policy(), INT8)):
        found = evaluator.evaluate(policy, tmp_path / f"{number}.onnx")
        exported = evaluator.exported_quality(found.artifact, "validation")
        assert exported.value == pytest.approx(values(found)["error"], abs=0.05)


def test_the_same_policy_gives_the_same_numbers(evaluator: Evaluator, tmp_path: Path) -> None:
    policy = Policy(layers=INT8.layers, recovery=Recovery(epochs=1))
    one = evaluator.evaluate(policy, tmp_path / "1.onnx")
    two = evaluator.evaluate(policy, tmp_path / "2.onnx")
    assert one.measurement == two.measurement
    assert one.record == two.record
    assert one.artifact.read_bytes() == two.artifact.read_bytes()


@pytest.mark.parametrize("scales", ["statistics", "learned"])
def test_rungs_end_where_the_policy_in_one_go_does(
    evaluator: Evaluator, tmp_path: Path, scales: Scales
) -> None:
    policy = Policy(layers=INT8.layers, recovery=Recovery(epochs=4, scales=scales))
    once = evaluator.evaluate(policy, tmp_path / "once.onnx")
    path, checkpoint = tmp_path / "rungs.onnx", tmp_path / "rungs.recovery"
    costs = None
    for fidelity in (Fidelity(0.5, 1), Fidelity(1.0, 3)):
        found = evaluator.evaluate(
            policy, path, checkpoint=checkpoint, fidelity=fidelity, costs=costs
        )
        assert found.record["recovery"]["epochs"] == fidelity.epochs
        assert found.evaluations == fidelity.share
        assert checkpoint.exists()
        costs = costs or found.measurement
        assert found.measurement.values[1:] == costs.values[1:]
    last = evaluator.evaluate(policy, path, checkpoint=checkpoint, costs=costs)
    assert not checkpoint.exists()
    assert last.measurement == once.measurement
    assert last.record == once.record
    assert path.read_bytes() == once.artifact.read_bytes()


def test_on_a_share_of_the_data_the_spread_is_wider(evaluator: Evaluator, tmp_path: Path) -> None:
    whole = evaluator.evaluate(INT8, tmp_path / "m.onnx").measurement["error"]
    part = evaluator.evaluate(INT8, tmp_path / "m.onnx", fidelity=Fidelity(share=0.25))
    assert (part.measurement["error"].spread or 0) > 1.5 * (whole.spread or 0)


def test_known_costs_are_not_found_out_again_on_the_way(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    costs = evaluator.evaluate(INT8, tmp_path / "first.onnx").measurement
    evaluator.evaluate(INT8, tmp_path / "m.onnx", fidelity=Fidelity(share=0.5), costs=costs)
    assert not (tmp_path / "m.onnx").exists()


def test_whoever_watches_is_called_at_every_step_and_may_end_it(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    policy = Policy(recovery=Recovery(epochs=50, batch_size=8))
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(policy, tmp_path / "m.onnx", on_step=stop)
    assert calls == 2
    assert quiet._mine.work is None
    assert not (tmp_path / "m.onnx").exists()


def test_the_callers_random_state_is_left(evaluator: Evaluator, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    evaluator.evaluate(Policy(recovery=Recovery(epochs=1)), tmp_path / "m.onnx")
    assert torch.equal(before, torch.random.get_rng_state())
