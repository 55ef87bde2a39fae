"""What every target does around a lowering of its own: refuse first, and write its file whole.

Knows nothing of runtimes.
"""

from __future__ import annotations

from pathlib import Path

from compressors.errors import UserError
from compressors.record import CompressedModel
from evaluation.cache import make_folder, replacing
from evaluation.target import Artifact, Target


def refuse(target: Target, compressed: CompressedModel, cannot: str = "has no kernel for") -> None:
    """One sentence for the first layer that the target's table does not hold."""
    for layer in compressed.record.layers:
        reason = target.capability.refusal(layer)
        if reason:
            raise UserError(f"{target.name} {cannot} layer '{layer.name}' {reason}.")


def write(path: Path, content: bytes, signature: str) -> Artifact:
    """The one deployable file, which is there whole or not at all."""
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Artifact(path, path.stat().st_size, signature)
