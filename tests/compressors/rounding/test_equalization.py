from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.quantization.equalization import equalize
from tests.compressors.tiny import Residual, seeded


def made(build: Callable[[], nn.Module], seed: int = 0, spread: float = 1.5) -> nn.Module:
    """A model whose batch norms have seen something, and whose channels differ wildly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
                module.running_mean.normal_()
                module.running_var.uniform_(0.1, 3)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                    factors = torch.exp(spread * torch.randn(len(module.weight)))
                    module.weight *= factors.view(-1, *[1] * (module.weight.dim() - 1))
    return model


def layers_of(model: nn.Module) -> list[str]:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def evened(
    model: nn.Module, x: Tensor, layers: list[str] | None = None
) -> tuple[tuple[tuple[str, str], ...], nn.Module]:
    """The pairs and the equalised copy, whose outputs on all of x are the model's."""
    copy = deepcopy(model)
    pairs = equalize(copy, (x[:1],), layers_of(model) if layers is None else layers)
    with torch.no_grad():
        before, after = model(x).double(), copy(x).double()
    largest = float(before.abs().max())
    bound = 2e-2 if x.dtype == torch.bfloat16 else 2e-5
    assert float((before - after).abs().max()) <= bound * largest
    return pairs, copy


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, groups=8, padding=1),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(),
        nn.Dropout(),
        nn.Conv2d(16, 12, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12 * 4, 10),
        nn.Identity(),
        nn.Linear(10, 5),
    )


IMAGES = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def ranges_between(model: nn.Module, first: str, second: str) -> tuple[Tensor, Tensor]:
    """Of the channels between two plain layers without groups."""
    rows = model.get_submodule(first).weight.detach().flatten(1).abs().amax(1)
    columns = model.get_submodule(second).weight.detach().flatten(2 - 1).abs().amax(0)
    return rows, columns.view(len(rows), -1).amax(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_chain_computes_what_it_did(dtype: torch.dtype) -> None:
    model = made(chain).to(dtype)
    pairs, copy = evened(model, IMAGES.to(dtype))
    assert pairs == (("0", "3"), ("3", "7"), ("7", "11"), ("11", "13"))
    assert all(p.dtype == dtype for p in copy.parameters())
    assert not torch.equal(model[0].weight, copy[0].weight)


def test_half_precision_weights_keep_every_bit() -> None:
    model = made(lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))).bfloat16()
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    pairs, copy = evened(model, x)
    assert pairs == (("0", "2"),)
    assert torch.equal(model(x), copy(x))


def test_ranges_are_even_where_layers_are_plain() -> None:
    model = made(
        lambda: nn.Sequential(
            nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)
        )
    )
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    _, copy = evened(model, x)
    for first, second in (("0", "2"), ("2", "4")):
        rows, columns = ranges_between(copy, first, second)
        assert torch.allclose(rows, columns, rtol=5e-3)


def test_flattened_channels_are_scaled_in_all_their_positions() -> None:
    model = made(
        lambda: nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    )
    pairs, copy = evened(model, IMAGES)
    assert pairs == (("0", "3"),)
    assert torch.allclose(*ranges_between(copy, "0", "3"), rtol=5e-3)


def rounded_per_tensor(model: nn.Module, bits: int) -> nn.Module:
    """Every weight rounded to one scale a layer; batch norms folded first, as exporters do."""
    copy = deepcopy(model)
    for module in copy.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            weight = module.weight.data
            scale = weight.abs().max() / (2 ** (bits - 1) - 1)
            module.weight.data = (weight / scale).round() * scale
    return copy


def folded(model: nn.Sequential) -> nn.Sequential:
    modules: list[nn.Module] = []
    for module in deepcopy(model):
        if isinstance(module, nn.BatchNorm2d):
            modules[-1] = nn.utils.fuse_conv_bn_eval(modules[-1], module)
        else:
            modules.append(module)
    return nn.Sequential(*modules)


def normed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 8, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


