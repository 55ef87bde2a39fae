"""OpenVINO's prices say how little its counter tells of what takes a microsecond."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.policies.policy import Policy
from compressors.stack import apply
from evaluation.measuring.operators import FLOOR, YARDSTICK
from evaluation.targets.openvino_cpu.target import OpenVinoCpu
from tests.evaluation.tiny import TinyTask

pytest.importorskip("openvino")
MICROSECOND = 1e-3


def test_a_price_has_room_for_what_the_counter_rounds_away(tmp_path: Path) -> None:
    task, target = TinyTask(), OpenVinoCpu(cache_dir=str(tmp_path))
    made = target.lower(apply(task.model(), Policy(), task), task, tmp_path / "m.xml")
    operators = target.files.operators(made.path)
    prices = target.files.prices(made.path, [o.key for o in operators], made.path)
    counted = [price for key, price in prices.items() if key not in (FLOOR, YARDSTICK)]
    assert len(counted) == len({o.key for o in operators})
    assert min(price.median_ms for price in counted) < MICROSECOND  # "not executed" it says
    assert min(price.spread_ms for price in counted) >= MICROSECOND
