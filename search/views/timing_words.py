"""How latencies came about, in sentences: predicted, measured, computed, looked up, or none.

Reads what the front keeps of its timings and what the study's configuration says of its target;
times nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.front.front import Front
from search.front.front_files import Validation
from search.front.timekeeping import Timekeeping
from search.study.ledger import StudyRows
from search.views.figures import spread_words
from search.views.report_data import has

PREDICTED = "predicted"
NOISY = (
    "Noisy: while this was timed, two timings of one and the same file came out apart, so that the "
    "± was widened to cover that. On a quiet machine, paredown front --remeasure gives a better "
    "figure."
)
_BASIS = {
    "measured": "Latencies are measured on the exported files, in turns with the uncompressed "
    "model's, and stated in the time that it is remembered to take on this machine; ± is half of "
    "the 95 % interval in which another run's figure is to be expected.",
    "computed": "Latencies are computed by a model of the machine, a simulation: nothing was "
    "timed, and no such machine was there.",
    "looked up": "Latencies are looked up in a table that was measured on the device elsewhere: "
    "nothing was timed here.",
}
_SHORT = {
    "measured": "measured",
    "computed": "computed: a simulation",
    "looked up": "looked up in a table",
}


def searched_how(rows: StudyRows, config: Mapping[str, Any], timing: Timekeeping | None) -> str:
    """`predicted`, `measured`, `computed`, `looked up`; empty where nothing tells."""
    if not has(rows.reference, "latency_ms"):
        return ""
    target = config.get("target")
    said = target.get("latency") if isinstance(target, Mapping) else None
    if said in (PREDICTED, "measured"):
        return str(said)
    return timing.basis if timing else ""


def short(validation: Validation, front: Front) -> str:
    """How the exported files' latencies came about, in a few words."""
    timing = validation.timing
    if timing is None:
        return "measured" if has(validation.reference, "latency_ms") else "not measured yet"
    if timing.untimed:
        return f"not timed: {timing.untimed}"
    noisy = sum(validation.noisy(row) for row in front.members) + timing.noisy_reference
    told = _SHORT[timing.basis]
    return f"{told}; {noisy} of {len(front.members) + 1} files noisy" if noisy else told


def sentences(rows: StudyRows, validation: Validation, how: str) -> list[str]:
    """What a reader must know of the latencies on the page."""
    timing = validation.timing
    told = []
    if how == PREDICTED:
        told.append("The search's latencies are predicted from the prices of single operators.")
    if timing is not None:
        told.append(
            f"No latencies: {rows.target} cannot time here, as {timing.untimed}."
            if timing.untimed
            else _BASIS[timing.basis]
        )
        told += [floor_sentence(timing)] if timing.floor else []
        told += [NOISY] if timing.noisy or timing.noisy_reference else []
    return [*told, *unmeasured_sentences(rows, validation)]


def unmeasured_sentences(rows: StudyRows, validation: Validation) -> list[str]:
    """Whose exported file the runtime could not run, and why."""
    numbers = {row.policy_id: row.number for row in rows.complete()}
    return [
        f"The exported file of trial {numbers[policy]} could not be measured, so that its figures "
        f"are the search's: {why}"
        for policy, why in validation.unmeasured.items()
    ]


def floor_sentence(timing: Timekeeping) -> str:
    """What the dispatch floor is, and that no policy gets below it."""
    if timing.floor is None:
        return ""
    return (
        f"Dispatch floor: an almost empty model takes {spread_words(timing.floor)} in this "
        "runtime, and no policy gets below that."
    )