@torch.no_grad()
def uneven(seed: int) -> nn.Sequential:
    """A well-behaved network, its channels scaled wildly in ways that cancel out."""
    model = made(normed, seed, spread=0.0)
    generator = torch.Generator().manual_seed(seed)
    for first, norm, second in ((0, 1, 3), (3, 4, 6)):
        nn.init.uniform_(model[norm].weight, 0.5, 1.5, generator=generator)
        rows, factors = torch.exp(1.5 * torch.randn(2, 16, generator=generator))
        model[first].weight *= rows.view(-1, 1, 1, 1)
        model[norm].running_mean *= rows
        model[norm].running_var *= rows**2
        model[norm].weight *= factors
        model[norm].bias *= factors
        depthwise = model[second].groups > 1
        model[second].weight /= factors.view((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))
    return model


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("fold", [False, True])
def test_one_scale_a_layer_loses_less(bits: int, fold: bool) -> None:
    errors = []
    for seed in range(4):
        model = uneven(seed)
        pairs, copy = evened(model, IMAGES)
        assert pairs == (("0", "3"), ("3", "6"), ("6", "10"))
        prepare = folded if fold else deepcopy
        with torch.no_grad():
            wanted = model(IMAGES)
            given, even = (
                (rounded_per_tensor(prepare(m), bits)(IMAGES) - wanted).square().mean().sqrt()
                / wanted.std()
                for m in (model, copy)
            )
        errors.append((float(given), float(even)))
    before, after = torch.tensor(errors).log().mean(0).exp()
    assert after < (0.25 if bits == 8 else 0.6) * before


def test_a_norms_gain_and_statistics_agree_when_it_trains_on() -> None:
    """In training mode, too, the norm's output is the factors' alone: statistics scale along."""
    model = made(lambda: nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)))
    copy = deepcopy(model)
    assert equalize(copy, (IMAGES[:1],), ["0", "2"])
    assert torch.allclose(model.train()(IMAGES), copy.train()(IMAGES), atol=1e-3, rtol=1e-3)


