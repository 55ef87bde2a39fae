"""An opened attention is the closed one: its outputs, its weights, in torch's layers, exported."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compressors.structures.attention import OpenAttention, open_attentions

WIDTH, HEADS, SAMPLES, QUERIES, KEYS = 8, 2, 3, 4, 5
flags = st.booleans()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(**options: Any) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        closed = nn.ModuleDict({"a": nn.MultiheadAttention(WIDTH, HEADS, **options)}).eval()
        for name, parameter in closed.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    opened = deepcopy(closed)
    assert open_attentions(opened) == ("a",)
    return closed["a"], opened["a"]


def attention_mask(kind: str, samples: int, keys: int) -> Tensor | None:
    if kind == "none":
        return None
    shape = (samples * HEADS, QUERIES, keys) if "3" in kind else (QUERIES, keys)
    mask = drawn(*shape, seed=2)
    if "bool" not in kind:
        return mask
    forbidden = mask > 0.5
    forbidden[..., 0] = False
    return forbidden


@settings(deadline=None, max_examples=60)
@given(
    batch_first=flags,
    bias=flags,
    narrow=flags,
    batched=flags,
    need_weights=flags,
    average=flags,
    kind=st.sampled_from(["none", "2 bool", "2 float", "3 bool", "3 float", "causal"]),
    padding=st.sampled_from(["none", "bool", "float"]),
)
def test_outputs_and_weights_are_those_of_the_closed_one(
    batch_first: bool,
    bias: bool,
    narrow: bool,
    batched: bool,
    need_weights: bool,
    average: bool,
    kind: str,
    padding: str,
) -> None:
    assume(kind == "none" or padding == "none" or (padding in kind) or kind == "causal")
    sizes = {"kdim": 6, "vdim": 7} if narrow else {}
    closed, opened = both(batch_first=batch_first, bias=bias, **sizes)
    keys = QUERIES if kind == "causal" else KEYS
    inputs = [
        drawn(SAMPLES, QUERIES, WIDTH, seed=3),
        drawn(SAMPLES, keys, sizes.get("kdim", WIDTH), seed=4),
        drawn(SAMPLES, keys, sizes.get("vdim", WIDTH), seed=5),
    ]
    if not batched:
        inputs = [x[0] for x in inputs]
    elif not batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    pad = None
    if padding != "none":
        pad = drawn(*((SAMPLES, keys) if batched else (keys,)), seed=6)
        pad = pad > 1 if padding == "bool" else pad
        pad[..., 0] = False
    if kind == "causal":
        mask = nn.Transformer.generate_square_subsequent_mask(QUERIES)
        mask = mask == -torch.inf if padding == "bool" else mask
    else:
        mask = attention_mask(kind, SAMPLES if batched else 1, keys)
    options = {
        "key_padding_mask": pad,
        "need_weights": need_weights,
        "attn_mask": mask,
        "average_attn_weights": average,
        "is_causal": kind == "causal",
    }
    expected, weights = closed(*inputs, **options)
    found, its_weights = opened(*inputs, **options)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert found.isfinite().all()
    assert (weights is None) == (its_weights is None) == (not need_weights)
    if weights is not None:
        torch.testing.assert_close(its_weights, weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_and_gradients_are_those_of_the_closed_one(need_weights: bool) -> None:
    closed, opened = both(dropout=0.4, batch_first=True)
    x = drawn(SAMPLES, QUERIES, WIDTH)
    outputs = []
    for module in (closed.train(), opened.train()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            outputs.append(module(x, x, x, need_weights=need_weights)[0])
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0])
    gradients = [opened.get_submodule(f"{k}_proj").weight.grad for k in "qkv"]
    torch.testing.assert_close(torch.cat(gradients), closed.in_proj_weight.grad)


def test_what_cannot_be_opened_equally_stays_closed() -> None:
    class Own(nn.MultiheadAttention):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    one, two = nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2)
    two.in_proj_weight = one.in_proj_weight
    model = nn.ModuleDict(
        {
            "biased": nn.MultiheadAttention(8, 2, add_bias_kv=True),
            "zeros": nn.MultiheadAttention(8, 2, add_zero_attn=True),
            "own": Own(8, 2),
            "one": one,
            "two": two,
            "plain": nn.MultiheadAttention(8, 2),
            "other": nn.MultiheadAttention(8, 2),
        }
    )
    assert open_attentions(model, ["own", "plain", "zeros"]) == ("plain",)
    assert open_attentions(model) == ("other",)


def test_state_dtype_and_frozen_weights_are_kept() -> None:
    model = nn.ModuleList([nn.MultiheadAttention(8, 2)]).to(torch.bfloat16)
    model[0].in_proj_weight.requires_grad_(False)
    count = sum(parameter.numel() for parameter in model.parameters())
    open_attentions(model)
    found = dict(model.named_parameters())
    assert sum(parameter.numel() for parameter in found.values()) == count
    assert {parameter.dtype for parameter in found.values()} == {torch.bfloat16}
    assert not found["0.q_proj.weight"].requires_grad
    assert found["0.out_proj.weight"].requires_grad
    again = deepcopy(model)
    again.load_state_dict(model.state_dict())


class Translator(nn.Module):
    """Torch's encoder and decoder, with padding and a causal mask."""

    def __init__(self, batch_first: bool, norm_first: bool) -> None:
        super().__init__()
        options = {"batch_first": batch_first, "norm_first": norm_first, "dropout": 0.0}
        self.transformer = nn.Transformer(8, 2, 2, 2, 16, **options)
        self.batch_first = batch_first

    def forward(self, source: Tensor, target: Tensor, padding: Tensor) -> Tensor:
        if not self.batch_first:
            source, target = source.transpose(0, 1), target.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(4)
        y = self.transformer(
            source, target, tgt_mask=mask, src_key_padding_mask=padding, tgt_is_causal=True,
            memory_key_padding_mask=padding,
        )  # fmt: skip
        return y if self.batch_first else y.transpose(0, 1)


