"""Bad inputs: each is one clear sentence, exit code 2, no traceback, and nothing is written over.

Where a sentence could name the valid choice or the nearest one, the test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search.cli.main import main
from tests import in_process

MLP = ("search", "task=digits_mlp", "task.epochs=1", "tracking=none")
TASK = "name: mine\n_target_: my_task.Mine\n"
POLICY = "version: 1\nlayers:\n  fc1:\n"

SEARCH = {
    "misspelt command": (("serch",), "Did you mean 'search'?"),
    "misspelt group": (("search", "tsk=digits_mlp"), "Did you mean 'task'?"),
    "misspelt choice": (("search", "task=digits_mpl"), "Did you mean 'digits_mlp'?"),
    "misspelt sampler": (("search", "sampler=nsga"), "nsga2"),
    "misspelt key": (("search", "budget.trails=3"), "Did you mean 'budget.trials'?"),
    "misspelt constraint": (("search", "constraints.size=9"), "size_bytes"),
    "added key nobody knows": (("search", "+fast=true"), "Unknown key 'fast'"),
    "not an override": (("search", "budget.trials"), "write key=value"),
    "unbalanced override": (("search", "space.prune.choices=[0.5"), "write key=value"),
    "sweep without multirun": (("search", "sampler=tpe,random"), "--multirun"),
    "negative trials": (("search", "budget.trials=-1"), "a whole number from 1"),
    "trials in words": (("search", "budget.trials=ten"), "a whole number"),
    "no time at all": (("search", "budget.hours=0"), "above 0"),
    "negative seed": (("search", "seed=-1"), "0 to 4294967295"),
    "negative drop": (("search", "constraints.error_drop=-0.1"), "0 or more"),
    "no such objective": (("search", "objectives=[speed]"), "latency_ms"),
    "no objective": (("search", "objectives=[]"), "objectives"),
    "study name with a slash": (("search", "study.name=../over"), "letters, digits"),
    "threads in words": ((*MLP, "target.threads=two"), "a whole number"),
    "no threads": ((*MLP, "target.threads=0"), "threads"),
    "argument nobody takes": ((*MLP, "+task.epcohs=1"), "Did you mean 'epochs'?"),
    "no workers": ((*MLP, "engine.workers=0"), "workers"),
    "unknown layer": ((*MLP, "space.quantize.include=[fc9]"), "fc1, fc2"),
    "bits without a kernel": ((*MLP, "space.quantize.choices=[w4a4]"), "w8a8"),
    "zero bits in the space": ((*MLP, "space.quantize.choices=[w0a8]"), "valid: 1, 2, 3, 4"),
    "key nobody knows in a choice": (
        (*MLP, "space.quantize.choices=[float,{weights:8,bits:8}]"),
        "Unknown key of space.quantize.choices 'bits'",
    ),
    "format that has no such bits": (
        (*MLP, "space.quantize.choices=[{weights:3,function:ternary}]"),
        "space.quantize.choices: quantize.weights cannot be 3 with function ternary; valid: 2 bits",
    ),
    "format without a kernel": (
        (*MLP, "space.quantize.choices=[{weights:8,activations:8,function:kmeans}]"),
        "with function kmeans at 8 bits; valid there: symmetric",
    ),
    "form for another kind of layer": (
        (*MLP, "space.lowrank.choices=[1,{energy:0.9,form:spatial}]"),
        "cannot hold 'energy=0.9 spatial': 'fc1' cannot take it: form spatial is for a conv2d",
    ),
    "zeros without a kernel": ((*MLP, "space.sparsify.choices=[0,'2:4']"), "such as storage"),
    "pattern that lost its quotes": ((*MLP, "space.sparsify.choices=[0,124]"), "'2:4'"),
    "nested list in a choice": ((*MLP, "space.prune.choices=[{channels:[0.5]}]"), "space.prune"),
    "no round": ((*MLP, "space.rounds.count=0"), "rounds.count cannot be 0; valid: a whole number"),
    "scales in other words": (
        (*MLP, "space.recovery.scales=[lerned]"),
        "statistics, fixed, learned",
    ),
    "everything pruned": ((*MLP, "space.prune.choices=[0.0,1.0]"), "0 <= share < 1"),
    "rank 0": ((*MLP, "space.lowrank.choices=[0]"), "0 < share <= 1"),
    "negative epochs": ((*MLP, "space.recovery.epochs=[-1]"), "a whole number from 0"),
    "nonsense storage": ((*MLP, "storage=nonsense"), "a database URL"),
    "storage without a folder": ((*MLP, "storage=sqlite:///no/such/folder/a.db"), "folder"),
    "output folder that is a file": ((*MLP, "output_dir=kept.txt"), "output_dir"),
    "missing config folder": (("search", "--config-dir", "nowhere", "task=mine"), "--config-dir"),
}

OWN_TASK = {
    "truncated YAML": ("name: mine\nargs: [1, 2\n", "line"),
    "YAML with a python tag": ("name: !!python/object/apply:os.system ['touch hacked']\n", "tag"),
    "no class": ("name: mine\n", "task._target_"),
    "module that is not there": ("name: mine\n_target_: my_tsk.Mine\n", "'my_tsk' is not found"),
    "class that is not there": ("name: mine\n_target_: my_task.Mein\n", "Did you mean 'Mine'?"),
    "argument that is not there": (f"{TASK}checkpoit: a.pt\n", "Did you mean 'checkpoint'?"),
    "argument of another type": (f"{TASK}checkpoint: 3\n", "task.checkpoint cannot be 3"),
    "missing argument": (TASK, "needs a value for checkpoint"),
    "missing checkpoint": (f"{TASK}checkpoint: missing.pt\n", "missing.pt"),
    "value left open": (f"{TASK}checkpoint: ???\n", "task.checkpoint"),
    "dangling interpolation": (f"{TASK}checkpoint: ${{nowhere}}\n", "nowhere"),
}

POLICIES = {
    "truncated policy": (f"{POLICY}    prune: {{channels: 0.5", "line"),
    "policy with a python tag": ("version: !!python/name:os.system\n", "line"),
    "policy of another version": ("version: 9\n", "version"),
    "key nobody knows": (f"{POLICY}    prun: {{channels: 0.5}}\n", "prune"),
    "layer nobody knows": ("version: 1\nlayers: {fc9: {prune: {channels: 0.5}}}\n", "fc"),
    "key written twice": ("version: 1\nversion: 1\n", "version"),
    "0-bit weight": (f"{POLICY}    quantize: {{weights: 0, activations: 8}}\n", "2, 3, 4"),
    "bits in words": (f"{POLICY}    quantize: {{weights: eight, activations: 8}}\n", "2, 3, 4"),
    "sparsity 1.0": (f"{POLICY}    prune: {{channels: 1.0}}\n", "share < 1"),
    "rank 0 in a policy": (f"{POLICY}    lowrank: {{ratio: 0}}\n", "0 < share"),
    "block nobody knows": ("version: 1\nremove: [layer9]\n", "layer9"),
    "empty policy file": ("", "policy"),
}

STUDIES = {
    "study that is not there": (("front", "nope"), "nope"),
    "folder that is no study": (("report", "."), "config.yaml"),
    "no study at all": (("verify",), "paredown search"),
    "policy that is not there": (("apply", "nope.yaml", "task=digits_mlp"), "nope.yaml"),
    "apply with a misspelt key": (("apply", "p.yaml", "targt=ort_cpu"), "Did you mean 'target'?"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, with a file that must stay as it is."""
    (tmp_path / "kept.txt").write_text("mine")
    (tmp_path / "my_task.py").write_text(
        "class Mine:\n    def __init__(self, checkpoint: str) -> None:\n        open(checkpoint)\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


Refused = Callable[..., str]


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs words that must be refused; gives the sentence."""

    def check(*words: str) -> str:
        before = _files(folder)
        with in_process.inside(folder):
            assert main(words) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith("paredown: ")
        assert len(said.splitlines()) == 1, said
        assert "Traceback" not in said
        after = _files(folder)
        assert {name: after.get(name) for name in before} == before
        return said

    return check


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module", autouse=True)
def trained() -> None:
    """The model is there, so that nothing but the sentence is said."""
    from evaluation.tasks.digits_mlp import DigitsMLP

    DigitsMLP(epochs=1).model()


@pytest.mark.parametrize("case", SEARCH)
def test_a_bad_search(case: str, refused: Refused, folder: Path) -> None:
    words, expected = SEARCH[case]
    assert expected in refused(*words)
    assert not (folder / "outputs").exists() or "storage" in case


@pytest.mark.parametrize("case", OWN_TASK)
def test_a_bad_task_of_one_s_own(case: str, refused: Refused, folder: Path) -> None:
    text, expected = OWN_TASK[case]
    (folder / "conf" / "task").mkdir(parents=True)
    (folder / "conf" / "task" / "mine.yaml").write_text(text)
    assert expected in refused("search", "--config-dir", "conf", "task=mine")
    assert not (folder / "hacked").exists()
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("case", POLICIES)
def test_a_bad_policy(case: str, refused: Refused, folder: Path) -> None:
    text, expected = POLICIES[case]
    (folder / "policy.yaml").write_text(text)
    out = folder / "out"
    words = ("apply", "policy.yaml", "task=digits_mlp", "task.epochs=1", "--out", str(out))
    said = refused(*words)
    assert expected in said
    assert not list(out.rglob("*"))


@pytest.mark.parametrize("case", STUDIES)
def test_a_bad_study(case: str, refused: Refused) -> None:
    words, expected = STUDIES[case]
    assert expected in refused(*words)


def test_there_are_thirty_and_more() -> None:
    assert len(SEARCH) + len(OWN_TASK) + len(POLICIES) + len(STUDIES) >= 30
