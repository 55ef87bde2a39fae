"""Our torch programs in integers beside torchao's layers, as ratios to the float program.

    python scripts/bench/torch_kernels.py [--compile] [--width 192] [--batch 1]

One encoder of random weights, one thread, all in turns in one process; a ratio above 1 is faster
than float. With --compile everything goes through torch.compile, the float program too. torchao's
layers are those of its own configurations, put into the same network by torchao.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from networks import Encoder, Noise
from torch import nn

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.stack import apply
from evaluation.cache import cache_dir
from evaluation.measuring.sampling import Effort, take
from evaluation.targets.torch_device import probe
from evaluation.targets.torch_device.opener import TorchProgram
from evaluation.targets.torch_device.program import program, to_bytes
from evaluation.targets.torch_device.rounding import Product

SHAPE = (32, 16)
STEPS: dict[str, Quantize | None] = {
    "float": None,
    "static": Quantize(8, 8),
    "dynamic": Quantize(8, 8, dynamic=True),
    "dynamic by row": Quantize(8, 8, dynamic=True, by_row=True),
}
Call = Callable[[], object]


def ours(model: nn.Module, batch: int, kept: str | None) -> Iterator[tuple[str, Call]]:
    """The programs that the target writes, as it opens them."""
    product = Product(unsigned=probe.multiplies_integers("cpu", unsigned=True))
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    for label, step in STEPS.items():
        entries = () if step is None else tuple(LayerPolicy(n, quantize=step) for n in names)
        compressed = apply(model, Policy(layers=entries), Noise(SHAPE))
        content = io.BytesIO(to_bytes(program(compressed, product)))
        opened = TorchProgram(torch.export.load(content), "cpu", kept=kept)
        yield label, opened.call(batch)


def torchaos(model: nn.Module, batch: int, *, compiled: bool) -> Iterator[tuple[str, Call]]:
    """The network with torchao's layers."""
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    x = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(0))
    for label, config in (
        ("torchao int8 dynamic", Int8DynamicActivationInt8WeightConfig()),
        ("torchao int8 weights", Int8WeightOnlyConfig()),
    ):
        changed: Any = deepcopy(model).requires_grad_(False)
        quantize_(changed, config)
        torch.compiler.reset()
        run = torch.compile(changed) if compiled else changed

        def call(run: Any = run) -> object:
            with torch.no_grad():
                return run(x)

        call()
        yield label, call


def main() -> None:
    """Print a ratio for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--batch", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(0)
    model = Encoder(width=asked.width).eval()
    kept = str(cache_dir(None) / "inductor") if asked.compile else None
    calls = dict(ours(model, asked.batch, kept))
    calls |= torchaos(model, asked.batch, compiled=asked.compile)
    block = take(list(calls.values()), Effort(least=15, burst_least=0, seconds=1.5))
    for column, label in enumerate(calls):
        ratio = 1 / median(block.ratios(column))
        print(f"{label:24}{median(block.rounds[column]):9.3f} ms {ratio:7.2f}")


if __name__ == "__main__":
    main()
