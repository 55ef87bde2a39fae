"""The end of a search for real: a trained perceptron, ONNX files, their figures measured."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from compressors.errors import UserError
from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import LowRank, Quantize
from evaluation.evaluator import Evaluator
from evaluation.measuring.files import Files
from evaluation.measuring.sampling import Block, Effort
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.tasks.digits_mlp import DigitsMLP
from search.exports import exports
from search.exports.lowering import check_lowering
from search.front import front_files
from search.front.finish import finish
from search.front.front import find
from search.front.validate import validate
from search.study.ledger import StudyRows
from tests.search.views import studies

INT8 = Quantize(8, 8)
POLICIES = {
    "fp32": Policy(),
    "int8": Policy(layers=(LayerPolicy("fc1", quantize=INT8), LayerPolicy("fc2", quantize=INT8))),
    None: Policy(
        layers=(LayerPolicy("fc1", lowrank=LowRank(0.1), quantize=INT8),),
        recovery=Recovery(epochs=2),
    ),
    "dominated": Policy(layers=(LayerPolicy("fc2", lowrank=LowRank(0.1)),)),
}


@dataclass
class Done:
    rows: StudyRows
    folder: Path
    task: DigitsMLP
    target: OrtCpu

    def finish(self, **options: bool) -> str:
        console = Console(file=io.StringIO(), width=110)
        finish(self.rows, self.folder, self.evaluator, console=console, **options)
        return console.file.getvalue()

    def evaluator(self) -> Evaluator:
        return Evaluator(self.task, self.target)

    def front(self) -> dict:
        return json.loads((self.folder / "front.json").read_text())


@pytest.fixture(scope="module")
def by_size() -> Iterator[None]:
    """A file takes as long as it is large, so that it can be told whose time is told of whom."""

    def block(_: Files, paths: Sequence[Path], effort: Effort) -> Block:
        rounds = [[milliseconds(path)] * 3 for path in paths]
        first = [rounds[0]] * len(rounds)
        return Block(rounds, first, first, rounds if effort.burst_least else [])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "_block", block)
        yield


def milliseconds(path: Path) -> float:
    return path.stat().st_size * 1e-5


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, by_size: None) -> Done:
    """A study of four trials, as a search leaves it."""
    folder = tmp_path_factory.mktemp("study")
    task = DigitsMLP(epochs=3)
    target = OrtCpu(cache_dir=str(folder / "cache"), latency="measured")
    evaluator = Evaluator(task, target)
    (folder / "trials").mkdir()
    trials = []
    for number, (name, policy) in enumerate(POLICIES.items()):
        made = evaluator.evaluate(policy, folder / "trials" / f"{number}.onnx")
        values = [made.measurement[o.name].value for o in studies.OBJECTIVES]
        if name == "dominated":
            values = [v * 2 + 1 for v in values]
        row = replace(
            studies.failed(number),
            state="complete",
            baseline=name,
            policy=policy_yaml.dump(policy),
            policy_id=policy_yaml.policy_id(policy),
            values=tuple(values),
            measurement=made.measurement,
            record=made.record,
            artifact=f"trials/{number}.onnx",
            reason=None,
        )
        trials.append(row)
    reference = trials[0].measurement
    rows = StudyRows("tiny", task.name, target.name, studies.OBJECTIVES, reference, tuple(trials))
    return Done(rows, folder, task, target)


@pytest.fixture(scope="module")
def once(searched: Done, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """It once more, finished, as measuring the files takes seconds."""
    made = _copy(searched, tmp_path_factory.mktemp("finished"))
    made.finish()
    return made


def _copy(done: Done, folder: Path) -> Done:
    shutil.copytree(done.folder, folder / "study")
    return replace(done, folder=folder / "study")


@pytest.fixture
def done(searched: Done, tmp_path: Path) -> Done:
    return _copy(searched, tmp_path)


@pytest.fixture
def finished(once: Done, tmp_path: Path) -> Done:
    return _copy(once, tmp_path)


def needless() -> Evaluator:
    pytest.fail("What is refused anyway waited for an evaluator.")


def test_a_finished_study_has_its_files_and_says_where(done: Done) -> None:
    told = done.finish()
    for name in ("front.json", "front.csv", "front.png", "report.html", "policies/best.yaml"):
        assert (done.folder / name).stat().st_size > 0
    assert "Everything lies in" in told
    assert told.count("paredown ") >= 2
    members = {f"{m['trial']}.onnx" for m in done.front()["members"]}
    left = {path.name for path in (done.folder / "trials").iterdir()}
    assert left == members | {"0.onnx"}  # the dominated trial's file is gone


def test_exported_figures_come_from_the_files(finished: Done) -> None:
    content = finished.front()
    evaluator = finished.evaluator()
    uncompressed = milliseconds(finished.folder / "trials" / "0.onnx")
    for member in content["members"]:
        file = finished.folder / "trials" / f"{member['trial']}.onnx"
        exported = member["exported"]
        assert exported["size_bytes"]["value"] == file.stat().st_size
        faster = uncompressed / milliseconds(file)
        assert exported["speedup"]["value"] == pytest.approx(faster, rel=0.01)
        again = evaluator.exported_quality(file, "test").value
        assert exported["test_error"]["value"] == pytest.approx(again)
    floor = content["timing"]["floor_ms"]["value"]
    assert 0 < floor < min(m["exported"]["latency_ms"]["value"] for m in content["members"])
    reference = content["reference"]["exported"]
    assert reference["speedup"]["value"] == 1.0
    assert reference["latency_ms"]["value"] == pytest.approx(uncompressed, rel=0.01)


def test_finishing_again_measures_nothing_unless_asked(
    finished: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (finished.folder / "front.json").read_bytes()
    measured: list[int] = []
    compare = finished.target.compare

    def counted(reference: Path, candidates: list[Path]) -> list:
        measured.append(len(candidates))
        return compare(reference, candidates)

    monkeypatch.setattr(finished.target, "compare", counted)
    finished.finish()
    assert measured == []
    assert (finished.folder / "front.json").read_bytes() == before
    finished.finish(remeasure=True)
    reference_and_floor = 2
    assert measured == [len(finished.front()["members"]) + reference_and_floor]


def test_a_file_that_is_gone_is_built_again_from_its_policy(done: Done) -> None:
    front = find(done.rows)
    for row in front.members:
        (done.folder / row.artifact).unlink()
    found = validate(done.rows, front, done.folder, done.evaluator)
    for row in front.members:
        exported = found.of(row)
        assert (done.folder / row.artifact).exists()
        assert exported["error"].value == pytest.approx(row.measurement["error"].value, abs=0.01)


def test_an_export_has_policy_model_figures_and_card(finished: Done) -> None:
    best = find(finished.rows).knee.number
    out = exports.export(finished.rows, finished.folder, None, finished.evaluator)
    assert out == finished.folder / "export" / str(best)
    assert {path.name for path in out.iterdir()} == {
        "policy.yaml",
        "model.onnx",
        "metrics.json",
        "MODEL_CARD.md",
    }
    metrics = json.loads((out / "metrics.json").read_text())
    member = next(m for m in finished.front()["members"] if m["trial"] == best)
    assert metrics["exported"] == member["exported"]
    card = (out / "MODEL_CARD.md").read_text()
    assert "test error" in card
    assert "`fc1" in card
    assert "paredown apply policy.yaml task=digits_mlp target=ort_cpu" in card


def test_a_dominated_trial_can_be_exported_too(finished: Done) -> None:
    out = exports.export(finished.rows, finished.folder, 3, finished.evaluator)
    assert json.loads((out / "metrics.json").read_text())["exported"]["test_error"]["value"] < 1


def test_only_complete_trials_are_exported(done: Done) -> None:
    with pytest.raises(UserError, match="Trial 77 is not a complete trial; on the front are"):
        exports.export(done.rows, done.folder, 77, needless)


def test_a_policy_file_alone_gives_the_same_model(done: Done, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(done.rows.trials[2].policy)
    out = exports.apply_policy(policy, tmp_path / "out", done.evaluator)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["policy_id"] == done.rows.trials[2].policy_id
    assert metrics["trial"] is None
    assert (out / "model.onnx").read_bytes() == (done.folder / "trials" / "2.onnx").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == [
        "MODEL_CARD.md",
        "metrics.json",
        "model.onnx",
        "policy.yaml",
    ]


def test_nothing_foreign_is_written_over(done: Done, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(done.rows.trials[1].policy)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.onnx").write_text("mine")
    with pytest.raises(UserError, match="choose an empty folder"):
        exports.apply_policy(policy, mine, needless)
    assert (mine / "model.onnx").read_text() == "mine"


def test_verify_passes_what_is_as_promised(finished: Done) -> None:
    exports.export(finished.rows, finished.folder, None, finished.evaluator)
    checks = exports.verify(finished.rows, finished.folder, finished.evaluator)
    assert len(checks) == 3 * (len(finished.front()["members"]) + 1)
    assert all(check.passed for check in checks)
    assert not any(check.note for check in checks)


def test_verify_fails_a_file_whose_weights_were_changed(finished: Done) -> None:
    out = exports.export(finished.rows, finished.folder, None, finished.evaluator)
    spoil(out / "model.onnx")
    checks = exports.verify(finished.rows, finished.folder, finished.evaluator)
    failed = [check for check in checks if not check.passed]
    assert failed
    assert {check.file for check in failed} == {out / "model.onnx"}
    assert {check.note for check in failed} == {"the file was changed since its export"}


def spoil(file: Path) -> None:
    """Turn every weight of a file upside down."""
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2:
            turned = np.ascontiguousarray(numpy_helper.to_array(tensor)[::-1, ::-1])
            tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
    onnx.save(model, file)


def test_verify_fails_a_file_that_is_gone(finished: Done) -> None:
    out = exports.export(finished.rows, finished.folder, None, finished.evaluator)
    (out / "model.onnx").unlink()
    checks = exports.verify(finished.rows, finished.folder, finished.evaluator)
    assert [check.note for check in checks if not check.passed] == ["the file is gone"]


def test_verify_needs_something_to_verify(done: Done) -> None:
    with pytest.raises(UserError, match="no exported figures to verify"):
        exports.verify(done.rows, done.folder, needless)


def test_a_tolerance_is_a_number_from_zero(done: Done) -> None:
    with pytest.raises(UserError, match="tolerance cannot be -1"):
        exports.verify(done.rows, done.folder, needless, tolerance=-1)


def test_a_study_whose_trials_all_failed_still_ends_well(done: Done) -> None:
    rows = replace(done.rows, reference=None, trials=(studies.failed(0),))
    done.rows = rows
    assert "No trial is complete" in done.finish()
    assert done.front()["members"] == []
    assert front_files.read_validation(done.folder, "") == front_files.Validation()
    assert "No trial is complete yet" in (done.folder / "report.html").read_text()


def test_verify_says_in_one_sentence_that_a_record_is_not_one(finished: Done) -> None:
    out = exports.export(finished.rows, finished.folder, None, finished.evaluator)
    content = json.loads((out / "metrics.json").read_text())
    for broken in ([], {**content, "search": 3}, {"file": "model.onnx"}):
        (out / "metrics.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
            exports.verify(finished.rows, finished.folder, finished.evaluator, export=out)


def test_a_truncated_file_is_built_again_before_it_is_handed_over(finished: Done) -> None:
    row = find(finished.rows).knee
    file = finished.folder / row.artifact
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    out = exports.export(finished.rows, finished.folder, None, finished.evaluator)
    assert (out / "model.onnx").read_bytes() == whole


def test_nothing_is_dropped_beside_a_running_search(done: Done) -> None:
    timed_against = done.folder / "trials" / "reference.onnx"
    timed_against.write_bytes((done.folder / "trials" / "0.onnx").read_bytes())
    before = set((done.folder / "trials").iterdir())
    done.finish(tidy=False)
    assert set((done.folder / "trials").iterdir()) == before
    done.finish()
    assert not timed_against.exists()


def test_without_tracking_the_next_step_is_to_verify(finished: Done) -> None:
    assert "paredown ui" in finished.finish()
    told = finished.finish(tracking=False)
    assert "paredown ui" not in told
    assert "paredown verify" in told


def test_applying_again_leaves_what_lies_beside_the_model(done: Done, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(done.rows.trials[1].policy)
    out = exports.apply_policy(policy, tmp_path / "out", done.evaluator)
    (out / "reference.onnx").write_text("mine")
    exports.apply_policy(policy, out, done.evaluator)
    assert (out / "reference.onnx").read_text() == "mine"
    (out / "metrics.json").write_text('{"loss": 1.0}')
    with pytest.raises(UserError, match="choose an empty folder"):
        exports.apply_policy(policy, out, done.evaluator)
    assert (out / "metrics.json").read_text() == '{"loss": 1.0}'


def test_a_place_below_a_file_cannot_be_written(done: Done, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(done.rows.trials[1].policy)
    with pytest.raises(UserError, match=r"Cannot write .*sub: Not a directory"):
        exports.apply_policy(policy, policy / "sub", done.evaluator)


def test_files_are_what_their_policies_simulate(finished: Done) -> None:
    checks = check_lowering(finished.rows, finished.folder, finished.evaluator)
    members = {finished.folder / row.artifact for row in find(finished.rows).members}
    assert {check.file for check in checks} == members
    assert all(check.passed and check.layers for check in checks)


def test_the_layer_that_was_changed_in_an_export_is_named(done: Done) -> None:
    out = exports.export(done.rows, done.folder, 1, done.evaluator)
    model = onnx.load(out / "model.onnx")
    node = next(n for n in model.graph.node if n.name == "fc2")
    pair = next(n for n in model.graph.node if n.output[0] == node.input[1])
    scales = next(i for i in model.graph.initializer if i.name == pair.input[1])
    doubled = numpy_helper.to_array(scales) * np.float32(2)
    scales.CopyFrom(numpy_helper.from_array(doubled, scales.name))
    onnx.save(model, out / "model.onnx")
    (check,) = check_lowering(done.rows, done.folder, done.evaluator, out)
    assert check.departing == ("fc2",)
    assert not check.passed
