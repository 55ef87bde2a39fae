"""A network of inverted residuals like MobileNetV2 (Sandler et al., 2018), for small images.

Eleven bottlenecks of depthwise convolutions, 35 layers in all; strides are left out where images
of 16 pixels would vanish.
"""

from __future__ import annotations

from torch import Tensor, nn

# expansion, output channels, stride
BOTTLENECKS = (
    *((1, 16, 1), (4, 24, 2), (4, 24, 1), (4, 32, 2), (4, 32, 1), (4, 32, 1)),
    *((4, 64, 1), (4, 64, 1), (4, 64, 1), (4, 96, 1), (4, 96, 1)),
)
FIRST, LAST = 16, 192


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Bottleneck(nn.Module):
    """Wider, depthwise, narrow again; its input is added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        widen = [_conv(inputs, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6()] if expansion > 1 else []
        self.residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *widen,
            _conv(wide, wide, 3, stride, wide),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            _conv(wide, outputs, 1),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out: Tensor = self.body(x)
        return x + out if self.residual else out


class MobileNet(nn.Module):
    """The whole network: images in, class scores out."""

    def __init__(self, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        blocks, width = [], FIRST
        for expansion, outputs, stride in BOTTLENECKS:
            blocks.append(Bottleneck(width, outputs, stride, expansion))
            width = outputs
        self.first = nn.Sequential(_conv(channels, FIRST, 3), nn.BatchNorm2d(FIRST), nn.ReLU6())
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(_conv(width, LAST, 1), nn.BatchNorm2d(LAST), nn.ReLU6())
        self.fc = nn.Linear(LAST, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        x = self.last(self.blocks(self.first(x)))
        scores: Tensor = self.fc(x.mean((2, 3)))
        return scores
