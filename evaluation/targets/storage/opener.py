"""Opens packed files: unpacked to float models, which ONNX Runtime runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.targets.ort_cpu.session import Session, open_model
from evaluation.targets.storage import file


@dataclass(frozen=True)
class StorageOpener:
    """Opens packed files with so many threads."""

    threads: int

    def __call__(self, path: Path) -> Session:
        """The session of the unpacked model."""
        return open_model(file.read(path).SerializeToString(), path, self.threads)