@pytest.mark.filterwarnings("ignore:.*nested:UserWarning")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@torch.no_grad()
def test_it_behaves_inside_torchs_transformer(batch_first: bool, norm_first: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        closed = Translator(batch_first, norm_first).eval()
    opened = deepcopy(closed)
    assert len(open_attentions(opened)) == 2 + 2 * 2
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    args = drawn(2, 5, 8, seed=1), drawn(2, 4, 8, seed=2), padding
    torch.testing.assert_close(opened(*args), closed(*args), atol=2e-6, rtol=1e-5)
    called = []
    for module in opened.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda m, i, o: called.append(m))
    opened(*args)
    assert len(called) == sum(isinstance(m, nn.Linear) for m in opened.modules())


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_mask_for_every_head_is_that_of_the_heads_that_stay(need_weights: bool) -> None:
    _, opened = both(batch_first=True)
    x = drawn(SAMPLES, QUERIES, WIDTH)
    mask = drawn(SAMPLES * HEADS, QUERIES, QUERIES, seed=1)
    with torch.no_grad():
        opened.out_proj.weight[:, :4] = 0
    expected = opened(x, x, x, attn_mask=mask, need_weights=need_weights)[0]
    for layer in (opened.q_proj, opened.k_proj, opened.v_proj):
        layer.weight = nn.Parameter(layer.weight[4:])
        layer.bias = nn.Parameter(layer.bias[4:])
    opened.out_proj.weight = nn.Parameter(opened.out_proj.weight[:, 4:])
    opened.keep([1])
    found = opened(x, x, x, attn_mask=mask, need_weights=need_weights)[0]
    torch.testing.assert_close(found, expected)


class Exported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pool = nn.MultiheadAttention(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x, mask=torch.triu(torch.ones(4, 4, dtype=torch.bool), 1))
        return self.pool(x[:, :1], x, x)[0]


@pytest.mark.filterwarnings("ignore")
def test_it_is_exported_and_runs_in_onnx_runtime(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Exported().eval()
    open_attentions(model)
    assert sum(isinstance(m, OpenAttention) for m in model.modules()) == 3
    x = drawn(3, 4, 8)
    path = str(tmp_path / "model.onnx")
    axes = {"x": {0: "batch"}}
    torch.onnx.export(
        model, (x[:1],), path, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=17
    )
    (found,) = ort.InferenceSession(path).run(None, {"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(x).numpy(), atol=1e-5)
