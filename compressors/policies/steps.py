"""The steps that one layer can take, each as plain frozen data that is checked when it is made.

A default is what a policy means where it says nothing, for good: a later version may add keys
whose defaults change nothing, and never changes a default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from compressors.errors import PolicyError, choices
from compressors.policies import values

WEIGHT_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
ACTIVATION_BITS = range(2, 9)

Criterion = Literal["l1", "l2", "batchnorm", "activation", "zeros", "taylor", "wanda", "hessian"]
HeadCriterion = Literal["l1", "l2", "activation", "taylor", "wanda"]
WeightCriterion = Literal["magnitude", "taylor", "wanda", "hessian"]
Scope = Literal["layer", "model"]
Form = Literal["channel", "spatial", "tucker"]
Function = Literal["symmetric", "asymmetric", "log", "kmeans", "ternary", "binary", "e4m3", "e5m2"]
InputFormat = Literal["affine", "e4m3"]
Granularity = Literal["channel", "tensor", "group"]
Ranges = Literal["minmax", "percentile", "mse", "entropy"]
Rounding = Literal["nearest", "gptq", "learned"]

_PATTERN = re.compile(r"([1-9][0-9]*):([1-9][0-9]*)")
LARGEST_PATTERN = 64


@dataclass(frozen=True)
class Prune:
    """Remove a share of a channel group's output channels; the kept count is rounded.

    With `repair`, the layers that read the channels are fitted anew by least squares.
    """

    channels: float
    criterion: Criterion = "l2"
    multiple: int = 1
    repair: bool = False

    def __post_init__(self) -> None:
        share = values.share("prune.channels", self.channels, zero=True, one=False)
        values.put(self, "channels", share)
        values.one_of("prune.criterion", self.criterion, Criterion)
        values.whole("prune.multiple", self.multiple, 1)
        values.flag("prune.repair", self.repair)


@dataclass(frozen=True)
class Heads:
    """Remove a share of an attention's heads; given to the attention's own name."""

    share: float
    criterion: HeadCriterion = "l2"
    repair: bool = False

    def __post_init__(self) -> None:
        values.put(self, "share", values.share("heads.share", self.share, zero=True, one=False))
        values.one_of("heads.criterion", self.criterion, HeadCriterion)
        values.flag("heads.repair", self.repair)


@dataclass(frozen=True)
class Sparsify:
    """Set single weights to zero: a share of them, or all but n of every m along the inputs.

    With the scope `model` the entries share one threshold over all of their weights.
    """

    share: float | None = None
    pattern: str | None = None  # n:m, n kept of m
    criterion: WeightCriterion = "magnitude"
    scope: Scope = "layer"

    def __post_init__(self) -> None:
        if (self.share is None) == (self.pattern is None):
            raise PolicyError("sparsify takes either a share or a pattern, such as '2:4'.")
        if self.share is not None:
            share = values.share("sparsify.share", self.share, zero=True, one=False)
            values.put(self, "share", share)
        else:
            self._check_pattern()
        values.one_of("sparsify.criterion", self.criterion, WeightCriterion)
        values.one_of("sparsify.scope", self.scope, Scope)
        if self.scope == "model" and (self.pattern is not None or self.criterion == "hessian"):
            raise PolicyError(
                "sparsify.scope cannot be 'model' with a pattern or the criterion 'hessian',"
                " which are a layer's own; valid: layer."
            )

    def _check_pattern(self) -> None:
        found = _PATTERN.fullmatch(self.pattern) if isinstance(self.pattern, str) else None
        kept, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 0 < kept <= of <= LARGEST_PATTERN:
            valid = f"n:m with 1 <= n <= m <= {LARGEST_PATTERN}, such as '2:4' or '4:8'"
            raise values.refuse("sparsify.pattern", self.pattern, valid)

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """n and m of the pattern."""
        if self.pattern is None:
            return None
        kept, of = self.pattern.split(":")
        return int(kept), int(of)

    @property
    def does_nothing(self) -> bool:
        """Whether every weight stays."""
        if self.kept_of is not None:
            return self.kept_of[0] == self.kept_of[1]
        return self.share == 0


@dataclass(frozen=True)
class LowRank:
    """Replace a layer by thinner ones, by one of: a share of the full rank, energy, or a rank.

    A linear layer becomes two. A convolution becomes, by `form`, a k x k one and a 1 x 1 one
    (channel), a k x 1 one and a 1 x k one (spatial), or three around a smaller core (tucker).
    With `aware`, the error is weighed by the inputs seen on the calibration split.
    """

    ratio: float | None = None
    energy: float | None = None  # share of the squared singular values to keep
    rank: int | None = None
    form: Form = "channel"
    aware: bool = False

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.ratio, self.energy, self.rank)) != 1:
            raise PolicyError("lowrank takes one of ratio, energy and rank.")
        for name in ("ratio", "energy"):
            value = getattr(self, name)
            if value is not None:
                share = values.share(f"lowrank.{name}", value, zero=False, one=True)
                values.put(self, name, share)
        if self.rank is not None:
            values.whole("lowrank.rank", self.rank, 1)
        values.one_of("lowrank.form", self.form, Form)
        values.flag("lowrank.aware", self.aware)
        if self.aware and self.form == "tucker":
            raise PolicyError("lowrank.aware cannot be true with form tucker; valid: false.")


# Bits of weights that each function can have.
FUNCTION_BITS: dict[str, tuple[int, ...]] = {
    "symmetric": WEIGHT_BITS[1:],
    "asymmetric": WEIGHT_BITS,
    "log": tuple(range(2, 9)),
    "kmeans": tuple(range(1, 9)),
    "ternary": (2,),
    "binary": (1,),
    "e4m3": (8,),
    "e5m2": (8,),
}
AFFINE = ("symmetric", "asymmetric")
FLOAT_INPUTS: dict[str, tuple[int, ...]] = {"e4m3": (8,)}  # formats that are no integers: widths
OF_INTEGER_INPUTS = ("dynamic", "signed", "by_row")
OF_INPUTS = ("inputs", *OF_INTEGER_INPUTS)
OF_WEIGHTS = ("function", "granularity", "group", "rounding", "bias_correction")  # keys of quantize
GROUP = 32


@dataclass(frozen=True)
class Quantize:
    """Bits of weights and of input activations; None is float.

    Weights alone: stored in so many bits, computed in float. Both: computed in integers where the
    function is affine. `function` is the weights' number format, `inputs` the activations', a
    tensor as a whole. Affine ones are integers, their ranges fixed beforehand or, with `dynamic`,
    found on every input; `signed` ones have a grid of which 0 is the middle, as kernels without
    zero points need. With `by_row` every row of every input (a token's, say) has a grid of its own,
    of which 0 is the middle. Activations in 8-bit floats go with weights in the same or in float.
    """

    weights: int | None
    activations: int | None
    ranges: Ranges = "minmax"
    function: Function = "symmetric"
    granularity: Granularity = "channel"
    group: int = GROUP  # weights that share a scale, with granularity group
    rounding: Rounding = "nearest"
    bias_correction: bool = False
    dynamic: bool = False
    signed: bool = False
    by_row: bool = False
    smooth: float = 0.0  # how far inputs' outliers move into the weights (SmoothQuant's alpha)
    inputs: InputFormat = "affine"

    def __post_init__(self) -> None:
        values.bits("quantize.weights", self.weights, WEIGHT_BITS)
        values.bits("quantize.activations", self.activations, ACTIVATION_BITS)
        for name, literal in _QUANTIZE_WORDS:
            values.one_of(f"quantize.{name}", getattr(self, name), literal)
        values.whole("quantize.group", self.group, 2)
        values.flag("quantize.bias_correction", self.bias_correction)
        values.flag("quantize.dynamic", self.dynamic)
        values.flag("quantize.signed", self.signed)
        values.flag("quantize.by_row", self.by_row)
        smooth = values.share("quantize.smooth", self.smooth, zero=True, one=False)
        values.put(self, "smooth", smooth)
        self._check_together()

    def _check_together(self) -> None:
        idle = [] if self.weights is not None else [n for n in OF_WEIGHTS if self._says(n)]
        if idle:
            raise PolicyError(
                f"quantize.{idle[0]} cannot be {getattr(self, idle[0])!r} with float weights; leave"
                " it out, or give weights bits."
            )
        if self.group != GROUP and self.granularity != "group":
            raise PolicyError(
                f"quantize.group is for granularity group, and it is {self.granularity}; leave it"
                " out."
            )
        valid = FUNCTION_BITS[self.function]
        if self.weights is not None and self.weights not in valid:
            able = [name for name, widths in FUNCTION_BITS.items() if self.weights in widths]
            raise PolicyError(
                f"quantize.weights cannot be {self.weights} with function {self.function}; valid:"
                f" {choices(valid)} bits, or at {self.weights} bits {choices(able)}."
            )
        if self.rounding != "nearest" and self.function not in AFFINE:
            raise PolicyError(
                f"quantize.rounding cannot be '{self.rounding}' with function {self.function};"
                " valid: nearest, or weights in bits of a symmetric or asymmetric function."
            )
        if self.inputs in FLOAT_INPUTS:
            self._check_float_inputs()
        if self.dynamic and self.activations is None:
            raise PolicyError("quantize.dynamic cannot be true with float activations.")
        if self.signed and (self.activations is None or self.dynamic):
            raise PolicyError("quantize.signed takes activations in bits, and is not for dynamic.")
        if self.by_row and not self.dynamic:
            raise PolicyError("quantize.by_row takes dynamic activations; valid: dynamic true.")
        if self.smooth and (self.weights is None or self.activations is None):
            raise PolicyError("quantize.smooth takes weights and activations in bits.")

    def _check_float_inputs(self) -> None:
        refused = f"quantize.inputs cannot be '{self.inputs}' with"
        if self.activations not in FLOAT_INPUTS[self.inputs]:
            given = "float activations" if self.activations is None else f"{self.activations} bits"
            raise PolicyError(f"{refused} {given}; valid: activations 8, or inputs affine.")
        if self.weights is not None and self.function != self.inputs:
            raise PolicyError(
                f"{refused} weights of function {self.function}; valid: function {self.inputs},"
                " or float weights."
            )
        said = next((name for name in OF_INTEGER_INPUTS if self._says(name)), None)
        if said is not None:
            raise PolicyError(f"{refused} {said} true; valid: {said} false, or inputs affine.")

    def _says(self, name: str) -> bool:
        """Whether a key is at other than its default."""
        return bool(getattr(self, name) != getattr(Quantize, name))


_QUANTIZE_WORDS: tuple[tuple[str, Any], ...] = (
    ("ranges", Ranges),
    ("function", Function),
    ("granularity", Granularity),
    ("rounding", Rounding),
    ("inputs", InputFormat),
)