class Between(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.second = nn.Conv2d(width, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.other = nn.Conv2d(6, 6, 1)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self._between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self._between(self, self.first(x)))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * torch.sigmoid(x)


def keep(m: nn.Module, y: Tensor) -> Tensor:
    m.seen = (y,)
    return F.relu(y)


REFUSED: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "relu6": lambda m, y: F.relu6(y),
    "gelu": lambda m, y: F.gelu(y),
    "silu": lambda m, y: F.silu(y),
    "hardtanh": lambda m, y: y.clamp(-1, 1),
    "residual": lambda m, y: y + F.relu(y),
    "residual in place": lambda m, y: F.relu(y, inplace=True).add_(y),
    "residual of the result": lambda m, y: (lambda z: z + F.avg_pool2d(z, 3, 1, 1))(F.relu(y)),
    "gate": lambda m, y: y * y.mean((2, 3), keepdim=True).sigmoid(),
    "own function": lambda m, y: Swish.apply(y),
    "two readers": lambda m, y: F.relu(y) * float(y.mean()),
    "shape of a view": lambda m, y: F.relu(y) + y.data.sum(),
    "offset": lambda m, y: F.relu(y + 1),
    "padding that is not zero": lambda m, y: F.pad(y, (1, 1, 1, 1), value=1.0),
    "shuffle": lambda m, y: y.flip(1),
    "other axis": lambda m, y: y.transpose(1, 2).contiguous(),
    "norm twice": lambda m, y: m.norm(m.norm(y)),
    "derived norm": lambda m, y: F.batch_norm(
        y, m.norm.running_mean, m.norm.running_var, m.scale * 2, m.norm.bias
    ),
    "layer norm": lambda m, y: F.layer_norm(y, y.shape[1:]),
    "instance norm": lambda m, y: F.instance_norm(y),
    "softmax": lambda m, y: y.softmax(1),
    "weight read elsewhere": lambda m, y: F.relu(y) * m.first.weight.norm(),
    "bias read elsewhere": lambda m, y: F.relu(y) + m.first.bias.sum(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_factor_can_be_drawn_through_is_left_alone(name: str) -> None:
    model = made(lambda: Between(REFUSED[name]))
    pairs, copy = evened(model, IMAGES, ["first", "second"])
    assert pairs == ()
    for key, value in model.state_dict().items():
        assert torch.equal(value, copy.state_dict()[key])


ALLOWED: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "nothing": lambda m, y: y,
    "relu": lambda m, y: torch.relu(y),
    "relu in place": lambda m, y: y.relu_(),
    "leaky": lambda m, y: F.leaky_relu(y, 0.2),
    "norm": lambda m, y: F.relu(m.norm(y)),
    "pools": lambda m, y: F.avg_pool2d(F.max_pool2d(y, 2), 3, 1, 1),
    "padding": lambda m, y: F.pad(y, (1, 1, 1, 1)),
    "a look at the shape": lambda m, y: F.relu(y) if y.shape[0] and y.size(1) and y.dim() else y,
    "reshaped and back": lambda m, y: y.view(len(y), 6, -1).view(len(y), 6, 6, 6),
    "in training only": lambda m, y: F.dropout(y, 0.5, m.training),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_factor_can_be_drawn_through_is_evened(name: str) -> None:
    pairs, _ = evened(made(lambda: Between(ALLOWED[name])), IMAGES, ["first", "second"])
    assert pairs == (("first", "second"),)


def test_a_layer_that_is_not_named_is_left_alone() -> None:
    model = made(chain)
    pairs, copy = evened(model, IMAGES, ["0", "7", "11"])
    assert pairs == (("7", "11"),)
    for untouched in ("0", "1", "3", "4", "13"):
        for key, value in model.get_submodule(untouched).state_dict().items():
            assert torch.equal(value, copy.get_submodule(untouched).state_dict()[key])


def test_layers_that_run_twice_or_share_a_weight_are_left_alone() -> None:
    twice = made(lambda: Between(lambda m, y: m.other(m.other(y))))
    assert evened(twice, IMAGES)[0] == ()
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    assert evened(tied, torch.randn(3, 4))[0] == ()


def test_what_a_model_gives_away_is_not_scaled() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.first(x).relu()
            return y, self.second(y)

    model = Both()
    assert equalize(model, (torch.randn(1, 4),), ["first", "second"]) == ()


def test_in_a_residual_network_only_the_insides_of_blocks_are_paired() -> None:
    model = seeded(Residual)
    pairs, _ = evened(model, torch.randn(5, 2, 8, 8))
    assert [second for _, second in pairs] == [
        f"layer{i}.{j}.conv2" for i in (1, 2) for j in (0, 1)
    ]


def test_channels_that_are_off_stay_off() -> None:
    model = made(normed)
    with torch.no_grad():
        model[1].weight[2] = 0
        model[3].weight[5] = 0
        model[6].weight[:, 7] = 0
        model[6].weight[4] = 0
    pairs, copy = evened(model, IMAGES)
    assert len(pairs) == 3
    assert all(bool(p.isfinite().all()) for p in copy.parameters())
    assert not copy[3].weight[5].any()


def test_tokens_are_features_in_the_last_dimension() -> None:
    model = made(lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))
    pairs, _ = evened(model, torch.randn(2, 5, 8))
    assert pairs == (("0", "2"),)


class Steps(nn.Module):
    """A chain of steps drawn at random."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps
        width, self.layers, self.norms = 2, nn.ModuleList(), nn.ModuleList()
        for step in steps:
            if step.startswith("conv"):
                groups = {"conv": 1, "conv grouped": 2, "conv depthwise": width}[step]
                wide = width if groups == 1 else 2 * width if width < 16 else width
                self.layers.append(nn.Conv2d(width, wide + 2 * (groups == 1), 3, 1, 1, 1, groups))
                width = self.layers[-1].out_channels
            elif step == "norm":
                self.norms.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        layers, norms = iter(self.layers), iter(self.norms)
        for step in self.steps:
            x = self._step(step, x, layers, norms)
        return x

    def _step(self, step: str, x: Tensor, layers, norms) -> Tensor:
        if step.startswith("conv"):
            return next(layers)(x)
        if step == "norm":
            return next(norms)(x)
        plain = {
            "relu": F.relu,
            "gelu": F.gelu,
            "pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
            "residual": lambda x: x + F.relu(x),
        }
        return plain[step](x)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.sampled_from(
            [
                *("conv", "conv grouped", "conv depthwise", "norm"),
                *("relu", "gelu", "pool", "residual"),
            ]
        ),
        max_size=9,
    ),
    seed=st.integers(0, 100),
)
def test_any_chain_computes_what_it_did(steps: list[str], seed: int) -> None:
    model = made(lambda: Steps(steps), seed).double()
    copy = deepcopy(model)
    equalize(copy, (IMAGES[:1].double(),), layers_of(model))
    with torch.no_grad():
        before, after = model(IMAGES.double()), copy(IMAGES.double())
    assert torch.allclose(before, after, rtol=1e-8, atol=1e-8 * float(before.abs().max()))
