"""Two thousand random policies over five architectures, in two files that run side by side."""

from __future__ import annotations

import pytest

from tests.compressors.fuzzing import fuzz


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_random_policies_run_or_are_refused(name: str) -> None:
    fuzz(name)
