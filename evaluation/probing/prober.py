"""Answers probes about a task's model."""

from __future__ import annotations

from compressors.errors import UserError
from compressors.stack import Stack
from evaluation.probing.probe import Finding, Probe
from evaluation.task import Task


class Prober:
    """Holds what probes share."""

    def __init__(self, stack: Stack, task: Task) -> None:
        self._stack = stack
        self._task = task

    def run(self, probe: Probe) -> Finding:
        """What a probe asks for."""
        raise UserError("Probes are not answered yet.")
