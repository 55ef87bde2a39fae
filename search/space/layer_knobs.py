"""The knobs of one kind of step: layers selected and tied, their choices read, checked and cut.

A choice that a layer cannot take is cut from its knob; one that no layer can take is refused with
the reason, and so are choices that none of the layers named for them gains by. A knob that would
have one choice, doing nothing, is left out. Knows steps only by their words and rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compressors.errors import UserError
from compressors.structures.structure import Structure
from search.space.knobs import Choices, Knob, KnobKind
from search.space.legal import Rules
from search.space.options import Choice, Given, StepOptions
from search.space.patterns import limits_of, selected, tied
from search.space.words import NEUTRAL

SUFFIX: dict[KnobKind, str] = {
    "depth": "remove",
    "heads": "heads",
    "prune": "channels",
    "lowrank": "rank",
    "sparsify": "zeros",
    "quantize": "bits",
}
EVERYWHERE = StepOptions().include
Values = tuple[Choice, ...]


def depth_knobs(structure: Structure, options: StepOptions) -> list[Knob]:
    """Blocks to remove."""
    names = [block.name for block in structure.blocks]
    knobs = []
    for group, asked in _groups("depth", names, options):
        allowed = [[_flag(where, value) for value in given] for where, given in asked]
        knobs += _knob("depth", group, _shared([values or [False, True] for values in allowed]))
    return knobs


def step_knobs(kind: KnobKind, rules: Rules, options: StepOptions) -> list[Knob]:
    """What a step may do to each layer, or attention."""
    groups = _groups(kind, rules.names(), options)
    read = _Read(kind, rules)
    found = [
        (group, [read.words(name, *said) for name, said in zip(group, asked, strict=True)])
        for group, asked in groups
    ]
    read.refuse_what_none_can_take()
    if tuple(options.include) != EVERYWHERE:
        read.refuse_where_nothing_gains()
    knobs = []
    for group, words in found:
        able = [read.allowed(name, values) for name, values in zip(group, words, strict=True)]
        outcomes: dict[object, Choice] = {}
        for word in _neutral_first(kind, _shared(able)):
            outcomes.setdefault(rules.outcome(group, word), word)
        knobs += _knob(kind, group, list(outcomes.values()))
    return knobs


class _Read:
    """Reads choices and remembers, of each, the layers that were asked to take it."""

    def __init__(self, kind: KnobKind, rules: Rules) -> None:
        self._kind, self._rules = kind, rules
        self._reasons: dict[tuple[str, Choice], dict[str, str | None]] = {}

    def words(self, name: str, where: str, given: Sequence[Given]) -> list[Choice]:
        """The canonical words of a layer's choices; all that the target can do where none are."""
        if not given and self._kind == "quantize":
            return self._rules.everything(name)
        words = [self._rules.words.canonical(choice, where) for choice in given]
        for word in words:
            reasons = self._reasons.setdefault((where, word), {})
            reasons[name] = self._rules.refused(name, word)
        return words

    def refuse_what_none_can_take(self) -> None:
        """Raise for a choice that nothing can take, with the reason of the first."""
        for (where, word), reasons in self._reasons.items():
            refusals = [reason for reason in reasons.values() if reason is not None]
            if len(refusals) == len(reasons):
                raise UserError(f"{where} cannot hold '{word}': {refusals[0]}.")

    def refuse_where_nothing_gains(self) -> None:
        """Raise where every choice is cut as no layer that may take it would gain by it."""
        doing = [(key, names) for key, names in self._reasons.items() if not self._neutral(key[1])]
        if any(self.allowed(name, [word]) for (_, word), names in doing for name in names):
            return
        for (where, word), names in doing:
            able = next(name for name, reason in names.items() if reason is None)
            raise UserError(
                f"{where} cannot hold '{word}': no layer included, such as '{able}', would have "
                "fewer weights by it; valid: what keeps less, or other layers."
            )

    def _neutral(self, word: Choice) -> bool:
        return word == NEUTRAL[self._kind]

    def allowed(self, name: str, words: Sequence[Choice]) -> list[Choice]:
        """Those that the layer can take and may gain by."""
        able = [word for word in words if self._rules.refused(name, word) is None]
        return [word for word in able if self._rules.useful(name, word)]


Asked = tuple[str, tuple[Given, ...]]  # the setting's name, the choices


def _groups(
    kind: KnobKind, names: Sequence[str], options: StepOptions
) -> list[tuple[tuple[str, ...], list[Asked]]]:
    """The names that share a knob, with what each of them is asked to take."""
    what = f"space.{kind}"
    wanted = selected(names, options.include, options.exclude, what)
    limits: Mapping[str, Sequence[tuple[Given, ...]]] = limits_of(options.limits, names, what)

    def asked(name: str) -> Asked:
        if name in limits:
            return f"{what}.limits", limits[name][-1]
        return f"{what}.choices", options.choices

    return [(g, [asked(n) for n in g]) for g in tied(wanted, options.tie, names, what)]


def _shared(allowed: Sequence[Sequence[Choice]]) -> list[Choice]:
    """The choices that every layer of a group has, in the first one's order."""
    first = dict.fromkeys(allowed[0])
    return [value for value in first if all(value in values for values in allowed)]


def _neutral_first(kind: KnobKind, values: Sequence[Choice]) -> list[Choice]:
    return sorted(values, key=lambda value: value != NEUTRAL[kind])


def _knob(kind: KnobKind, group: tuple[str, ...], values: Sequence[Choice]) -> list[Knob]:
    ordered = tuple(_neutral_first(kind, values))
    if not ordered or ordered == (NEUTRAL[kind],):
        return []
    return [Knob(f"{group[0]}/{SUFFIX[kind]}", kind, Choices(ordered), group)]


def _flag(where: str, value: Given) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{where} cannot hold {value!r}; valid: False, True.")
    return value
