"""A device that is not here: policies are priced by the table that it wrote of itself.

The table is `paredown profile`'s. The file is the one that `storage` writes, with a note of what
the model computes; opened, it runs in float on this machine, and only its answers mean anything
then. Build the file for the device with the device's own target once policies are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from compressors.data import Data
from compressors.errors import UserError
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel
from evaluation.costs.energy import modelled
from evaluation.lowered import refuse
from evaluation.measurement import ENERGY, LATENCY, Value
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.profiling import table_file
from evaluation.profiling.abilities import capability_of
from evaluation.profiling.table_file import LatencyTable
from evaluation.profiling.whole import Whole
from evaluation.target import Artifact, Basis, Timing
from evaluation.targets.npu_sim.note import note_of, signature, work_in
from evaluation.targets.storage import file as packed
from evaluation.targets.storage.storage import Storage
from evaluation.task import Predict
from evaluation.work import Work, work_of


class Table:
    """Prices by a profile's CSV file; threads are those of `load`."""

    name = "table"
    suffix = ".safetensors"
    tolerance = Storage.tolerance
    layer_tolerance = Storage.layer_tolerance
    basis: Basis = "looked up"

    def __init__(
        self,
        file: str,
        threads: int = 1,
        batch: int | None = None,  # None: the table's own
        cache_dir: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        memory_mb: int | None = None,
    ) -> None:
        path = Path(file).expanduser()
        self._table = _finished(path)
        self._storage = Storage(
            threads,
            1 if batch is None else batch,
            cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )
        self.batch = _batch(self._table, path)
        if batch not in (None, self.batch):
            raise UserError(
                f"target.batch cannot be {batch}: '{path}' was measured with {self.batch}; valid: "
                "null, or that."
            )
        try:
            able = capability_of(self._table)
            self._whole = Whole.of(self._table)
        except ValueError as error:
            raise UserError(f"The latency table '{path}' cannot be read: {error}.") from error
        self.capability = replace(able, mask_bits=Storage.capability.mask_bits)

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the packed file, with the note."""
        refuse(self, compressed, "has no prices for")
        work = work_of(compressed)
        made = self._storage.lower(compressed, data, path, note_of(work))
        return replace(made, signature=signature(work, with_zeros=False), work=work)

    def load(self, path: Path) -> Predict:
        """A callable that runs the unpacked model on this machine, in float."""
        return self._storage.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """The time of one call, by the table."""
        del reference
        found = self._whole.latency(artifact.work)
        return Value(LATENCY, found.value, found.spread)

    def energy(self, artifact: Artifact) -> Value:
        """The energy of one sample by the table, or by the model for any machine."""
        found = self._whole.energy(artifact.work)
        return modelled(artifact.work) if found is None else Value(ENERGY, found)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """The times of files by the table, after their notes."""
        base = self._whole.latency(_work_in(reference))
        found = [self._whole.latency(_work_in(path)) for path in candidates]
        return [
            Timing(each.value, each.spread, faster, faster * each.spread / each.value)
            for each in found
            for faster in (base.value / each.value,)
        ]

    def layer_tensors(
        self, path: Path, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
    ) -> Any:
        """What the layers of a file, unpacked, read and write."""
        return self._storage.layer_tensors(path, args, described)


def _finished(path: Path) -> LatencyTable:
    table = table_file.read(path)
    if not table.of(table_file.START):
        raise UserError(
            f"The latency table '{path}' was not finished; start the same `paredown profile` "
            "again on the device, and it goes on."
        )
    return table


def _batch(table: LatencyTable, path: Path) -> int:
    found = table.facts.get("batch", "1")
    if not found.isdecimal() or int(found) < 1:
        raise UserError(f"The latency table '{path}' cannot be read: its batch is '{found}'.")
    return int(found)


def _work_in(path: Path) -> tuple[Work, ...]:
    note = packed.note_of(path)
    if note is None:
        raise UserError(f"'{path}' has no note of its work; valid: a file that this target wrote.")
    return work_in(note)
