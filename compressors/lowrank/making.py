"""New layers in the likeness of others, their weights not yet filled.

No random numbers are drawn; type, place and whether it trains are those of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def linear(like: nn.Linear | nn.Embedding, inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    """A linear layer."""
    return _bare(nn.Linear, like, in_features=inputs, out_features=outputs, bias=bias)


def embedding(like: nn.Embedding, columns: int) -> nn.Embedding:
    """A table with as many rows."""
    return _bare(
        nn.Embedding,
        like,
        num_embeddings=like.num_embeddings,
        embedding_dim=columns,
        padding_idx=like.padding_idx,
        scale_grad_by_freq=like.scale_grad_by_freq,
        sparse=like.sparse,
    )


def conv(
    like: nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d,
    *,
    inputs: int | None = None,
    outputs: int | None = None,
    along: Sequence[int] | None = None,
) -> nn.Conv1d | nn.Conv2d:
    """A convolution with the kernel, stride, padding and dilation of these dimensions, or of all.

    In the other dimensions it has kernel 1. With the layer's own outputs it has its bias.
    """
    dimensions = range(len(like.kernel_size)) if along is None else along
    facts: dict[str, Any] = {
        "kernel_size": _only(like.kernel_size, dimensions, 1),
        "stride": _only(like.stride, dimensions, 1),
        "dilation": _only(like.dilation, dimensions, 1),
        "padding": like.padding,
        "padding_mode": like.padding_mode,
    }
    if not isinstance(like.padding, str):
        facts["padding"] = _only(like.padding, dimensions, 0)
    if not tuple(dimensions):
        facts.update(padding=0, padding_mode="zeros")
    kind: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv1d if len(like.kernel_size) == 1 else nn.Conv2d
    return _bare(
        kind,
        like,
        in_channels=like.in_channels if inputs is None else inputs,
        out_channels=like.out_channels if outputs is None else outputs,
        bias=like.bias is not None and outputs is None,
        **facts,
    )


def transposed(
    like: nn.ConvTranspose2d, *, inputs: int | None = None, outputs: int | None = None
) -> nn.ConvTranspose2d:
    """A transposed convolution; with the layer's own outputs it has its bias."""
    return _bare(
        nn.ConvTranspose2d,
        like,
        in_channels=like.in_channels if inputs is None else inputs,
        out_channels=like.out_channels if outputs is None else outputs,
        kernel_size=like.kernel_size,
        stride=like.stride,
        padding=like.padding,
        output_padding=like.output_padding,
        dilation=like.dilation,
        bias=like.bias is not None and outputs is None,
    )


def _only(values: tuple[int, ...], dimensions: Sequence[int], other: int) -> tuple[int, ...]:
    return tuple(value if i in dimensions else other for i, value in enumerate(values))


def _bare(kind: type[M], like: nn.Module, **facts: Any) -> M:
    weight = like.weight
    assert isinstance(weight, Tensor)
    # A class that sets no first values makes it: `skip_init` would go by way of meta tensors,
    # which takes longer than all the rest of a factorisation that is cut from a kept one.
    bare = type(kind.__name__, (kind,), {"reset_parameters": _nothing})
    made: M = bare(**facts, device=weight.device, dtype=weight.dtype)
    made.__class__ = kind
    made.requires_grad_(weight.requires_grad)
    return made


def _nothing(module: nn.Module) -> None:
    del module
