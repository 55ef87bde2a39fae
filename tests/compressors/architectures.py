"""Small models of every family that the compressors' tests go through, and data for each.

Five architectures (a plain CNN, a ResNet, one like MobileNetV2, one like DenseNet, a transformer
encoder) and some more that have what those lack: other kinds of layers, tied weights, modules
called twice, attentions that users wrote. `build` gives one with fixed weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.data import Batch, Data, Split
from tests.compressors.tiny import SIZES, Images, Residual

WORDS = 11


class Plain(nn.Sequential):
    """Convolutions with batch norms, pooled twice, flattened into linear layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(48, 16),
            nn.ReLU(),
            nn.Linear(16, 3),
        )


class Inverted(nn.Module):
    """An inverted residual: wider, depthwise, narrow again, and its input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 3) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class Mobile(nn.Module):
    """A MobileNetV2 of two strides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(2, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6(inplace=True)
        )
        self.blocks = nn.Sequential(
            Inverted(6, 6), Inverted(6, 10, 2), Inverted(10, 10), Inverted(10, 10)
        )
        self.last = nn.Sequential(
            nn.Conv2d(10, 20, 1, bias=False), nn.BatchNorm2d(20), nn.ReLU6(inplace=True)
        )
        self.classifier = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.last(self.blocks(self.stem(x))), 1)
        return self.classifier(x.flatten(1))


class DenseLayer(nn.Module):
    """Norm, activation, convolution; its outputs are put beside its inputs."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], dim=1)


class DenseNet(nn.Module):
    """Two dense blocks with a transition between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.dense1 = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1, bias=False), nn.AvgPool2d(2)
        )
        self.dense2 = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4))
        self.norm = nn.BatchNorm2d(16)
        self.classifier = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense2(self.transition(self.dense1(self.stem(x))))
        return self.classifier(F.relu(self.norm(x)).mean(dim=(2, 3)))


class Encoder(nn.Module):
    """Patches of 2 x 2 as tokens, a class token, torch's own pre-norm layers."""

    def __init__(self, width: int = 16, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, width, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.2)
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.2)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, 0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.encoder(x)[:, 0]))


class Cardinal(nn.Module):
    """A bottleneck whose middle convolution is in groups, as ResNeXt's."""

    def __init__(self, inputs: int, outputs: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        inner = outputs
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ResNeXt(nn.Module):
    """Three blocks of four groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.blocks = nn.Sequential(Cardinal(8, 16, 4), Cardinal(16, 16, 4), Cardinal(16, 32, 4, 2))
        self.classifier = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        return self.classifier(x.mean(dim=(2, 3)))


class Signal(nn.Module):
    """Convolutions along rows: an image's channels and lines are its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(16, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(12)
        self.conv2 = nn.Conv1d(12, 10, 3, stride=2)
        self.fc = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv1(x.flatten(1, 2))))
        return self.fc(F.relu(self.conv2(x)).mean(dim=2))


class Decoder(nn.Module):
    """Down and up again, with a skip that is concatenated: an answer for every pixel, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 10, 3, 2, 1)
        self.up = nn.ConvTranspose2d(10, 8, 2, 2)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Conv2d(14, 8, 3, padding=1)
        self.pixels = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        y = F.relu(self.norm(self.up(F.relu(self.down(x)))))
        return self.pixels(F.relu(self.mix(torch.cat([x, y], dim=1)))).mean(dim=(2, 3))


class Tied(nn.Module):
    """Words to words: an embedding whose table is the output layer's, and a layer run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.twice = nn.Linear(8, 8)
        self.up = nn.Linear(8, 12)
        self.down = nn.Linear(12, 8)
        self.output = nn.Linear(8, WORDS, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.embedding(words).mean(dim=1)
        x = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        return self.output(self.down(F.relu(self.up(x))))


class OwnAttention(nn.Module):
    """An attention as people write it: three layers in, views and transposes, one layer out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = width // heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        weights = (q @ k.transpose(-2, -1) / self.head_dim**0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.num_heads, -1).transpose(1, 2)


class PackedAttention(nn.Module):
    """An attention with one layer for queries, keys and values, as timm's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = width // heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, length, self.num_heads * self.head_dim))


class OwnBlock(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, attention: nn.Module, width: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class OwnTransformer(nn.Module):
    """Columns as tokens, one layer with separate projections and one with packed ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 12)
        self.blocks = nn.Sequential(
            OwnBlock(OwnAttention(12, 3), 12), OwnBlock(PackedAttention(12, 3), 12)
        )
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.embed(x.flatten(1, 2).transpose(1, 2)))
        return self.head(self.norm(x.mean(dim=1)))


class HuggingVit(nn.Module):
    """A `transformers` ViT of two layers, returning logits alone."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=24,
            image_size=8,
            patch_size=2,
            num_channels=2,
            num_labels=3,
        )
        self.vit = ViTForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(x).logits


FIVE: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "resnet": Residual,
    "mobilenet": Mobile,
    "densenet": DenseNet,
    "transformer": Encoder,
}
ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    **FIVE,
    "resnext": ResNeXt,
    "conv1d": Signal,
    "decoder": Decoder,
    "tied": Tied,
    "own_attention": OwnTransformer,
}
if find_spec("transformers") is not None:
    ARCHITECTURES["huggingface"] = HuggingVit


class Words:
    """Five words in, one word out: the first."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(11)
        self._words = {
            split: torch.randint(0, WORDS, (size, 5), generator=generator)
            for split, size in SIZES.items()
        }

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        words = self._words[split]
        order = torch.arange(len(words))
        if seed is not None:
            order = torch.randperm(len(words), generator=torch.Generator().manual_seed(seed))
        for part in order.split(batch_size or 16):
            yield Batch(words[part], words[part, 0], part)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)


def data_for(name: str, dtype: torch.dtype = torch.float32) -> Data:
    """Data that the architecture of that name takes."""
    return Words() if name == "tied" else Images(dtype=dtype)


def example_for(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """One calibration sample, as the model's positional inputs."""
    batch = next(iter(data_for(name, dtype).batches("calibration", batch_size=1)))
    return batch.args


def build(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The architecture with fixed weights, and norms that have seen something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = ARCHITECTURES[name]()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean = torch.randn(module.num_features) * 0.1
                module.running_var = torch.rand(module.num_features) + 0.5
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
            elif isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
    return model.eval().to(dtype)
