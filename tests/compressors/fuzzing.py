"""Random policies on one architecture: each builds and runs, or is refused with a sentence."""

from __future__ import annotations

import os
from functools import cache
from itertools import islice

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from compressors.data import Batch, Data, Split
from compressors.errors import UserError
from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.recovery.divergence import RecoveryDiverged
from compressors.stack import Stack
from compressors.structures.tracing import tensors_in
from tests.compressors.architectures import build, data_for
from tests.compressors.random_policies import policies

EACH = int(os.environ.get("PAREDOWN_FUZZ", "120"))  # policies of an architecture


class Few:
    """The first batch of every split: random policies need to run, not to learn."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self.loss = data.loss

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> list[Batch]:
        return list(islice(self._data.batches(split, batch_size=8, seed=seed), 1))


@cache
def stack(name: str) -> Stack:
    return Stack(build(name), Few(data_for(name)))


def fuzz(name: str) -> None:
    """So many policies; at least a third of them are built."""
    built: list[str] = []

    @settings(
        max_examples=EACH,
        phases=[Phase.explicit, Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def one(data: st.DataObject) -> None:
        drawn = data.draw(policies(stack(name).structure))
        sentence = drawn if isinstance(drawn, str) else _outcome(name, drawn)
        if sentence is None:
            built.append(name)
        else:
            assert sentence.endswith("."), sentence
            assert len(sentence) > 20, sentence
            assert "\n" not in sentence

    one()
    assert len(built) >= EACH // 3


def _outcome(name: str, policy: Policy) -> str | None:
    """None where the policy was built and runs; else the sentence that refused it."""
    assert policy_yaml.load(policy_yaml.dump(policy)) == policy
    try:
        compressed = stack(name).apply(policy)
    except (UserError, RecoveryDiverged) as error:
        return str(error)
    with torch.no_grad():
        outputs = tensors_in(compressed.module(*compressed.example))
    assert all(output.isfinite().all() for output in outputs)
    return None
