"""The dispatch floor is what an almost empty model takes beside other files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressors.errors import UserError
from compressors.policies.policy import Policy
from compressors.stack import apply
from evaluation.measuring.floor import floor_file
from evaluation.targets.ort_cpu.target import OrtCpu
from tests.evaluation.tiny import TinyTask


def test_nothing_gets_below_the_floor(tmp_path: Path) -> None:
    target = OrtCpu(cache_dir=str(tmp_path / "cache"))
    state = torch.random.get_rng_state()
    floor = floor_file(target, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    task = TinyTask(width=64)
    real = target.lower(apply(task.model(), Policy(), task), task, tmp_path / "real.onnx")
    assert floor is not None
    [timing] = target.compare(real.path, [floor])
    assert timing.speedup > 1


def test_a_target_that_takes_no_such_model_has_no_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise UserError("No such model here.")

    monkeypatch.setattr(OrtCpu, "lower", refused)
    assert floor_file(OrtCpu(cache_dir=str(tmp_path)), tmp_path) is None
