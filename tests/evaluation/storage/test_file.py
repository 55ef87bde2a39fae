"""The file: nothing in it twice, loading runs no code, damage is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.stack import apply
from evaluation.targets.storage.storage import Storage
from tests.evaluation.test_integer_kernels import Given, seeded
from tests.evaluation.tiny import LAYERS, TinyTask


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = TinyTask()
    entries = tuple(LayerPolicy(name, quantize=Quantize(4, None)) for name in LAYERS)
    folder = tmp_path_factory.mktemp("whole")
    compressed = apply(task.model(), Policy(layers=entries), task)
    return Storage(cache_dir=str(folder)).lower(compressed, task, folder / "m.safetensors").path


def refused(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    with pytest.raises(UserError) as found:
        Storage().load(path)
    return str(found.value)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_one_sentence(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    said = refused(bytes(content), tmp_path / "m.safetensors")
    assert said.startswith("The storage target cannot load")
    assert "\n" not in said


def test_a_file_of_another_kind_or_version_is_told(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"w": np.zeros(3, np.float32)}, path)
    assert "cannot load" in refused(path.read_bytes(), path)
    newer = whole.read_bytes().replace(b'\\"version\\":1', b'\\"version\\":2')
    assert "its version is 2" in refused(newer, path)


def test_the_tensors_are_told_by_safetensors_alone(whole: Path) -> None:
    with safe_open(whole, "numpy") as file:
        assert set(file.keys()) == {"graph", "packed", "floats"}
        stored = sum(
            (weight.numel() * 4 + 7) // 8
            for name, weight in TinyTask().model().named_parameters()
            if name.removesuffix(".weight") in LAYERS
        )
        assert file.get_tensor("packed").nbytes == stored


class Tied(nn.Module):
    """A table that is read as the last layer's weight too, on three dimensions."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 24)
        self.head = nn.Linear(24, 50, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.tanh(self.table(x)))
        return scores


@pytest.mark.parametrize("bits", [None, 8, 3])
def test_a_weight_in_common_is_stored_once(bits: int | None, tmp_path: Path) -> None:
    sizes = []
    for tied in (True, False):
        given_ = Given(seeded(Tied(tied)), (7,))
        given_.inputs = (given_.inputs.abs() * 10).long()
        step = Quantize(bits, None) if bits else None
        layers = tuple(LayerPolicy(name, quantize=step) for name in ("table", "head"))
        compressed = apply(given_.model(), Policy(layers=layers if bits else ()), given_)
        target = Storage(cache_dir=str(tmp_path))
        artifact = target.lower(compressed, given_, tmp_path / "m.safetensors")
        with torch.no_grad():
            simulated = compressed.module(given_.inputs)
        assert torch.allclose(target.load(artifact.path)(given_.inputs), simulated, atol=1e-5)
        sizes.append(artifact.size_bytes)
    assert sizes[1] - sizes[0] >= 50 * 24 * (bits or 32) / 8
