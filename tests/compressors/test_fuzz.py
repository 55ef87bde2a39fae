"""Six hundred random policies over five architectures, in two files that run side by side.

PAREDOWN_FUZZ=400 draws two thousand.
"""

from __future__ import annotations

import pytest

from tests.compressors.fuzzing import fuzz


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_random_policies_run_or_are_refused(name: str) -> None:
    fuzz(name)
