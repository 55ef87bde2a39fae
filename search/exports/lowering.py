"""Are exported files what their policies' simulated models are, layer by layer?

Builds every model again from its policy and holds the front's files and everything under export/
against it, on a few calibration samples. A model whose recovery trains comes out the same on the
same machine and versions alone; elsewhere all of its layers depart together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compressors.errors import UserError
from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.record import CompressedModel
from evaluation.checking import layers
from evaluation.checking.departure import Departure
from evaluation.checking.layers import LayerDeparture
from evaluation.checking.outputs import few, outputs
from evaluation.checking.told import TellsLayers
from evaluation.target_extras import further
from search.exports.package import FOLDER, METRICS, POLICY
from search.exports.verify import exported_members
from search.front.validate import Evaluates, artifact_file
from search.study.ledger import StudyRows


class Compresses(Evaluates, Protocol):
    """What is needed of `evaluation.evaluator.Evaluator`."""

    def compressed(self, policy: Policy) -> CompressedModel:
        """A policy's model, as simulated."""
        ...


@dataclass(frozen=True)
class FileCheck:
    """One file against its simulation."""

    file: Path
    outputs: Departure
    tolerance: float
    layers: tuple[LayerDeparture, ...]  # none where the target does not tell them
    layer_tolerance: float

    @property
    def departing(self) -> tuple[str, ...]:
        """The layers that were lowered to something else."""
        found = layers.departing(self.layers, self.layer_tolerance)
        return tuple(each.layer for each in found)

    @property
    def passed(self) -> bool:
        """Whether the file's answers and all of its layers hold."""
        return not self.departing and not self.outputs.beyond(self.tolerance)


def check_lowering(
    rows: StudyRows,
    folder: Path,
    evaluator: Callable[[], Compresses],
    export: Path | None = None,
) -> list[FileCheck]:
    """A check for every exported file of a study, or for one export's alone."""
    members = [] if export else exported_members(rows, folder)
    exports = [export] if export else [p.parent for p in (folder / FOLDER).glob(f"*/{METRICS}")]
    if not members and not exports:
        raise UserError(
            f"{folder} holds no exported files to check; write them: paredown front {folder}."
        )
    built = evaluator()
    files = [*_of_members(rows, folder, members, built), *_of_exports(sorted(exports), built)]
    policies = dict(files)
    models: dict[Policy, CompressedModel] = {}
    checks = []
    for file, policy in policies.items():
        if policy not in models:
            models = {policy: built.compressed(policy)}  # one at a time
        checks.append(check_file(built, models[policy], file))
    return checks


def check_file(evaluator: Evaluates, compressed: CompressedModel, file: Path) -> FileCheck:
    """One file against the simulated model, on a few samples of the calibration split."""
    target, (args,) = evaluator.target, few(evaluator.task)
    least = further(target, compressed)
    tolerance = max(target.tolerance, least)
    whole = outputs(target, compressed, file, [args])
    if not isinstance(target, TellsLayers):
        return FileCheck(file, whole, tolerance, (), 0.0)
    told = layers.layers(target, compressed, file, args)
    return FileCheck(file, whole, tolerance, told, max(target.layer_tolerance, least))


def _of_members(
    rows: StudyRows, folder: Path, members: list[int], built: Evaluates
) -> Iterator[tuple[Path, Policy]]:
    for row in rows.trials:
        if row.number in members:
            policy = policy_yaml.load(row.policy or "", source=f"the policy of trial {row.number}")
            yield artifact_file(row, folder, built), policy


def _of_exports(exports: list[Path], built: Evaluates) -> Iterator[tuple[Path, Policy]]:
    for export in exports:
        yield export / f"model{built.target.suffix}", policy_yaml.read(export / POLICY)
