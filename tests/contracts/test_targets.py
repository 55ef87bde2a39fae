"""What every target promises, held against every built-in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.artifact_parts import parts
from evaluation.measuring import opened
from evaluation.measuring.limits import Limits
from evaluation.measuring.runner import Opener
from evaluation.target import FLOAT, FP8, INT8, Artifact, Precision, Target
from evaluation.targets.executorch.target import Executorch
from evaluation.targets.litert.target import LiteRt
from evaluation.targets.npu_sim.target import NpuSim
from evaluation.targets.openvino_cpu.target import OpenVinoCpu
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage
from evaluation.targets.torch_device.target import TorchCpu
from search.space.precision import keys_of
from tests.evaluation.tiny import LAYERS, TinyTask

TASK = TinyTask()
OPTIONAL: dict[object, str] = {  # what they cannot be made without
    Executorch: "executorch",
    LiteRt: "ai_edge_litert",
    OpenVinoCpu: "openvino",
}
TARGETS = [OrtCpu, Storage, NpuSim, OpenVinoCpu, TorchCpu, LiteRt, Executorch]


@pytest.fixture(params=TARGETS, ids=lambda c: c.name, scope="module")
def kind(request: pytest.FixtureRequest) -> Callable[..., Target]:
    """One after another for the whole module, so that each one's runtime is started once."""
    if request.param in OPTIONAL:
        pytest.importorskip(OPTIONAL[request.param])
    made: Callable[..., Target] = request.param
    return made


@pytest.fixture
def target(kind: Callable[..., Target], tmp_path: Path) -> Target:
    return kind(cache_dir=str(tmp_path / "cache"))


def compressed(precision: Precision) -> CompressedModel:
    step = Quantize(**keys_of(precision))
    entries = tuple(LayerPolicy(name, quantize=step) for name in LAYERS)
    return apply(TASK.model(), Policy(layers=() if precision == FLOAT else entries), TASK)


def lowered(target: Target, precision: Precision, path: Path) -> Artifact:
    return target.lower(compressed(precision), TASK, path)


@dataclass(frozen=True)
class Lowered:
    """A model, its file in a folder of its own, and whether lowering left the model as it was."""

    model: CompressedModel
    artifact: Artifact
    unchanged: bool


