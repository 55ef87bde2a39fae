"""What distillation is for: on real digits, a thinner network recovers better with its teacher.

It is no law: where the original errs more itself (a 64-64-64-10 perceptron on the 8 x 8 pixels,
2.9 % wrong), the task's loss alone recovers more at as many epochs.
"""

from __future__ import annotations

from typing import Any

from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import Prune
from compressors.stack import Stack
from evaluation.tasks.digits_mlp import DigitsMLP


def test_a_half_as_wide_network_recovers_better_with_its_teacher_than_without() -> None:
    task = DigitsMLP()
    stack = Stack(task.model(), task)

    def error(**recovery: Any) -> float:
        found = 0.0
        for seed in range(3):
            settings = Recovery(epochs=3, learning_rate=2e-3, seed=seed, **recovery)
            policy = Policy((), (LayerPolicy("*", Prune(0.5)),), settings)
            found += task.quality(stack.apply(policy).module, "validation").value
        return found / 3

    alone = error(weight=0.0)
    assert error(weight=0.9) < 0.75 * alone
    assert error(weight=0.9, features=1.0) < 0.75 * alone
