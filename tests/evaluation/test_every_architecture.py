"""Every kind of layer and every family of model is exported, in every precision of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressors.record import CompressedModel, Record
from evaluation.target import Target
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage
from tests.compressors.architectures import ARCHITECTURES, build, data_for, example_for

TARGETS = {"ort_cpu": OrtCpu, "storage": Storage}


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    made: Target = TARGETS[request.param](cache_dir=str(tmp_path))
    return made


def departure(target: Target, compressed: CompressedModel, name: str, path: Path) -> float:
    """The largest difference of the file from the module, as a share of the outputs' range."""
    dtype = next(compressed.module.parameters()).dtype
    data = data_for(name, dtype)
    artifact = target.lower(compressed, data, path)
    args = next(iter(data.batches("test"))).args
    with torch.no_grad():
        simulated = compressed.module.eval()(*args).float()
    exported = target.load(artifact.path)(*args)
    assert exported.shape == simulated.shape
    return float((exported - simulated).abs().max() / simulated.abs().max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_float_models_answer_as_torch_does(target: Target, name: str, tmp_path: Path) -> None:
    plain = CompressedModel(build(name), Record("", 0, ()), example_for(name))
    assert departure(target, plain, name, tmp_path / "m") < 1e-5


@pytest.mark.parametrize(("dtype", "share"), [(torch.float64, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("name", ["plain", "transformer", "tied", "decoder"])
def test_models_of_other_types_are_float_in_the_file(
    target: Target, name: str, dtype: torch.dtype, share: float, tmp_path: Path
) -> None:
    plain = CompressedModel(build(name, dtype), Record("", 0, ()), example_for(name, dtype))
    assert departure(target, plain, name, tmp_path / "m") < share
    assert next(plain.module.parameters()).dtype == dtype
