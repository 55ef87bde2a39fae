"""What a search wants to know before it tries settings, and the surrogates made of the answers.

First the scores of every single choice; then, of those that scores say nothing about, the measured
change; once the front's middle is known, the changes around it. Choices of bits for weights and
inputs are known by their halves where they are many. Stateless but for what it learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from evaluation.probing.probe import Finding, Probe
from search.sensitivity.coding import Coding, Rows
from search.sensitivity.coding import kept as kept_of
from search.sensitivity.halves import Pair, damages, measured, pairs_of
from search.sensitivity.surrogates import Additive, LogitAdditive, Surrogate
from search.sensitivity.work import Work

Floats = NDArray[np.float64]
SCORE_SAMPLES = 256
CHANGE_SAMPLES = 32
TOGETHER = 24  # policies of one probe, so that several workers share the work
MOST_NUMBERS = 300_000  # of all changes that are kept, as every ask goes through them
REACH = 1  # choices beside the middle's own, on either side, that are probed around it
EMPTY = policy_yaml.dump(Policy())


@dataclass(frozen=True)
class Single:
    """One choice of one knob, as a column of the settings and as a policy, written and made."""

    column: int
    policy: str
    made: Policy


class Findings:
    """What was learned, by probe; None where a probe failed."""

    def __init__(self, coding: Coding, work: Work) -> None:
        self._coding = coding
        self._work = work
        self._learned: dict[Probe, Finding | None] = {}
        self._made: dict[bytes, list[Surrogate]] = {}
        self._answered: set[bytes] = set()  # middles of which nothing is missing
        self._asked: dict[bytes, list[tuple[int, str]]] = {}
        self.singles = _singles(coding)
        self._pairs = _pairs(self.singles, coding)
        policies = (
            self._pairs[s.policy].weights if s.policy in self._pairs else s.policy
            for s in self.singles
        )
        self._scores = Probe("scores", tuple(dict.fromkeys(policies)), "", SCORE_SAMPLES)

    def learn(self, probe: Probe, finding: Finding | None) -> None:
        """Keep an answer."""
        self._learned[probe] = finding
        self._made.clear()
        self._answered.clear()

    def wanted(self, middle: Rows | None = None) -> list[Probe]:
        """The probes whose answers are still missing; with a middle, those around it as well."""
        key = b"" if middle is None else middle.tobytes()
        if key in self._answered or not self.singles:
            return []
        if self._scores not in self._learned:
            return [self._scores]
        probes = self._of_unscored() + ([] if middle is None else self._around(middle))
        missing = [probe for probe in probes if probe not in self._learned]
        if not missing:
            self._answered.add(key)
        return missing

    def table(self) -> Additive:
        """The damage of each choice alone: its score, else its measured change, else a guess."""
        table = _guessed(self._coding)
        known = self._known([self._scores, *self._of_unscored()])
        known |= damages(self._pairs, known)
        for single in self.singles:
            table[single.column] = known.get(single.policy, table[single.column])
        return Additive("gauss_newton", table)

    def surrogates(self, middle: Rows | None = None) -> list[Surrogate]:
        """All that the answers make possible, the cheapest first."""
        key = b"" if middle is None else middle.tobytes()
        if key not in self._made:
            self._made[key] = self._surrogates(middle)
        return self._made[key]

    def _surrogates(self, middle: Rows | None) -> list[Surrogate]:
        table = self.table()
        found: list[Surrogate] = [table]
        if middle is not None:
            around = self._logits(middle, table)
            found += [] if around is None else [around]
        return found

    def _known(self, probes: Sequence[Probe]) -> dict[str, float]:
        """The damage of each policy of which one of the probes told it."""
        found = {}
        for probe in probes:
            finding = self._learned.get(probe)
            damage = () if finding is None else finding.damage
            for policy, value in zip(probe.policies, damage, strict=False):
                if np.isfinite(value):
                    found[policy] = max(float(value), 0.0)
        return found

    def _of_unscored(self) -> list[Probe]:
        scored = self._known([self._scores])
        policies = [policy for policy in self._scores.policies if policy not in scored]
        return _probes([*policies, *measured(self._pairs.values())], "")

    def _around(self, middle: Rows) -> list[Probe]:
        near = [policy for _, policy in self._near(middle)]
        return _probes([EMPTY, *near], policy_yaml.dump(self._coding.policy(middle)))

    def _near(self, middle: Rows) -> list[tuple[int, str]]:
        """The settings beside the middle that differ in one knob: their column and policy."""
        key = middle.tobytes()
        if key not in self._asked:
            self._asked[key] = self._beside(middle)
        return self._asked[key]

    def _beside(self, middle: Rows) -> list[tuple[int, str]]:
        found = []
        own_policy = policy_yaml.dump(self._coding.policy(middle))
        for knob, (size, start) in enumerate(
            zip(self._coding.sizes, self._coding.starts, strict=True)
        ):
            own = int(middle[knob])
            for index in range(max(0, own - REACH), min(int(size), own + REACH + 1)):
                if index == own or self._coding.knobs[knob].kind == "policy":
                    continue
                row = middle.copy()
                row[knob] = index
                policy = policy_yaml.dump(self._coding.policy(row))
                if policy != own_policy:
                    found.append((int(start) + index, policy))
        return found

    def _logits(self, middle: Rows, table: Additive) -> LogitAdditive | None:
        """Outputs from the changes around a middle; what lies further off from the table."""
        answers = [self._learned.get(probe) for probe in self._around(middle)]
        if any(a is None or a.changes is None or a.outputs is None for a in answers):
            return None
        found = [a for a in answers if a is not None and a.changes is not None]
        start = np.asarray(found[0].outputs, dtype=np.float32)
        moved = np.concatenate([np.asarray(a.changes, dtype=np.float32) for a in found])
        most = max(1, MOST_NUMBERS // self._coding.width // start.shape[1])
        shown = np.unique(np.linspace(0, len(start) - 1, min(most, len(start))).round().astype(int))
        start, moved = start[shown], moved[:, shown]
        if not np.isfinite(moved[0]).all():
            return None
        changes = np.zeros((self._coding.width, start.size), dtype=np.float32)
        known = [column for column, _ in self._near(middle)]
        told = moved[1:].reshape(len(known), -1)
        changes[known] = np.where(np.isfinite(told).all(axis=1, keepdims=True), told, 0.0)
        for own, size, at in zip(middle, self._coding.sizes, self._coding.starts, strict=True):
            first, last = max(0, int(own) - REACH), min(int(size) - 1, int(own) + REACH)
            changes[at : at + first] = changes[at + first]
            changes[at + last + 1 : at + size] = changes[at + last]
        extra = _beyond(self._coding, middle, table.table)
        for column, change in zip(known, told, strict=True):
            if not np.isfinite(change).all():  # the middle does not take this choice
                extra[column] = table.table[column]
        return LogitAdditive(
            "logit_additive", changes, start, start + moved[0], found[0].scores, extra=extra
        )


def _probes(policies: Sequence[str], around: str) -> list[Probe]:
    parts = [policies[at : at + TOGETHER] for at in range(0, len(policies), TOGETHER)]
    return [Probe("changes", tuple(part), around, CHANGE_SAMPLES) for part in parts]


def _singles(coding: Coding) -> list[Single]:
    found = []
    for knob, (size, start) in enumerate(zip(coding.sizes, coding.starts, strict=True)):
        if coding.knobs[knob].kind == "policy":
            continue
        for index in range(int(size)):
            made = coding.single(knob, index)
            policy = policy_yaml.dump(made)
            if policy != EMPTY:
                found.append(Single(int(start) + index, policy, made))
    return found


def _pairs(singles: Sequence[Single], coding: Coding) -> dict[str, Pair]:
    """Of all knobs with many choices for weights and inputs together, the halves of these."""
    found: dict[str, Pair] = {}
    for knob, start, size in zip(coding.knobs, coding.starts, coding.sizes, strict=True):
        if knob.kind == "quantize":
            own = {s.policy: s.made for s in singles if start <= s.column < start + size}
            found |= pairs_of(own)
    return found


def _beyond(coding: Coding, middle: Rows, table: Floats) -> Floats:
    """What choices further from the middle than was probed do, against the nearest probed."""
    extra = np.zeros(coding.width)
    for own, size, start in zip(middle, coding.sizes, coding.starts, strict=True):
        last = min(int(size) - 1, int(own) + REACH)
        for index in range(last + 1, int(size)):
            extra[start + index] = max(table[start + index] - table[start + last], 0.0)
    return extra


def _guessed(coding: Coding) -> Floats:
    """Damage by what is left alone, for choices of which nothing could be found out."""
    table = np.zeros(coding.width)
    for knob, values, start in zip(coding.knobs, coding.values, coding.starts, strict=True):
        if knob.kind == "policy":
            continue
        words = None if knob.kind == "depth" else coding.space.fixed.words(knob.kind)
        for index, value in enumerate(values):
            left = 1.0 - float(value) if words is None else kept_of(words.step(value))
            table[int(start) + index] = 0.1 * (1.0 - left) ** 4
    return table
