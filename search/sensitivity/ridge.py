"""Ridge regression on two blocks of features, one trusted and one that has to earn its weight.

The plain block is almost free; how much the detailed one may say is chosen by leaving out one
point after another, which has a closed form. Fits in the number of points, not of features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PLAIN = 10.0  # prior variance of a plain feature's weight, in units of the targets'
DETAIL = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3)  # the same of a detailed feature's, tried in turn
NOISE = (0.01, 0.1)  # variance of what no feature explains, as a share of the targets'


@dataclass(frozen=True)
class Ridge:
    """A fitted regression."""

    mean: float
    plain: Floats
    detail: Floats
    left_out: Floats  # of each point the prediction from the others
    spread: float  # the standard deviation of those predictions' errors

    def __call__(self, plain: Floats, detailed: Floats) -> Floats:
        """Predictions, from the plain features and what the detailed ones come to by `detail`."""
        found: Floats = self.mean + plain @ self.plain + detailed
        return found


def fit(plain: Floats, detail: NDArray[np.floating], targets: Floats) -> Ridge:
    """The regression whose left-out errors are smallest."""
    mean = float(targets.mean())
    scale = max(float(targets.std()), 1e-3)
    centred = (targets - mean) / scale
    simple = PLAIN * plain @ plain.T + 1.0
    fine = (detail @ detail.T).astype(np.float64)
    best: tuple[float, Floats, Floats, float] | None = None
    for share in DETAIL:
        for noise in NOISE:
            inverse = np.linalg.inv(simple + share * fine + noise * np.eye(len(targets)))
            weights = inverse @ centred
            errors = weights / np.diag(inverse)
            score = float(np.mean(np.abs(errors)))
            if best is None or score < 0.99 * best[0]:  # detail that gains nothing stays out
                best = (score, weights, errors, share)
    assert best is not None
    _, weights, errors, share = best
    offset = mean + scale * float(weights.sum())
    return Ridge(
        mean=offset,
        plain=scale * PLAIN * (plain.T @ weights),
        detail=scale * share * (detail.T @ weights).astype(np.float64),
        left_out=targets - scale * errors,
        spread=max(scale * float(np.sqrt(np.mean(errors**2))), 1e-3),
    )
