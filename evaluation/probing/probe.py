"""What a search may want to know of a network before it tries policies, and what was found.

Plain data that travels between a driver and its workers. Knows no torch, and nothing of how a
probe is answered (see `prober`) or of why it is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError, choices

Kind = Literal["scores", "changes"]


@dataclass(frozen=True)
class Probe:
    """Policies of which the damage is wanted, all on the same calibration samples.

    Each of `policies`, and `around`, is a whole policy as canonical YAML, "" the uncompressed
    model; what is found is the difference that a policy makes to `around`. `scores` are estimated
    from gradients for changes of weights alone: one backward pass a sample, however many policies,
    so that they are best asked in one probe; `changes` are measured on the outputs, a forward pass
    each. A sample is one input of the model, such as an image or a whole sequence; there are no
    more than the calibration split has. What a policy says of training is left out.
    """

    kind: Kind
    policies: tuple[str, ...]
    around: str = ""
    samples: int = 256

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            valid = choices(get_args(Kind))
            raise UserError(f"probe.kind cannot be '{self.kind}'; valid: {valid}.")
        if self.samples < 1 or not self.policies:
            raise UserError("A probe takes one policy or more, and one sample or more.")
        object.__setattr__(self, "policies", tuple(self.policies))

    def key(self, content: str = "") -> str:
        """A name for the probe; with a digest of model and data, one that no other content has."""
        text = json.dumps([self.to_json(), content], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "policies": list(self.policies)}

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> Probe:
        """From plain data."""
        return Probe(**{**plain, "policies": tuple(plain["policies"])})


@dataclass(frozen=True)
class Finding:
    """What a probe found, a line a policy; NaN where nothing can be said of a policy.

    `damage` is a distance of outputs (see `distances`): measured, from the uncompressed model's; or
    estimated by `scores`, from those of `around`, and NaN where a policy changes more than weights
    (activations, depth). The other arrays come with `changes`: `outputs` of `around` and of the
    uncompressed model (`reference`), a row for each sample (for positions, where outputs have
    several), and what each policy adds to `outputs`. `scores` says that a row holds the scores of
    classes, so that the distance of two rows is a divergence.
    """

    damage: NDArray[np.float64]
    evaluations: float  # whole validation splits that answering it takes, found in a cache or not
    changes: NDArray[Any] | None = None  # [policies, rows, outputs]
    outputs: NDArray[Any] | None = None  # [rows, outputs]
    reference: NDArray[Any] | None = None  # [rows, outputs]
    scores: bool = False

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it as named arrays; those that there are not are left out."""
        named = {
            "damage": self.damage,
            "evaluations": np.array(self.evaluations, dtype=np.float64),
            "scores": np.array(self.scores),
            "changes": self.changes,
            "outputs": self.outputs,
            "reference": self.reference,
        }
        return {name: array for name, array in named.items() if array is not None}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Finding:
        """The finding that `arrays` gave; KeyError where something that each has is missing."""
        return Finding(
            damage=arrays["damage"],
            evaluations=float(arrays["evaluations"]),
            changes=arrays.get("changes"),
            outputs=arrays.get("outputs"),
            reference=arrays.get("reference"),
            scores=bool(arrays["scores"]),
        )
