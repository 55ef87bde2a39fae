"""What a convolution sees: its input with margins, and of that the numbers at each output place."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Windows:
    """Where the windows of a convolution lie."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    around: tuple[int, ...]
    mode: str

    @staticmethod
    def of(layer: nn.Conv2d) -> Windows:
        """A layer's."""
        around = tuple(layer._reversed_padding_repeated_twice)
        return Windows(layer.kernel_size, layer.stride, layer.dilation, around, layer.padding_mode)

    def with_margins(self, x: Tensor) -> Tensor:
        """The input with all of its margins."""
        if not any(self.around):
            return x
        return F.pad(x, self.around, "constant" if self.mode == "zeros" else self.mode)

    def margins_of(self, numbers: Tensor, value: int) -> Tensor:
        """Numbers, channels last, with margins of one value."""
        return F.pad(numbers, (0, 0, *self.around), value=value) if any(self.around) else numbers

    def seen(self, numbers: Tensor) -> Tensor:
        """Of numbers, channels last: samples x height x width x what is seen there, as a view."""
        if self.kernel == (1, 1):
            down, across = self.stride
            return numbers if down == across == 1 else numbers[:, ::down, ::across]
        for axis, (size, stride, apart) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True), start=1
        ):
            numbers = numbers.unfold(axis, apart * (size - 1) + 1, stride)
            numbers = numbers if apart == 1 else numbers[..., ::apart]
        return numbers.permute(0, 1, 2, 4, 5, 3)
