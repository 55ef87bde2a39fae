"""Digests of tensors, models and batches: two things of one digest are equal to the last bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from compressors.data import Batch

SIZE = 16  # bytes


def of_text(*parts: object) -> str:
    """The digest of what the parts read as; none of them may hold a line break of its own."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=SIZE).hexdigest()


def of_tensor(tensor: Tensor) -> str:
    """The digest of a tensor's type, shape and bytes, wherever it lies."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{plain.dtype} {tuple(plain.shape)}\n".encode(), digest_size=SIZE)
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The digest of named tensors."""
    return of_text(*(f"{name} {of_tensor(tensor)}" for name, tensor in tensors.items()))


def of_model(model: nn.Module) -> str:
    """The digest of a model's modules, parameters and buffers.

    The code of a module is told apart by its class and by what it prints of itself, no further:
    where that matters, the model's answers belong beside it.
    """
    modules = [f"{n} {type(m).__qualname__} {m.extra_repr()}" for n, m in model.named_modules()]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    return of_text(*modules, of_tensors(parameters), of_tensors(buffers))


def of_batches(batches: Iterable[Batch]) -> str:
    """The digest of inputs and targets."""
    return of_text(*(of_tensor(t) for batch in batches for t in (*batch.args, batch.targets)))
