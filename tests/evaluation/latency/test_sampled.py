"""The policies that a model's correction is fitted on differ, and each changes something."""

from __future__ import annotations

import torch
from torch import nn

from compressors.policies.policy import Policy
from compressors.structures.inspection import inspect_model
from evaluation.latency.sampled import samples, uniform
from evaluation.target import INT8
from evaluation.targets.ort_cpu.target import OrtCpu


def test_of_a_small_model_none_comes_twice_and_none_is_empty() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    structure = inspect_model(model, (torch.zeros(1, 8),))
    drawn = list(samples(structure, OrtCpu().capability, 36))
    assert drawn[0] == uniform(structure, INT8)
    assert Policy() not in drawn
    assert 4 < len(drawn) == len(set(drawn))
