"""Attentions found in live models, and heads cut out of them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.policies.policy import LayerPolicy, Policy, Rounds
from compressors.policies.steps import HeadCriterion, Heads
from compressors.pruning.heads import prune_heads
from compressors.stack import Stack
from compressors.structures.attention import open_attentions
from compressors.structures.heads import columns_of, keep_heads
from compressors.structures.inspection import inspect_model
from compressors.structures.structure import Attention
from tests.compressors.architectures import ARCHITECTURES, build, data_for, example_for

WITH_ATTENTION = [n for n in ("transformer", "own_attention", "huggingface") if n in ARCHITECTURES]
X = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))


def opened(name: str) -> nn.Module:
    model = build(name)
    open_attentions(model)
    return model


def found(model: nn.Module, x: Tensor = X) -> tuple[Attention, ...]:
    return inspect_model(model.eval(), (x[:1],)).attentions


def statistics(model: nn.Module, name: str) -> Statistics:
    return Statistics(model, Calibration(data_for(name)), ContentCache())


class OwnSizes(nn.Module):
    """Reads its inner width by a name of its own."""

    def __init__(self, width: int = 12, heads: int = 3, size: int = 4) -> None:
        super().__init__()
        self.n_heads, self.inner, self.width = heads, heads * size, width
        self.wq, self.wkv = nn.Linear(width, self.inner), nn.Linear(width, 2 * self.inner)
        self.wo = nn.Linear(self.inner, width)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == self.width
        k, v = self.wkv(x).split(self.inner, dim=2)
        q, k, v = (
            t.view(*x.shape[:2], self.n_heads, self.inner // self.n_heads).transpose(1, 2)
            for t in (self.wq(x), k, v)
        )
        y = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.wo(y.transpose(1, 2).reshape(*x.shape[:2], self.inner))


class SizeAlone(nn.Module):
    """Knows the size of a head, not their number; its output layer is its sibling's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = SizeAlone.Inner()
        self.after = nn.Sequential(nn.Linear(12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(x)[0])

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head_dim = 4
            self.q_lin, self.k_lin, self.v_lin = (nn.Linear(12, 12) for _ in range(3))

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            q, k, v = (
                layer(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
                for layer in (self.q_lin, self.k_lin, self.v_lin)
            )
            y = (q @ k.transpose(2, 3) / 2).softmax(-1) @ v
            return y.transpose(1, 2).flatten(2), None


class HeadByHead(nn.Module):
    """Packs queries, keys and values of a head together: an order that is not supported."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], self.num_heads, 3, 4).transpose(1, 2).unbind(3)
        y = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2))


class HeadsLast(nn.Module):
    """A head's values are apart by the number of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.q, self.k, self.v, self.o = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(*x.shape[:2], -1, self.num_heads).permute(0, 3, 1, 2)
            for layer in (self.q, self.k, self.v)
        )
        return self.o(((q @ k.mT).softmax(-1) @ v).permute(0, 2, 3, 1).flatten(2))


class FromTheInput(nn.Module):
    """Divides the width of its input by its heads: none can go."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.q, self.k, self.v, self.o = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2] // self.num_heads
        q, k, v = (
            layer(x).view(*x.shape[:2], self.num_heads, size).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        return self.o(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


class SharedKeys(nn.Module):
    """Grouped queries: four heads, two of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 4, 3
        self.q, self.o = nn.Linear(12, 12), nn.Linear(12, 12)
        self.k, self.v = nn.Linear(12, 6), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
        return self.o(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Wrapped(nn.Module):
    def __init__(self, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.attn, self.head = attention(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attn(x).mean(1))


def test_attentions_that_users_wrote() -> None:
    (own,) = found(Wrapped(OwnSizes))
    assert own == Attention(
        "attn", 3, "attn.wq", "attn.wkv", "attn.wkv", "attn.wo", ("attn.n_heads",), ("attn.inner",)
    )
    assert own.packed() == {"attn.wq": 1, "attn.wkv": 2}
    (beside,) = found(Wrapped(SizeAlone))
    assert (beside.name, beside.heads, beside.counts) == ("attn.inner", 3, ())
    assert beside.output == "attn.after.0"


@pytest.mark.parametrize("kind", [HeadByHead, HeadsLast, FromTheInput, SharedKeys])
def test_attentions_whose_heads_cannot_go_are_not_listed(kind: Callable[[], nn.Module]) -> None:
    structure = inspect_model(Wrapped(kind).eval(), (X[:1],))
    assert structure.attentions == ()
    inside = {"attn.q", "attn.k", "attn.v", "attn.qkv"}
    assert not inside & {member for group in structure.groups for member in group.members}


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_a_bert_has_its_output_layer_in_another_module() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    sizes: dict[str, Any] = {"hidden_size": 12, "intermediate_size": 20, "vocab_size": 11}
    config = BertConfig(num_hidden_layers=2, num_attention_heads=3, **sizes)
    model = BertForSequenceClassification(config).eval()
    words = torch.tensor([[1, 2, 3, 4]])
    structure = inspect_model(model, (words,))
    first = structure.attentions[0]
    assert first.name == "bert.encoder.layer.0.attention.self"
    assert first.output == "bert.encoder.layer.0.attention.output.dense"
    assert len(structure.attentions) == 2
    blocks = [block.name for block in structure.blocks]
    assert blocks == ["bert.encoder.layer.0", "bert.encoder.layer.1"]


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_a_cut_head_is_a_head_that_nothing_reads(name: str) -> None:
    data, model = data_for(name), opened(name)
    attentions = inspect_model(model, example_for(name)).attentions
    assert len(attentions) == 2
    (batch,) = data.batches("calibration")
    silent = deepcopy(model)
    for attention in attentions:
        kept = [0, 2]
        output = silent.get_submodule(attention.output)
        lost = columns_of(attention, output, set(range(attention.heads)) - set(kept))
        with torch.no_grad():
            output.weight[:, lost] = 0
        keep_heads(model, attention, kept)
    torch.testing.assert_close(model(*batch.args), silent(*batch.args), atol=1e-6, rtol=1e-4)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in silent.parameters())


@pytest.mark.parametrize("criterion", ["l1", "l2", "activation", "taylor", "wanda"])
@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_the_loud_heads_stay(name: str, criterion: HeadCriterion) -> None:
    """Heads whose weights are next to nothing are the first to go, by every criterion."""
    model = opened(name)
    attentions = inspect_model(model, example_for(name)).attentions
    for index, attention in enumerate(attentions):
        head = index + 1
        size = model.get_submodule(attention.output).in_features // attention.heads
        with torch.no_grad():
            for layer, parts in attention.packed().items():
                weight = model.get_submodule(layer).weight
                weight.view(parts, attention.heads, size, -1)[:, head] *= 1e-3
                if model.get_submodule(layer).bias is not None:
                    model.get_submodule(layer).bias.view(parts, attention.heads, -1)[:, head] = 0
            columns = columns_of(attention, model.get_submodule(attention.output), [head])
            model.get_submodule(attention.output).weight[:, columns] *= 1e-3
    before = deepcopy(model)
    share = Heads(1 / attentions[0].heads, criterion)
    wanted = {attention.name: share for attention in attentions}
    records, notes = prune_heads(model, attentions, wanted, statistics(before, name))
    assert notes == ()
    assert [(r.name, r.heads, r.removed_heads) for r in records] == [
        (a.name, a.heads - 1, 1) for a in attentions
    ]
    (batch,) = data_for(name).batches("calibration")
    torch.testing.assert_close(model(*batch.args), before(*batch.args), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["transformer", "own_attention"])
def test_repair_is_the_least_squares_solution(name: str) -> None:
    model = opened(name)
    attention = inspect_model(model, example_for(name)).attentions[0]
    (batch,) = data_for(name).batches("calibration")
    seen: list[Tensor] = []
    layer = model.get_submodule(attention.output)
    handle = layer.register_forward_hook(lambda m, i, o: seen.extend((i[0], o)))
    model(*batch.args)
    handle.remove()
    before, target = (x.detach().flatten(0, 1).double() for x in seen)
    plain, repaired = deepcopy(model), deepcopy(model)
    errors = []
    for pruned, repair in ((plain, False), (repaired, True)):
        step = {attention.name: Heads(0.5, repair=repair)}
        _, notes = prune_heads(pruned, [attention], step, statistics(model, name))
        assert notes == ()
        after: list[Tensor] = []
        output = pruned.get_submodule(attention.output)
        output.register_forward_hook(lambda m, i, o, after=after: after.extend((i[0], o)))
        pruned(*batch.args)
        errors.append(float((after[1].detach().flatten(0, 1).double() - target).square().mean()))
    inputs = torch.cat([after[0].detach().flatten(0, 1).double(), torch.ones(len(before), 1)], 1)
    best = torch.linalg.lstsq(inputs, target).solution
    least = float((inputs @ best - target).square().mean())
    assert least <= errors[1] < 1.1 * least
    assert errors[1] < 0.8 * errors[0]


def test_a_share_that_keeps_all_heads_is_noted() -> None:
    model = opened("transformer")
    attentions = inspect_model(model, example_for("transformer")).attentions
    step = {attentions[0].name: Heads(0.1), attentions[1].name: Heads(0.0)}
    state = deepcopy(model.state_dict())
    records, notes = prune_heads(model, attentions, step, statistics(model, "transformer"))
    assert records == ()
    assert notes == (f"{attentions[0].name}: all 4 heads kept, the nearest number to 3.6",)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("share", "notes"), [(0.1, 1), (0.4, 0), (0.7, 0)])
@pytest.mark.parametrize("rounds", [1, 3])
def test_a_policy_that_keeps_all_heads_is_told_so(share: float, notes: int, rounds: int) -> None:
    data = data_for("transformer")
    stack = Stack(build("transformer"), data)
    name = stack.structure.attentions[0].name
    policy = Policy(layers=(LayerPolicy(name, heads=Heads(share)),), rounds=Rounds(rounds))
    record = stack.apply(policy).record
    assert record.attentions[0].removed_heads == {0.1: 0, 0.4: 2, 0.7: 3}[share]
    assert sum("all 4 heads kept" in note for note in record.notes) == notes


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_half_precision(name: str) -> None:
    model = build(name, torch.bfloat16)
    open_attentions(model)
    example = example_for(name, torch.bfloat16)
    attentions = inspect_model(model, example).attentions
    assert len(attentions) == 2
    calibration = Calibration(data_for(name, torch.bfloat16))
    seen = Statistics(deepcopy(model), calibration, ContentCache())
    step = {a.name: Heads(0.5, "wanda", repair=True) for a in attentions}
    records, _ = prune_heads(model, attentions, step, seen)
    assert len(records) == 2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model(*example).isfinite().all()
