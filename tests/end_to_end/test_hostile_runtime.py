"""A runtime that hangs, crashes or hoards on some files ends those trials, not the search.

The target is a user's own, in a folder outside the repository, with an opener of its own: in a
module of its own too, as each process that opens files imports it, and torch would take seconds.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from search.study.ledger import StudyRows
from search.study.reading import read_rows
from tests import in_process
from tests.conftest import Paredown
from tests.end_to_end.test_kill_and_resume import processes_of

OPENER = """
import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from evaluation.targets.ort_cpu.session import open_file


@dataclass(frozen=True)
class Opener:
    threads: int = 1

    def __call__(self, path):
        return Runner(open_file(path, 1), path.read_bytes())


class Runner:
    def __init__(self, session, content):
        self.session, self.content = session, content

    def run(self, *args):
        return self.session.run(*args)

    def call(self, batch):
        if b"goes: hang" in self.content:
            time.sleep(600)
        if b"goes: crash" in self.content:
            os.kill(os.getpid(), signal.SIGSEGV)
        if b"goes: hoard" in self.content:
            hoard = [np.ones(1 << 20) for _ in range(100)]
            time.sleep(600 + len(hoard))
        return self.session.call(batch)
"""
TARGET = """
from evaluation.measurement import LATENCY, Value
from evaluation.measuring.files import Files
from evaluation.target import FLOAT, INT8, Capability
from my_opener import Opener


class Hostile:
    name, suffix, tolerance, basis = "hostile", ".onnx", 0.02, "measured"
    capability = Capability({"linear": (FLOAT, INT8)})

    def __init__(self, timeout_s: float, memory_mb: int, cache_dir: str, late: bool = False):
        from evaluation.targets.ort_cpu.target import OrtCpu

        self.writer, self.late = OrtCpu(), late
        self.files = Files.of(
            self.name, Opener(), runtime="1", threads=1, batch=1, cache=cache_dir,
            timeout_s=timeout_s, memory_mb=memory_mb,
        )

    def lower(self, compressed, data, path):
        import onnx

        made = self.writer.lower(compressed, data, path)
        model = onnx.load(path)
        model.doc_string = "goes: " + fate(compressed.record.layers)
        onnx.save(model, path)
        return made

    def load(self, path):
        return self.files.load(path)

    def latency(self, artifact, reference):
        if self.late:  # not run before the end, as where latencies are predicted
            return Value(LATENCY, 1e6 / artifact.size_bytes, 0.0)  # so all are members
        return self.files.latency(artifact, reference)

    def compare(self, reference, candidates):
        return self.files.quickly([reference, *candidates])[1:]


def fate(layers):
    integers = any(layer.weight_bits for layer in layers)
    narrow = any(layer.removed_channels for layer in layers)
    if any(layer.rank for layer in layers):
        return "hang"
    return {(True, False): "crash", (False, True): "hoard"}.get((integers, narrow), "well")
"""
YAML = """name: hostile
_target_: my_runtime.Hostile
timeout_s: 10
memory_mb: 400
cache_dir: cache
"""
WORDS = (
    *("search", "--config-dir", "conf", "target=hostile", "task=digits_mlp", "task.epochs=5"),
    *("space.recovery.epochs=[0]", "tracking=none", "study.name=own", "sampler=random"),
    "objectives=[quality,latency_ms]",
)
REASONS = {
    "int8": "MeasurementError: The runtime crashed (SIGSEGV) timing",
    "half width": "MB of memory timing",
    "half rank": "The runtime gave no answer within",
}


def written(folder: Path) -> None:
    (folder / "my_opener.py").write_text(OPENER)
    (folder / "my_runtime.py").write_text(TARGET)
    (folder / "conf" / "target").mkdir(parents=True)
    (folder / "conf" / "target" / "hostile.yaml").write_text(YAML)


def rows(folder: Path) -> StudyRows:
    return read_rows(f"sqlite:///{folder / 'outputs' / 'own' / 'study.db'}", "own")


def test_failed_trials_say_why_and_the_search_ends_and_goes_on(
    tmp_path: Path, paredown: Paredown, hasty: None
) -> None:
    written(tmp_path)
    environment = {**os.environ, "PAREDOWN_TEST_STUDY": str(tmp_path)}

    done = paredown(*WORDS, "engine.workers=1", "budget.trials=5", env=environment)
    assert done.returncode == 0, done.stderr
    told = rows(tmp_path).trials
    assert {row.baseline: row.state for row in told} == {
        **dict.fromkeys(REASONS, "failed"),
        **dict.fromkeys(("fp32", "half width, int8"), "complete"),
    }
    for row in told:
        assert REASONS.get(row.baseline or "", "") in (row.reason or "")
        if row.baseline in REASONS:
            assert f"trials/{row.number}.onnx" in (row.reason or "")
    nobody_is_left(tmp_path)

    again = in_process.paredown(*WORDS, "budget.trials=6", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert rows(tmp_path).trials[:5] == told
    assert len(rows(tmp_path).trials) == 6


def test_members_that_stop_the_runtime_in_the_end_cost_their_own_figures_alone(
    tmp_path: Path, hasty: None
) -> None:
    written(tmp_path)
    words = ("+target.late=true", "objectives=[size_bytes,latency_ms]")
    done = in_process.paredown(*WORDS, *words, "budget.trials=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row.baseline: row.state for row in rows(tmp_path).trials} == dict.fromkeys(
        ("fp32", "int8", "half width"), "complete"
    )
    members = front(tmp_path)["members"]
    assert len(members) == 3
    for member in members:
        reason = REASONS.get(member["baseline_name"], "").removeprefix("MeasurementError: ")
        assert reason in (member["unmeasured"] or "")
        assert bool(member["unmeasured"]) is bool(reason)
        assert ("speedup" in member["exported"]) is not bool(reason)
        told = f"The exported file of trial {member['trial']} could not be measured"
        assert (told in " ".join(done.stdout.split())) is bool(reason)
    before = front(tmp_path)
    again = in_process.paredown("front", "own", cwd=tmp_path)  # tries nothing again, unless asked
    assert again.returncode == 0, again.stderr
    assert front(tmp_path)["members"] == before["members"]


def front(folder: Path) -> dict:
    found: dict = json.loads((folder / "outputs" / "own" / "front.json").read_text())
    return found


def nobody_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 25  # a child that was left ends itself after 40
    while processes_of(folder):
        if time.monotonic() > deadline:
            pytest.fail(f"processes are left: {processes_of(folder)}")
        time.sleep(0.1)
