"""`paredown doctor`: what this machine is, and whether its timings can be trusted."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from search.cli.commands import doctor_targets

NEEDED = (
    *("torch", "torch-pruning", "onnx", "onnxscript", "onnxruntime", "optuna", "ray", "mlflow"),
    *("hydra-core", "numpy", "scikit-learn"),
)
OPTIONAL = ("openvino", "torchao", "psycopg2-binary")
FEATURES = {
    "AVX2": ("avx2",),
    "AVX512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AMX": ("amx_int8",),
    "NEON dot": ("asimddp",),
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
FINE, TOO_NOISY = 0.02, 0.10


def arguments(parser: argparse.ArgumentParser) -> None:
    """None yet."""
    parser.description = "Tell versions, CPU, targets, threads and measurement noise."


def run(_: argparse.Namespace) -> int:
    """Print a table; 1 where something that a search needs is missing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    missing = _missing()
    for name, words in (
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("system", platform.platform()),
        ("versions", ", ".join(_versions())),
        ("processor", f"{_processor()}, {_usable()} of {os.cpu_count()} CPUs usable"),
        ("CPU features", _features()),
        ("runtimes", _runtimes()),
        *((f"target {target}", words) for target, words in doctor_targets.targets()),
        ("energy counters", doctor_targets.energy()),
        ("accelerators", _accelerators()),
        ("threads", _threads()),
        ("cache", _cache()),
        ("noise", _noise()),
        ("missing", ", ".join(missing) or "nothing"),
    ):
        table.add_row(name, escape(words))
    Console().print(table)
    return 1 if missing else 0


def _versions() -> Iterable[str]:
    for name in ("paredown", *NEEDED, *OPTIONAL):
        found = doctor_targets.installed(name)
        if found:
            yield f"{name} {found}"


def _missing() -> list[str]:
    return [name for name in NEEDED if doctor_targets.installed(name) is None]


def _cpuinfo(keys: Iterable[str]) -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def _processor() -> str:
    return _cpuinfo(("model name", "Model")) or platform.processor() or platform.machine()


def _usable() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _features() -> str:
    flags = set(_cpuinfo(("flags", "Features")).split())
    if not flags:
        return "unknown on this system"
    found = [
        f"{name} {'yes' if flags & set(any_of) else 'no'}" for name, any_of in FEATURES.items()
    ]
    advice = (
        ""
        if flags & {*FEATURES["VNNI"], *FEATURES["AMX"], *FEATURES["NEON dot"]}
        else ("; no dot-product instructions: int8 gains less than it could")
    )
    return ", ".join(found) + advice


def _runtimes() -> str:
    found = []
    if doctor_targets.installed("onnxruntime"):
        import onnxruntime  # type: ignore[import-untyped]

        found.append(f"ONNX Runtime ({', '.join(onnxruntime.get_available_providers())})")
    found += [
        label
        for label, name in (("OpenVINO", "openvino"), ("torchao", "torchao"))
        if doctor_targets.installed(name)
    ]
    return ", ".join(found) or "none"


def _accelerators() -> str:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names) or "none that torch can use"


def _threads() -> str:
    import torch

    given = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    return f"torch {torch.get_num_threads()} here ({', '.join(given) or 'no variables set'}); " + (
        "a search pins its workers to target.threads"
    )


def _cache() -> str:
    from evaluation.cache import cache_dir

    folder = cache_dir()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return f"{folder} ({'writable' if os.access(there, os.W_OK) else 'NOT writable'})"


def _noise() -> str:
    from evaluation.measuring import quiet
    from evaluation.measuring.timing import noise

    with quiet.alone():
        spread = noise()
    verdict = (
        "fine"
        if spread <= FINE
        else "acceptable"
        if spread <= TOO_NOISY
        else ("too much: differences between candidates drown; end what else runs")
    )
    return f"{100 * spread:.1f} % when timing a fixed computation: {verdict}"
