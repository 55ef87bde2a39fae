"""A runtime that hangs, crashes or hoards on some files ends those trials, not the search.

The target is a user's own, in a folder outside the repository, with an opener of its own: in a
module of its own too, as each process that opens files imports it, and torch would take seconds.
"""

from __future__ import annotations

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
from evaluation.measuring.files import Files
from evaluation.target import FLOAT, INT8, Capability
from my_opener import Opener


class Hostile:
    name, suffix, tolerance, basis = "hostile", ".onnx", 0.02, "measured"
    capability = Capability({"linear": (FLOAT, INT8)})

    def __init__(self, timeout_s: float, memory_mb: int, cache_dir: str):
        from evaluation.targets.ort_cpu.target import OrtCpu

        self.writer = OrtCpu()
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


def rows(folder: Path) -> StudyRows:
    return read_rows(f"sqlite:///{folder / 'outputs' / 'own' / 'study.db'}", "own")


def test_failed_trials_say_why_and_the_search_ends_and_goes_on(
    tmp_path: Path, paredown: Paredown, hasty: None
) -> None:
    (tmp_path / "my_opener.py").write_text(OPENER)
    (tmp_path / "my_runtime.py").write_text(TARGET)
    (tmp_path / "conf" / "target").mkdir(parents=True)
    (tmp_path / "conf" / "target" / "hostile.yaml").write_text(YAML)
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


def nobody_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 25  # a child that was left ends itself after 40
    while processes_of(folder):
        if time.monotonic() > deadline:
            pytest.fail(f"processes are left: {processes_of(folder)}")
        time.sleep(0.1)
