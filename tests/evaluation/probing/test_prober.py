from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.cache import ContentCache
from compressors.data import Batch, Split
from compressors.errors import PolicyError, UserError
from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import Prune, Quantize
from compressors.stack import Stack
from evaluation.measurement import ERROR, Value
from evaluation.probing import finding_files
from evaluation.probing.outputs import MOST_ROWS
from evaluation.probing.probe import Finding, Probe
from evaluation.probing.prober import Prober
from evaluation.task import Predict
from tests.compressors.architectures import build
from tests.compressors.tiny import Images


class ImageTask(Images):
    name = "images"
    metric = ERROR

    def model(self) -> nn.Module:
        return build("resnet")

    def quality(self, predict: Predict, split: Split, fraction: float = 1.0) -> Value:
        raise NotImplementedError  # a probe scores nothing


class Regression(ImageTask):
    """The same network, its outputs numbers to be met."""

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        for batch in super().batches(split, batch_size=batch_size, seed=seed):
            yield replace(batch, targets=F.one_hot(batch.targets, 3).float())


class OwnDistance(Regression):
    """Tells distances itself."""

    def distance(self, outputs: Tensor, reference: Tensor) -> Tensor:
        return (outputs - reference).abs().amax(1)


class Tokens(ImageTask):
    """A class for each of many positions."""

    def model(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        for batch in super().batches(split, batch_size=batch_size, seed=seed):
            yield replace(batch, targets=batch.targets[:, None, None].expand(-1, 8, 8))


def text(*entries: LayerPolicy, **parts: object) -> str:
    return policy_yaml.dump(Policy(layers=entries, **parts))  # type: ignore[arg-type]


def bits(name: str, weights: int) -> str:
    return text(LayerPolicy(name, quantize=Quantize(weights, None)))


def prober(task: ImageTask, cache: ContentCache | None = None) -> Prober:
    return Prober(Stack(task.model(), task), task, cache)


FEW_BITS = tuple(bits("layer2.0.conv1", weights) for weights in (2, 4, 8))
NOTHING = text()


def test_scores_follow_what_is_measured_and_nothing_is_no_damage() -> None:
    task = ImageTask()
    names = [layer.name for layer in Stack(task.model(), task).structure.layers]
    policies = (NOTHING, *(bits(name, weights) for name in names for weights in (3, 6)))
    probers = prober(task)
    scores = probers.run(Probe("scores", policies, samples=16))
    measured = probers.run(Probe("changes", policies, samples=16))
    assert scores.damage[0] == measured.damage[0] == 0
    assert scores.scores
    assert scores.changes is None
    ranks = [found.damage[1:].argsort().argsort() for found in (scores, measured)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.9
    ratio = scores.damage[1:] / measured.damage[1:]
    assert 0.5 < np.median(ratio) < 2


def test_changes_are_those_of_the_compressed_models_outputs() -> None:
    task = ImageTask()
    stack = Stack(task.model(), task)
    found = prober(task).run(Probe("changes", FEW_BITS, samples=10))
    inputs = next(iter(task.batches("calibration"))).args[0][:10]
    with torch.no_grad():
        before = stack.apply(Policy()).module(inputs)
        after = [stack.apply(policy_yaml.load(policy)).module(inputs) for policy in FEW_BITS]
    assert found.outputs is not None
    assert found.changes is not None
    torch.testing.assert_close(torch.from_numpy(found.outputs), before)
    for change, outputs, damage in zip(found.changes, after, found.damage, strict=True):
        whole = torch.from_numpy(found.outputs + change.astype(np.float32))
        torch.testing.assert_close(whole, outputs, rtol=1e-3, atol=1e-3)
        expected = F.kl_div(
            outputs.double().log_softmax(1),
            before.double().log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        assert damage == pytest.approx(float(expected), rel=1e-2)


def test_around_a_policy_changes_are_from_it_and_damage_from_the_original() -> None:
    around = FEW_BITS[0]
    plain = prober(ImageTask()).run(Probe("changes", FEW_BITS, samples=16))
    found = prober(ImageTask()).run(Probe("changes", (NOTHING, *FEW_BITS), around, samples=16))
    assert found.changes is not None
    assert found.outputs is not None
    assert found.reference is not None
    np.testing.assert_allclose(found.damage[1:], plain.damage, rtol=1e-3)
    assert found.damage[0] == 0
    assert np.abs(found.changes[1]).max() < 1e-5
    np.testing.assert_allclose(
        found.outputs + found.changes[0], found.reference, rtol=2e-3, atol=2e-3
    )


def test_what_cannot_be_said_is_no_number_and_spoils_no_other() -> None:
    policies = (
        text(LayerPolicy("layer1.0.conv1", quantize=Quantize(8, 8))),
        text(remove=("layer1.1",)),
        FEW_BITS[0],
        text(LayerPolicy("layer1.0.conv1", prune=Prune(0.5))),
    )
    scores = prober(ImageTask()).run(Probe("scores", policies, samples=8))
    assert np.isnan(scores.damage).tolist() == [True, True, False, False]
    assert (scores.damage[2:] > 0).all()
    measured = prober(ImageTask()).run(Probe("changes", policies, samples=8))
    assert (measured.damage > 0).all()


def test_training_is_left_out_and_patterns_are_read() -> None:
    trained = text(
        LayerPolicy("layer2.0.conv1", quantize=Quantize(2, None)), recovery=Recovery(epochs=9)
    )
    everywhere = text(LayerPolicy("layer2.0.conv?", quantize=Quantize(2, None)))
    for kind in ("scores", "changes"):
        found = prober(ImageTask()).run(
            Probe(kind, (FEW_BITS[0], trained, everywhere), samples=4)  # type: ignore[arg-type]
        )
        assert found.damage[0] > 0
        assert found.damage[1] == pytest.approx(found.damage[0], rel=1e-5)
        assert found.damage[2] not in (0, found.damage[0])


@pytest.mark.parametrize("kind", ["scores", "changes"])
def test_a_finding_from_the_cache_is_the_fresh_one(kind: str, tmp_path: Path) -> None:
    probe = Probe(kind, FEW_BITS, samples=5)  # type: ignore[arg-type]
    fresh = prober(ImageTask(), ContentCache(tmp_path)).run(probe)
    cache = ContentCache(tmp_path)
    kept = prober(ImageTask(), cache).run(probe)
    assert cache.made == 0
    same(fresh, kept)
    anew = prober(ImageTask()).run(probe)
    np.testing.assert_allclose(anew.damage, fresh.damage, rtol=1e-4)
    assert anew.evaluations == fresh.evaluations
    other = ContentCache(tmp_path)
    prober(Regression(), other).run(probe)
    assert other.made == 1  # other targets, another distance
    path = finding_files.path_of(tmp_path, probe.key())
    finding_files.write(path, fresh)
    read = finding_files.read(path)
    assert read is not None
    same(fresh, read)


def same(first: Finding, second: Finding) -> None:
    np.testing.assert_array_equal(first.damage, second.damage)
    assert (first.evaluations, first.scores) == (second.evaluations, second.scores)
    assert first.arrays().keys() == second.arrays().keys()
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name])


def test_a_file_that_is_none_holds_no_finding(tmp_path: Path) -> None:
    assert finding_files.read(tmp_path / "none.npz") is None
    for content in (b"", b"half a file", b"PK\x03\x04 half a file"):
        (tmp_path / "broken.npz").write_bytes(content)
        assert finding_files.read(tmp_path / "broken.npz") is None


def test_evaluations_are_shares_of_the_validation_split() -> None:
    probers = prober(ImageTask())  # 16 samples to calibrate with, 32 to validate on
    assert probers.run(Probe("scores", FEW_BITS, samples=8)).evaluations == 3 * 8 / 32
    assert probers.run(Probe("scores", FEW_BITS, samples=99)).evaluations == 3 * 16 / 32
    assert probers.run(Probe("changes", FEW_BITS, samples=8)).evaluations == 4 * 8 / 32
    around = Probe("changes", (NOTHING, *FEW_BITS), around=FEW_BITS[1], samples=8)
    assert probers.run(around).evaluations == 5 * 8 / 32


def test_what_a_probe_takes_is_known_before() -> None:
    for task in (ImageTask(), Regression()):
        probers = prober(task)
        for samples in (8, 99):
            for around in ("", FEW_BITS[1]):
                for kind in ("scores", "changes"):
                    probe = Probe(kind, (NOTHING, *FEW_BITS), around, samples)  # type: ignore[arg-type]
                    price = probers.price(probe)
                    assert price == probers.run(probe).evaluations
    impossible = Probe("changes", (bits("nowhere", 4),))
    assert prober(ImageTask()).price(impossible) == 2 * 16 / 32


def test_elsewhere_outputs_are_compared_as_numbers() -> None:
    task = Regression()
    names = [layer.name for layer in Stack(task.model(), task).structure.layers]
    policies = tuple(bits(name, weights) for name in names for weights in (3, 6))
    scores = prober(task).run(Probe("scores", policies, samples=16))
    measured = prober(task).run(Probe("changes", policies, samples=16))
    assert not scores.scores
    assert measured.outputs is not None
    assert measured.changes is not None
    squares = np.square(measured.changes.astype(np.float64)).mean((1, 2))
    expected = squares / measured.outputs.var(0).mean()
    np.testing.assert_allclose(measured.damage, expected, rtol=2e-2, atol=1e-7)
    ranks = [found.damage.argsort().argsort() for found in (scores, measured)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.85
    assert 0.5 < np.median(scores.damage / measured.damage) < 2


def test_a_tasks_own_distance_is_the_one_told() -> None:
    found = prober(OwnDistance()).run(Probe("changes", FEW_BITS, samples=16))
    assert found.changes is not None
    expected = np.abs(found.changes.astype(np.float64)).max(2).mean(1)
    np.testing.assert_allclose(found.damage, expected, rtol=1e-2)


def test_every_position_is_a_row_and_some_of_them_are_kept() -> None:
    task = Tokens()
    policies = (bits("0", 2), bits("2", 2))
    found = prober(task).run(Probe("changes", policies, samples=16))
    assert found.scores
    assert found.outputs is not None
    assert found.outputs.shape == (MOST_ROWS, 5)  # of 16 x 8 x 8
    assert found.changes is not None
    assert found.changes.shape == (2, MOST_ROWS, 5)
    scores = prober(task).run(Probe("scores", policies, samples=16))
    assert scores.damage == pytest.approx(found.damage, rel=0.7)


def test_a_wrong_probe_is_refused() -> None:
    with pytest.raises(UserError, match="valid: scores, changes"):
        Probe("guesses", FEW_BITS)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="one policy"):
        Probe("scores", ())
    with pytest.raises(PolicyError, match="nowhere"):
        prober(ImageTask()).run(Probe("scores", (bits("nowhere", 4),)))
    probe = Probe("scores", FEW_BITS, around=NOTHING, samples=3)
    assert Probe.from_json(probe.to_json()) == probe
    assert probe.key() != probe.key("content") != replace(probe, samples=4).key("content")