Once = Callable[[Target, Precision], Lowered]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Lowers a model at each precision once for all tests, for some runtimes take seconds."""
    made: dict[tuple[str, Precision], Lowered] = {}

    def lower(target: Target, precision: Precision) -> Lowered:
        key = (target.name, precision)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{target.name}-{precision}")
            made[key] = _lower(target, precision, folder / f"model{target.suffix}")
        return made[key]

    return lower


def _lower(target: Target, precision: Precision, path: Path) -> Lowered:
    model = compressed(precision)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    artifact = target.lower(model, TASK, path)
    after = model.module.state_dict()
    same = list(before) == list(after) and all(torch.equal(before[n], after[n]) for n in before)
    return Lowered(model, artifact, same)


SOME = (
    FLOAT,
    INT8,
    FP8,
    *(Precision(*bits) for bits in ((4, None), (3, 5), (None, 8), (16, None))),
)


def some_precisions(target: Target) -> list[Precision]:
    """Of each sort that the target has with symmetric weights, one."""
    precisions = target.capability.precisions
    every = set.intersection(*(set(precisions[kind]) for kind in ("linear", "conv2d")))
    return [precision for precision in SOME if precision in every]


def test_float_is_always_among_the_precisions(target: Target) -> None:
    for precisions in target.capability.precisions.values():
        assert FLOAT in precisions
    assert target.capability.channel_multiple >= 1


def test_the_file_answers_as_the_simulation_does(target: Target, once: Once) -> None:
    for precision in some_precisions(target):
        model = once(target, precision).model
        predict = target.load(once(target, precision).artifact.path)
        for batch in TASK.batches("test"):
            with torch.no_grad():
                simulated = model.module.eval()(*batch.args)
            exported = predict(*batch.args)
            tolerance = 1e-4 if precision == FLOAT else 0.05
            assert (exported - simulated).abs().max() <= tolerance * simulated.abs().max()


def test_the_size_is_the_files_and_nothing_else_is_written(target: Target, once: Once) -> None:
    artifact = once(target, FLOAT).artifact
    assert artifact.size_bytes == sum(part.stat().st_size for part in parts(artifact.path))
    assert set(artifact.path.parent.iterdir()) == set(parts(artifact.path))


def test_every_batch_size_runs(target: Target, once: Once) -> None:
    for precision in some_precisions(target):
        predict = target.load(once(target, precision).artifact.path)
        inputs = next(iter(TASK.batches("test"))).args[0]
        alone = torch.cat([predict(row[None]) for row in inputs[:5]])
        assert torch.allclose(alone, predict(inputs[:5]), atol=1e-4)


def test_the_signature_follows_the_shapes_and_not_the_weights(
    target: Target, once: Once, tmp_path: Path
) -> None:
    def signature(seed: int, width: int = 16) -> str:
        task = TinyTask(seed, width)
        model = apply(task.model(), Policy(), task)
        return target.lower(model, task, tmp_path / f"m{target.suffix}").signature

    plain, whole = (once(target, p).artifact.signature for p in (FLOAT, INT8))
    assert plain == signature(1) != signature(0, width=24)
    assert plain != whole


def test_lowering_leaves_the_model_as_it_was(target: Target, once: Once) -> None:
    assert all(once(target, precision).unchanged for precision in some_precisions(target))


def test_the_same_model_gives_the_same_file(target: Target, once: Once, tmp_path: Path) -> None:
    for precision in some_precisions(target):
        one = parts(once(target, precision).artifact.path)
        two = parts(lowered(target, precision, tmp_path / f"model{target.suffix}").path)
        assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]


def test_latency_is_measured_once_and_remembered_by_others(
    target: Target, once: Once, tmp_path: Path
) -> None:
    artifact, reference = (_copied(once(target, p).artifact, tmp_path) for p in (FLOAT, INT8))
    first = target.latency(artifact, reference)
    assert first.metric.name == "latency_ms"
    assert first.value > 0
    assert first.spread is not None
    artifact.path.unlink()  # so that nobody can measure them again
    reference.path.unlink()
    other = type(target)(cache_dir=str(tmp_path / "cache"))
    assert target.latency(artifact, reference) == other.latency(artifact, reference) == first


def _copied(artifact: Artifact, folder: Path) -> Artifact:
    """The files once more, in a folder of their own."""
    copy = folder / artifact.signature / artifact.path.name
    copy.parent.mkdir()
    for part, other in zip(parts(artifact.path), parts(copy), strict=True):
        other.write_bytes(part.read_bytes())
    return replace(artifact, path=copy)


def test_compare_gives_one_timing_a_candidate(target: Target, once: Once) -> None:
    path = once(target, FLOAT).artifact.path
    timings = target.compare(path, [path, path])
    assert len(timings) == 2
    for timing in timings:
        assert abs(timing.speedup - 1) <= max(0.3, timing.speedup_spread)  # as it says itself
        assert timing.median_ms > 0


def test_what_has_no_kernel_is_refused_with_the_valid_choices(
    target: Target, tmp_path: Path
) -> None:
    model = compressed(FLOAT)
    wrong = replace(model.record.layers[0], weight_bits=12, activation_bits=3)
    impossible = replace(model, record=replace(model.record, layers=(wrong,)))
    with pytest.raises(UserError, match=r"'stem' as w12a3.*valid.*float"):
        target.lower(impossible, TASK, tmp_path / f"m{target.suffix}")
    assert not (tmp_path / f"m{target.suffix}").exists()


def test_eight_bit_floats_are_lowered_or_refused_and_never_taken_for_integers(
    target: Target, tmp_path: Path
) -> None:
    model, path = compressed(FP8), tmp_path / f"m{target.suffix}"
    kinds = {layer.kind for layer in model.record.layers}
    has = {FP8 in target.capability.precisions[kind] for kind in kinds}
    assert has == {target.name == "storage"}
    if has == {True}:
        floats, integers = target.lower(model, TASK, path), lowered(target, INT8, path)
        assert floats.signature != integers.signature
        return
    with pytest.raises(UserError, match=r"'stem' as fp8; valid for conv2d: float"):
        target.lower(model, TASK, path)
    assert not path.exists()


def test_a_layer_within_the_table_is_told_what_of_it_is_simulated(target: Target) -> None:
    layer = compressed(INT8).record.layers[0]
    table = target.capability
    assert table.refusal(layer) is None
    assert "sparsify" not in table.simulated(layer)
    assert "sparsify" in table.simulated(replace(layer, sparsity=0.01))
    assert table.refusal(replace(layer, weight_function="nothing")) is not None


def test_a_file_that_is_none_is_the_users_to_mend(target: Target, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model file"):
        target.load(tmp_path / f"missing{target.suffix}")
    for part in parts(tmp_path / f"broken{target.suffix}"):
        part.write_bytes(b"this is no model")
    with pytest.raises(UserError, match="cannot load"):
        target.load(tmp_path / f"broken{target.suffix}")


def test_limits_reach_the_process_that_opens_files(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def child_of(opener: Opener, limits: Limits) -> None:
        raise Asked(limits)

    monkeypatch.setattr(opened, "child_of", child_of)
    with pytest.raises(Asked) as asked:
        type(target)(timeout_s=7, memory_mb=300).load(tmp_path / "file")  # type: ignore[call-arg]
    assert asked.value.args == (Limits(7, 300),)


WRONG = ({"threads": 0}, {"batch": -1}, {"threads": 1.5}, {"timeout_s": 0}, {"memory_mb": -1})


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_impossible_arguments_are_refused(target: Target, wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        type(target)(**wrong)
