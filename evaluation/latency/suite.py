"""The models that a correction is fitted on: three networks, each float, whole and in mixtures.

They are lowered by the target and timed as whole files, in turns, once for a machine, a runtime and
its settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compressors.errors import UserError
from compressors.policies.policy import Policy
from compressors.stack import Stack
from evaluation.latency.networks import NETWORKS
from evaluation.latency.sampled import sampled, uniform
from evaluation.target import FLOAT, INT8, Artifact, Target

MIXTURES = 3  # of each network, beside it in float and in integers


@contextmanager
def suite(target: Target) -> Iterator[list[Artifact]]:
    """Their files, which live as long as this is open."""
    with tempfile.TemporaryDirectory(prefix="paredown-suite-") as folder:
        yield [artifact for name in NETWORKS for artifact in _files(target, name, Path(folder))]


def _files(target: Target, name: str, folder: Path) -> Iterator[Artifact]:
    network = NETWORKS[name]
    data = network.data()
    stack = Stack(network.model(), data)
    structure, capability = stack.structure, target.capability
    policies: list[Policy] = [uniform(structure, FLOAT), uniform(structure, INT8)]
    policies += [sampled(structure, capability, seed) for seed in range(MIXTURES)]
    for number, policy in enumerate(policies):
        with suppress(UserError):  # what this target does not take
            compressed = stack.apply(policy)
            yield target.lower(compressed, data, folder / f"{name}-{number}{target.suffix}")
