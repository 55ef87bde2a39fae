"""The README's own target, from a folder outside the repository; and classes that are no target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.cli.main import main
from tests.end_to_end.test_readme import blocks, commands
from tests.in_process import paredown

CODE = next(block for block in blocks("python") if "Capability(" in block)
YAML = next(block for block in blocks("yaml") if "my_target" in block)
WORDS = next(words[1:] for words in commands() if "target=mine" in words)
FEW = (
    *("task.epochs=5", "space.recovery.epochs=[0]", "tracking=none", "study.name=own"),
    *("budget.trials=5", "sampler=random"),
)


def written(folder: Path, code: str, yaml: str, module: str = "my_target") -> None:
    (folder / f"{module}.py").write_text(code)
    (folder / "conf" / "target").mkdir(parents=True)
    (folder / "conf" / "target" / "mine.yaml").write_text(yaml.replace("my_target", module))


def test_it_is_searched_exported_and_verified(tmp_path: Path) -> None:
    written(tmp_path, CODE, YAML)
    done = paredown(*WORDS, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    front = json.loads((tmp_path / "outputs" / "own" / "front.json").read_text())
    assert front["target"] == "mine"
    assert front["trials"] == {"complete": 5, "failed": 0, "stopped_early": 0}
    for member in front["members"]:
        exported, searched = (
            member[kind]["latency_ms"]["value"] for kind in ("exported", "search")
        )
        assert exported == searched > 0  # computed from the file, and from the file again
    assert paredown("export", "own", cwd=tmp_path).returncode == 0
    assert paredown("verify", "own", cwd=tmp_path).returncode == 0
    (exported_folder,) = (tmp_path / "outputs" / "own" / "export").iterdir()
    assert (exported_folder / "model.safetensors").is_file()


NO_TARGETS = {
    "class that is not there": (CODE.replace("class Mine", "class Mien"), "Did you mean 'Mien'?"),
    "method that is not there": (
        CODE.replace("def compare(", "def compares("),
        "Mine has no compare; a target has name, suffix, tolerance, basis, capability, and the "
        "methods lower, load, latency, compare.",
    ),
    "method that is none": (f"{CODE}\n    load = 'later'\n", "Mine has no load; a target has"),
    "fact that is not there": (CODE.replace("tolerance =", "tolerant ="), "Mine has no tolerance"),
    "capability that is none": (
        CODE.replace("capability = Capability", "capability = str"),
        "valid: an evaluation.target.Capability",
    ),
    "suffix without its dot": (CODE.replace('".safetensors"', '"bin"'), "valid: such as .bin"),
    "basis that is none": (CODE.replace('"computed"', '"guessed"'), "valid: measured, computed"),
}


@pytest.mark.parametrize("case", NO_TARGETS)
def test_what_a_class_lacks_is_told_in_a_sentence_before_any_trial(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, says = NO_TARGETS[case]
    assert code != CODE
    written(tmp_path, code, YAML, module=f"own_{case.replace(' ', '_')}")
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, *FEW]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("paredown: ")
    assert says in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()
