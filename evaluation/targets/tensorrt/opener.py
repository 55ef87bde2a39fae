"""Opens files where no TensorRT is: ONNX Runtime computes them, operator by operator.

The arithmetic of every pair is that of the file, in float; no kernel is what TensorRT would run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.targets.ort_cpu.session import Session, open_file


@dataclass(frozen=True)
class ArithmeticOpener:
    """Opens ONNX files with so many threads, and optimises nothing."""

    threads: int

    def __call__(self, path: Path) -> Session:
        """The session of a file."""
        return open_file(path, self.threads, optimise=False)
