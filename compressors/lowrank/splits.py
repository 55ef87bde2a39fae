"""The ways to make two layers of one: how its weight reads as a matrix, and what the factors fill.

A matrix has the outputs in its rows and the inputs in its columns, so that the first of the two
layers takes the rank x columns factor, and the second the rows x rank one. Knows nothing of where
factors come from.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from compressors.lowrank.making import conv, embedding, linear, transposed
from compressors.policies.steps import LowRank

Parts = tuple[nn.Module, ...]


class Split(Protocol):
    """One way to make two layers of one."""

    product: str  # of the two layers' weights, as einsum writes it

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as outputs x inputs."""
        ...

    def parts(self, layer: nn.Module, rank: int) -> Parts:
        """The two layers, their weights not yet filled."""
        ...

    def weights(self, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The two layers' weights, given the factors and the shape of the whole weight."""
        ...


class Rows:
    """Two linear layers; of a table, a thinner table and a linear layer."""

    product = "rc,or->oc"

    def matrix(self, weight: Tensor) -> Tensor:
        """As it is."""
        return weight

    def parts(self, layer: nn.Module, rank: int) -> Parts:
        """Inputs -> rank -> outputs."""
        assert isinstance(layer, nn.Linear)
        return (
            linear(layer, layer.in_features, rank, bias=False),
            linear(layer, rank, layer.out_features, bias=layer.bias is not None),
        )

    def weights(self, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The factors."""
        del shape
        return first, second


class Table:
    """A table of rank columns, and a linear layer."""

    product = "vr,or->vo"

    def matrix(self, weight: Tensor) -> Tensor:
        """Outputs x rows of the table."""
        return weight.T

    def parts(self, layer: nn.Module, rank: int) -> Parts:
        """The padding's row stays one."""
        assert isinstance(layer, nn.Embedding)
        return embedding(layer, rank), linear(layer, rank, layer.embedding_dim, bias=False)

    def weights(self, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The first one the other way round."""
        del shape
        return first.T, second


class Channel:
    """A convolution with `rank` outputs, and one of kernel 1."""

    def __init__(self, dimensions: int) -> None:
        self.product = "rck,orx->ock" if dimensions == 1 else "rckl,orxy->ockl"

    def matrix(self, weight: Tensor) -> Tensor:
        """Outputs x (inputs, kernel)."""
        return weight.flatten(1)

    def parts(self, layer: nn.Module, rank: int) -> Parts:
        """Stride, padding and dilation go to the first."""
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
        return conv(layer, outputs=rank), conv(layer, inputs=rank, along=())

    def weights(self, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The factors, with kernels."""
        kernel = shape[2:]
        return first.reshape(-1, *shape[1:]), second.reshape(*second.shape, *(1 for _ in kernel))


class Spatial:
    """A convolution along the height, then one along the width."""

    product = "rckx,oryl->ockl"

    def matrix(self, weight: Tensor) -> Tensor:
        """(Outputs, width) x (inputs, height)."""
        outputs, inputs, height, width = weight.shape
        return weight.permute(0, 3, 1, 2).reshape(outputs * width, inputs * height)

    def parts(self, layer: nn.Module, rank: int) -> Parts:
        """Each has the stride, padding and dilation of its own direction."""
        assert isinstance(layer, nn.Conv2d)
        return conv(layer, outputs=rank, along=(0,)), conv(layer, inputs=rank, along=(1,))

    def weights(self, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The factors, with kernels."""
        outputs, inputs, height, width = shape
        across = second.reshape(outputs, width, -1).transpose(1, 2)
        return first.reshape(-1, inputs, height, 1), across.unsqueeze(2)


class TransposedAfter:
    """A 1 x 1 convolution, then the transposed one with `rank` inputs."""

    product = "rcxy,rokl->cokl"

    def matrix(self, weight: Tensor) -> Tensor:
        """(Outputs, kernel) x inputs."""
        return weight.flatten(1).T

    def parts(self, layer: nn.Module, rank: int) -> Parts:
        """The first works on the smaller map."""
        assert isinstance(layer, nn.ConvTranspose2d)
        return conv(layer, outputs=rank, along=()), transposed(layer, inputs=rank)

    def weights(self, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The factors, with kernels."""
        return first[:, :, None, None], second.T.reshape(-1, *shape[1:])


class TransposedBefore:
    """The transposed convolution with `rank` outputs, then a 1 x 1 one."""

    product = "crkl,orxy->cokl"

    def matrix(self, weight: Tensor) -> Tensor:
        """Outputs x (inputs, kernel)."""
        return weight.transpose(0, 1).flatten(1)

    def parts(self, layer: nn.Module, rank: int) -> Parts:
        """The second has the bias."""
        assert isinstance(layer, nn.ConvTranspose2d)
        return transposed(layer, outputs=rank), conv(layer, inputs=rank, along=())

    def weights(self, first: Tensor, second: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The factors, with kernels."""
        inputs, _, *kernel = shape
        return first.reshape(-1, inputs, *kernel).transpose(0, 1), second[:, :, None, None]


def split_of(layer: nn.Module, step: LowRank) -> Split:
    """The split of a layer that takes two parts.

    Of a transposed convolution the 1 x 1 one stands on the side with more channels, which has
    more to lose; where they are equal, before it, on the smaller map.
    """
    if isinstance(layer, nn.Linear):
        return Rows()
    if isinstance(layer, nn.Embedding):
        return Table()
    if isinstance(layer, nn.ConvTranspose2d):
        return TransposedAfter() if layer.in_channels >= layer.out_channels else TransposedBefore()
    if isinstance(layer, nn.Conv2d) and step.form == "spatial":
        return Spatial()
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
    return Channel(len(layer.kernel_size))
