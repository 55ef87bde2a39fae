"""Which targets can be used on this machine, and what the others lack; no runtime is imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from search.configuration.hydra_tree import CONF

# What a target's runtime is called, its distribution, and the extra that installs it.
RUNTIMES = {
    "executorch": ("ExecuTorch", "executorch", "executorch"),
    "litert": ("LiteRT", "ai-edge-litert", "litert"),
    "openvino_cpu": ("OpenVINO", "openvino", "openvino"),
    "tensorrt": ("TensorRT", "tensorrt", "tensorrt"),
    "torch_cpu": ("torch", "torch", None),
    "torch_cuda": ("torch", "torch", None),
}
DEFAULT = ("ONNX Runtime", "onnxruntime", None)
FILES_ALONE = ("tensorrt",)  # lowered to and checked without their runtime
COMPUTED = ("npu_sim",)
NEEDS_A_FILE = ("table",)


def targets() -> Iterator[tuple[str, str]]:
    """Each built-in target, and whether it can be used here."""
    for path in sorted((CONF / "target").glob("*.yaml")):
        yield path.stem, usable(path.stem)


def usable(name: str) -> str:
    """Yes, with the runtime's version, or what is missing."""
    runtime, package, extra = RUNTIMES.get(name, DEFAULT)
    found = installed(package)
    install = f"pip install 'paredown[{extra}]'" if extra else f"pip install {package}"
    if found is None and name in FILES_ALONE:
        return f"files and their quality, no timing: {runtime} is missing, {install}"
    if found is None:
        return f"no: {runtime} is missing, {install}"
    if name == "torch_cuda" and not _has_gpu():
        return "no: torch finds no GPU"
    if name in COMPUTED:
        return "yes, computed"
    if name in NEEDS_A_FILE:
        return "yes, with a table that `paredown profile` wrote on the device"
    return f"yes, {runtime} {found}"


def energy() -> str:
    """The energy counters that can be read."""
    from evaluation.costs.counters import counters

    names = ", ".join(counter.name for counter in counters())
    if names:
        return names
    advice = "" if installed("nvidia-ml-py") else "; for GPUs: pip install 'paredown[nvml]'"
    return f"none that can be read{advice}"


def installed(package: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
