"""Studies as rows, with figures from a small cost model, for tests of the views."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from compressors.policies import policy_yaml
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import LowRank, Prune, Quantize
from evaluation.measurement import (
    COSTS,
    ERROR,
    LATENCY,
    P95,
    P99,
    PEAK_MEMORY,
    SIZE,
    THROUGHPUT,
    Measurement,
    Metric,
    Value,
)
from search.front.front_files import Validation
from search.front.timekeeping import Timekeeping
from search.front.validate import P50, SPEEDUP
from search.study.ledger import Objective, StudyRows, TrialRow

START = datetime(2026, 3, 1, 18, 0)
BLOCKS = [f"layer{s}.{b}" for s in (1, 2, 3) for b in (0, 1, 2)]
LAYERS = (
    {"conv1": (3, 16)}
    | {f"{block}.conv{c}": (16 * 2 ** (int(block[5]) - 1),) * 2 for block in BLOCKS for c in (1, 2)}
    | {"fc": (64, 10)}
)
OBJECTIVES = tuple(Objective(m.name, m.unit, m.direction) for m in (ERROR, LATENCY, SIZE))
IDENTITY = Policy()
INT8 = Policy(layers=tuple(LayerPolicy(n, quantize=Quantize(8, 8)) for n in LAYERS))
HALF = Policy(
    layers=tuple(LayerPolicy(n, prune=Prune(0.5)) for n in LAYERS if n != "fc"),
    recovery=Recovery(epochs=12),
)


def random_policy(rng: random.Random) -> Policy:
    removable = [block for block in BLOCKS if not block.endswith(".0")]
    remove = tuple(block for block in removable if rng.random() < 0.4)
    kept = [n for n in LAYERS if not n.startswith(tuple(f"{block}." for block in remove))]
    layers = tuple(
        LayerPolicy(
            name,
            prune=Prune(rng.choice([0.25, 0.5])) if rng.random() < 0.3 and name != "fc" else None,
            lowrank=LowRank(0.5) if rng.random() < 0.15 else None,
            quantize=Quantize(8, 8) if rng.random() < 0.8 else None,
        )
        for name in kept
    )
    return Policy(remove=remove, layers=layers, recovery=Recovery(epochs=rng.choice([4, 8, 12])))


def record(policy: Policy) -> dict:
    layers = []
    for name, (wide_in, wide_out) in LAYERS.items():
        if name.startswith(tuple(f"{block}." for block in policy.remove)):
            continue
        steps = policy.layer(name)
        out = round(wide_out * (1 - (steps.prune.channels if steps.prune else 0)))
        area = 1 if name == "fc" else 9
        common = {
            "source": name,
            "kind": "linear" if name == "fc" else "conv2d",
            "in_channels": wide_in,
            "weight_bits": steps.quantize.weights if steps.quantize else None,
            "activation_bits": steps.quantize.activations if steps.quantize else None,
            "removed_channels": wide_out - out,
        }
        if steps.lowrank:
            rank = max(1, wide_out // 2)
            halves = ((".0", rank, wide_in * rank * area), (".1", out, rank * out))
            for end, channels, parameters in halves:
                more = {"out_channels": channels, "parameters": parameters, "rank": rank}
                layers.append({**common, **more, "name": name + end})
        else:
            parameters = wide_in * out * area
            more = {"out_channels": out, "parameters": parameters, "rank": None}
            layers.append({**common, **more, "name": name})
    return {
        "policy_id": policy_yaml.policy_id(policy),
        "parameters": sum(layer["parameters"] for layer in layers),
        "layers": layers,
        "removed_blocks": list(policy.remove),
        "recovery": {"epochs": policy.recovery.epochs, "losses": []},
        "notes": [],
    }


def measure(policy: Policy, rng: random.Random) -> Measurement:
    done = record(policy)
    bits = sum(layer["parameters"] * (layer["weight_bits"] or 32) for layer in done["layers"])
    size = bits / 8 + 9_000
    latency = 0.06 + 2.1e-6 * sum(
        layer["parameters"] * (0.4 if layer["weight_bits"] else 1) for layer in done["layers"]
    )
    cut = 1 - done["parameters"] / 291_376
    harm = 0.07 * cut**3 * (1.6 - 0.08 * policy.recovery.epochs) * rng.uniform(0.5, 1.6)
    harm += 0.004 * rng.random() * any(layer["weight_bits"] for layer in done["layers"])
    error = round(300 * (0.0067 + max(0.0, harm))) / 300
    spread = {"error": 0.007, "latency_ms": 0.01 * latency}
    values = {
        "error": error,
        "latency_ms": latency,
        "size_bytes": size,
        "parameters": done["parameters"],
        "macs": done["parameters"] * 150,
        "bit_operations": bits * 150 * 32,
        "activation_bytes": 196_608,
        "energy_uj": bits * 3e-5,
    }
    return Measurement(
        tuple(Value(m, float(values[m.name]), spread.get(m.name)) for m in (ERROR, *COSTS))
    )


def row(number: int, policy: Policy, rng: random.Random, baseline: str | None = None) -> TrialRow:
    measured = measure(policy, rng)
    started = START + timedelta(seconds=9 * number)
    return TrialRow(
        number=number,
        state="complete",
        params={f"{layer.name}/bits": "w8a8" for layer in policy.layers if layer.quantize}
        | {"recovery/epochs": policy.recovery.epochs},
        baseline=baseline,
        policy=policy_yaml.dump(policy),
        policy_id=policy_yaml.policy_id(policy),
        values=tuple(measured[o.name].value for o in OBJECTIVES),
        measurement=measured,
        record=record(policy),
        artifact=f"trials/{number}.onnx",
        seconds=8.0 + rng.random(),
        evaluations=1.0 + policy.recovery.epochs,
        feasible=True,
        reason=None,
        started=started,
        finished=started + timedelta(seconds=9),
        phase=None if baseline else "refine",
        predicted={} if baseline else {v.metric.name: 1.1 * v.value for v in measured.values[:2]},
    )


def failed(number: int, reason: str = "Recovery diverged: the loss became NaN.") -> TrialRow:
    started = START + timedelta(seconds=9 * number)
    return TrialRow(
        number=number,
        state="failed",
        params={"recovery/epochs": 4},
        baseline=None,
        policy=None,
        policy_id=None,
        values=None,
        measurement=None,
        record=None,
        artifact=None,
        seconds=3.0,
        evaluations=0.5,
        feasible=True,
        reason=reason,
        started=started,
        finished=started + timedelta(seconds=3),
    )


def study(trials: int = 40, seed: int = 0) -> StudyRows:
    rng = random.Random(seed)
    rows = [
        row(0, IDENTITY, rng, "fp32"),
        row(1, INT8, rng, "int8"),
        row(2, HALF, rng, "half width"),
    ][:trials]
    while len(rows) < trials:
        number = len(rows)
        rows.append(failed(number) if number % 17 == 9 else row(number, random_policy(rng), rng))
    return StudyRows(
        name="digits_resnet20-ort_cpu-nsga2",
        task="digits_resnet20",
        target="ort_cpu",
        objectives=OBJECTIVES,
        reference=rows[0].measurement,
        trials=tuple(rows),
    )


def validation(members: list[TrialRow], reference: TrialRow, seed: int = 0) -> Validation:
    """Exported figures as if the files had been measured."""
    rng = random.Random(seed)
    test_error = Metric("test_error", "fraction", "minimize")
    base = reference.measurement
    assert base is not None

    def exported(of: TrialRow) -> Measurement:
        found = of.measurement
        assert found is not None
        error = max(0.0, found["error"].value + rng.choice([-1, 0, 0, 0, 1]) / 300)
        latency = found["latency_ms"].value * rng.uniform(0.96, 1.05)
        speedup = base["latency_ms"].value / latency
        return Measurement(
            (
                Value(ERROR, error, 0.007),
                Value(test_error, error + rng.choice([0, 0.0025, 0.005]), 0.006),
                Value(LATENCY, latency, 0.01 * latency),
                Value(SIZE, found["size_bytes"].value),
                Value(SPEEDUP, speedup, 0.02 * speedup),
                Value(P50, 1.001 * latency),
                Value(P95, 1.04 * latency),
                Value(P99, 1.2 * latency),
                Value(THROUGHPUT, 1000 / latency),
                Value(PEAK_MEMORY, 3.1e6 + found["size_bytes"].value),
            )
        )

    noisy = frozenset(m.policy_id or "" for m in members[:1])
    timing = Timekeeping("measured", None, Value(LATENCY, 0.05, 0.001), noisy)
    exports = {m.policy_id or "": exported(m) for m in members}
    return Validation(exports, exported(reference), timing)


def untimed(found: Validation, reason: str = "no TensorRT is installed here") -> Validation:
    """The same figures from a target that cannot time."""

    def without(measured: Measurement) -> Measurement:
        kept = [v for v in measured.values if v.metric.name.startswith(("err", "test", "size"))]
        return Measurement(tuple(kept))

    members = {policy: without(measured) for policy, measured in found.members.items()}
    assert found.reference is not None
    return Validation(members, without(found.reference), Timekeeping("measured", reason))
