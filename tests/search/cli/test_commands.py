"""The commands after a search, on a small real study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from search.cli.commands import ui
from search.cli.main import main
from search.configuration.hydra_tree import CONF
from tests.in_process import paredown
from tests.search.cli import test_experiments


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, hasty: None) -> Path:
    """A folder in which the smoke experiment has run."""
    folder = tmp_path_factory.mktemp("searched")
    done = paredown("search", "experiment=smoke", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, as the current one."""
    copy = tmp_path / "copy"
    shutil.copytree(searched, copy)
    monkeypatch.chdir(copy)
    return copy


def test_every_experiment_is_run_here() -> None:
    """Whoever adds one adds a test that runs it."""
    known = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    assert known == {"smoke", test_experiments.TINY, *test_experiments.KNOBS}


def test_a_search_leaves_what_it_says(searched: Path) -> None:
    folder = searched / "outputs" / "smoke"
    for name in ("study.db", "config.yaml", "front.json", "front.csv", "front.png", "report.html"):
        assert (folder / name).is_file(), name
    assert (folder / "policies" / "best.yaml").is_file()
    assert (searched / "outputs" / "mlflow.db").is_file()
    assert [path.name for path in searched.iterdir()] == ["outputs"]


def test_a_finished_study_is_searched_again_on_a_virtual_clock(here: Path) -> None:
    words = ("engine=simulated", "engine.study=outputs/smoke", "output_dir=outputs/replayed")
    done = paredown("search", "experiment=smoke", *words, cwd=here)
    assert done.returncode == 0, done.stderr
    fronts = [
        json.loads((here / "outputs" / name / "front.json").read_text())
        for name in ("smoke", "replayed/smoke")
    ]
    members = [[member["search"] for member in front["members"]] for front in fronts]
    assert members[0] == members[1]
    assert [bool(front["simulated"]) for front in fronts] == [False, True]
    again = paredown("search", "experiment=smoke", *words[:1], "engine.study=nowhere", cwd=here)
    assert again.returncode == 2
    assert "nowhere" in again.stderr


def test_export_then_verify_then_a_file_that_breaks_its_promise(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export"]) == 0
    (exported,) = (here / "outputs" / "smoke" / "export").iterdir()
    names = {path.name for path in exported.iterdir()}
    assert names == {"policy.yaml", "model.onnx", "metrics.json", "MODEL_CARD.md"}
    assert main(["verify", "smoke"]) == 0
    metrics = json.loads((exported / "metrics.json").read_text())
    metrics["exported"]["error"]["value"] += 0.05
    (exported / "metrics.json").write_text(json.dumps(metrics))
    assert main(["verify", "outputs/smoke"]) == 1
    assert "DEPARTS" in capsys.readouterr().out
    assert main(["verify", "smoke", "--tolerance", "0.2"]) == 0
    assert main(["verify", str(exported)]) == 1


def test_verify_looks_into_the_layers_of_files(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--trial", "1"]) == 0
    (exported,) = (here / "outputs" / "smoke" / "export").iterdir()
    assert main(["verify", "--layers"]) == 0
    assert "files are as simulated" in capsys.readouterr().out
    shutil.copy(here / "outputs" / "smoke" / "trials" / "0.onnx", exported / "model.onnx")
    assert main(["verify", str(exported), "--layers"]) == 1
    assert "departs from its simulation; by layer: fc" in capsys.readouterr().out


def test_apply_builds_the_same_model_from_the_policy_alone(here: Path) -> None:
    assert main(["export"]) == 0
    (exported,) = (here / "outputs" / "smoke" / "export").iterdir()
    words = ("task=digits_mlp", "task.epochs=5", "target=ort_cpu", "--out", "built")
    assert main(["apply", str(exported / "policy.yaml"), *words]) == 0
    assert (here / "built" / "model.onnx").read_bytes() == (exported / "model.onnx").read_bytes()


def test_report_front_and_sync_can_be_made_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = here / "outputs" / "smoke" / "report.html"
    report.unlink()
    assert main(["report"]) == 0
    assert report.is_file()
    before = json.loads((here / "outputs" / "smoke" / "front.json").read_text())
    assert main(["front"]) == 0
    assert json.loads((here / "outputs" / "smoke" / "front.json").read_text()) == before
    capsys.readouterr()
    assert main(["sync", "--uri", f"sqlite:///{here / 'other.db'}"]) == 0
    assert capsys.readouterr().out.startswith("6 of 6 runs written")


def test_a_trial_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "smoke", "--trial", "99"]) == 2
    assert "Trial 99 is not a complete trial" in capsys.readouterr().err


def test_a_misspelt_study_names_the_nearest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", "smok"]) == 2
    assert "Did you mean 'smoke'?" in capsys.readouterr().err


def test_ui_binds_the_loopback_address() -> None:
    words = ui.command("sqlite:///a.db", 5001)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--backend-store-uri") + 1] == "sqlite:///a.db"


def test_doctor_tells_what_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    for words in (
        "torch",
        "AVX2",
        "ONNX Runtime",
        "threads",
        "target storage",
        "energy",
        "noise",
        "missing",
    ):
        assert words in told


def test_ray_gives_the_same_trials_with_every_view_attached(searched: Path, tmp_path: Path) -> None:
    words = ("search", "experiment=smoke", "engine=ray", "engine.workers=1")
    done = paredown(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fronts = [
        json.loads((folder / "outputs" / "smoke" / "front.json").read_text())
        for folder in (searched, tmp_path)
    ]
    ids = [[member["policy_id"] for member in front["members"]] for front in fronts]
    errors = [[m["search"]["error"]["value"] for m in front["members"]] for front in fronts]
    assert ids[0] == ids[1]
    assert errors[0] == errors[1]
