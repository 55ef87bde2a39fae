"""Torch's multi-head attention, opened: four plain linear layers that are called.

`nn.MultiheadAttention` computes with packed weights and never calls a layer, so nothing of it can
be compressed. `open_attentions` puts an equal module in its place. One with `bias_k`, with
`add_zero_attn`, with weights that others share or a forward of its own stays closed. Knows
nothing of steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.modules import own_parameters, replace, tied_parameters


class OpenAttention(nn.Module):
    """What `nn.MultiheadAttention` does, with a linear layer for each of its four products.

    Heads can be removed: `num_heads` may be less than the outputs' width over `head_dim`.
    """

    in_proj_weight: None
    in_proj_bias: None  # torch's transformer layers read None as: call me

    def __init__(self, closed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.kdim, self.vdim = closed.embed_dim, closed.kdim, closed.vdim
        self.num_heads, self.head_dim = closed.num_heads, closed.head_dim
        self.dropout, self.batch_first = closed.dropout, closed.batch_first
        self._qkv_same_embed_dim = closed._qkv_same_embed_dim
        self.in_proj_weight = self.in_proj_bias = None
        self.bias_k = self.bias_v = None
        self.add_zero_attn = False
        self.heads_of_masks = closed.num_heads  # of the masks that a caller makes for every head
        self.kept_heads = list(range(closed.num_heads))
        weights, biases = _packed(closed)
        self.q_proj, self.k_proj, self.v_proj = (
            _linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)
        )
        self.out_proj = _linear(closed.out_proj.weight, closed.out_proj.bias)
        self.train(closed.training)

    def keep(self, heads: list[int]) -> None:
        """Have only these of the heads; the layers are the caller's to cut."""
        self.kept_heads = [self.kept_heads[head] for head in heads]
        self.num_heads = len(heads)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs, and the attention weights where they are needed."""
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        batched = query.dim() == 3
        q, k, v = (
            self._heads(layer(x), batched)
            for layer, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        hinted = is_causal and key_padding_mask is None and not need_weights
        mask = None if hinted else self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
            weights = (scores if mask is None else scores + mask).softmax(dim=-1)
            weights = F.dropout(weights, dropout) if dropout else weights
            mixed = weights @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, hinted)
        if weights is not None:
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        return self.out_proj(self._joined(mixed, batched)), weights

    def _heads(self, x: Tensor, batched: bool) -> Tensor:
        """Samples x heads x positions x values, of what a layer gave."""
        x = x if batched else x.unsqueeze(0)
        x = x if self.batch_first or not batched else x.transpose(0, 1)
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _joined(self, x: Tensor, batched: bool) -> Tensor:
        x = x.transpose(1, 2).flatten(2)
        if not batched:
            return x.squeeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _mask(
        self, attention: Tensor | None, padding: Tensor | None, like: Tensor
    ) -> Tensor | None:
        """Both masks as one to be added: samples x heads x positions x positions, or fewer."""
        masks = []
        if attention is not None:
            attention = _additive(attention, like)
            if attention.dim() == 3:
                attention = attention.reshape(-1, self.heads_of_masks, *attention.shape[1:])
                if len(self.kept_heads) < self.heads_of_masks:
                    attention = attention[:, self.kept_heads]
            masks.append(attention)
        if padding is not None:
            padding = _additive(padding, like)
            masks.append((padding if padding.dim() == 2 else padding.unsqueeze(0))[:, None, None])
        return None if not masks else sum(masks[1:], masks[0])


def open_attentions(model: nn.Module, names: Iterable[str] | None = None) -> tuple[str, ...]:
    """Open all attentions, or those named, in place; the names of those that were opened."""
    wanted = None if names is None else set(names)
    opened = []
    for name, module in list(model.named_modules()):
        if (wanted is None or name in wanted) and name and can_open(module, model):
            assert isinstance(module, nn.MultiheadAttention)
            replace(model, name, OpenAttention(module))
            opened.append(name)
    if opened:
        keep_plain(model)
    return tuple(opened)


def keep_plain(model: nn.Module) -> None:
    """See that torch's encoders give their layers plain tensors, not nested ones.

    Only the closed layers take those, all of them together.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False


def can_open(module: nn.Module, model: nn.Module) -> bool:
    """Whether a module is an attention of torch's that is opened without a change."""
    if not isinstance(module, nn.MultiheadAttention):
        return False
    shared = own_parameters(module) & tied_parameters(model)
    packed = "in_proj_weight" in module._parameters  # not made of other parameters
    return (
        type(module).forward is nn.MultiheadAttention.forward
        and packed
        and not shared
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _packed(closed: nn.MultiheadAttention) -> tuple[list[Tensor], list[Tensor | None]]:
    """The weights and biases of queries, keys and values."""
    weights: list[Tensor] = (
        list(closed.in_proj_weight.chunk(3))
        if closed._qkv_same_embed_dim
        else [closed.q_proj_weight, closed.k_proj_weight, closed.v_proj_weight]
    )
    bias = closed.in_proj_bias
    return weights, [None] * 3 if bias is None else list(bias.chunk(3))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer with these values; a parameter is taken over, a part of one is copied."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device="meta")
    layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    return layer


def _parameter(values: Tensor) -> nn.Parameter:
    if isinstance(values, nn.Parameter):
        return values
    return nn.Parameter(values.detach().clone(), values.requires_grad)


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
