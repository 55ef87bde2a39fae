"""The dispatch floor is what an almost empty model takes, measured once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressors.policies.policy import Policy
from compressors.stack import apply
from evaluation.measuring.files import Files
from evaluation.measuring.floor import dispatch_floor
from evaluation.targets.ort_cpu.target import OrtCpu
from tests.evaluation.tiny import TinyTask


def test_nothing_gets_below_the_floor_and_it_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = OrtCpu(cache_dir=str(tmp_path / "cache"))
    state = torch.random.get_rng_state()
    floor = dispatch_floor(target)
    assert torch.equal(torch.random.get_rng_state(), state)
    task = TinyTask(width=64)
    real = target.lower(apply(task.model(), Policy(), task), task, tmp_path / "real.onnx")
    assert 0 < floor.value < target.latency(real, real).value
    monkeypatch.delattr(Files, "_measure")
    assert dispatch_floor(target) == floor
