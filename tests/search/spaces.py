"""Two small structures and capability tables to build spaces from."""

from __future__ import annotations

from compressors.structures.structure import Attention, Block, ChannelGroup, Layer, Structure
from evaluation.target import FLOAT, INT8, Capability, Precision


def conv(name: str, inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> Layer:
    weights = inputs // groups * outputs * kernel * kernel
    return Layer(name, "conv2d", inputs, outputs, (kernel, kernel), groups, weights, weights)


LAYERS = (
    conv("stem", 3, 16),
    conv("layer1.0.conv1", 16, 16),
    conv("layer1.0.conv2", 16, 16),
    conv("layer1.1.conv1", 16, 16),
    conv("layer1.1.conv2", 16, 16),
    conv("depthwise", 16, 16, groups=16),
    Layer("fc", "linear", 16, 10, (1, 1), 1, 160, 160),
)
GROUPS = (
    ChannelGroup("stem", 16, ("stem", "layer1.0.conv2", "layer1.1.conv2", "depthwise")),
    ChannelGroup("layer1.0.conv1", 16, ("layer1.0.conv1",)),
    ChannelGroup("layer1.1.conv1", 16, ("layer1.1.conv1",)),
)
BLOCKS = (
    Block("layer1.0", ("layer1.0.conv1", "layer1.0.conv2")),
    Block("layer1.1", ("layer1.1.conv1", "layer1.1.conv2")),
)
STRUCTURE = Structure(LAYERS, GROUPS, BLOCKS)
CAPABILITY = Capability({"linear": (FLOAT, INT8), "conv2d": (FLOAT, INT8)}, channel_multiple=4)

PARTS = ("query", "key", "value", "output")
TRANSFORMER = Structure(
    layers=(
        Layer("table", "embedding", 100, 32, (), 1, 3200, 0),
        *(Layer(f"attn.{part}", "linear", 32, 32, (), 1, 1024, 1024) for part in PARTS),
        Layer("mlp.up", "linear", 32, 64, (), 1, 2048, 2048),
        Layer("mlp.down", "linear", 64, 32, (), 1, 2048, 2048),
    ),
    groups=(ChannelGroup("mlp.up", 64, ("mlp.up",)),),
    blocks=(Block("mlp", ("mlp.up", "mlp.down")),),
    attentions=(Attention("attn", 8, *(f"attn.{part}" for part in PARTS)),),
)
# A target that gains by fewer bits and by 2:4, and only simulates rounded activations.
STORED = tuple(Precision(bits, None) for bits in (8, 4, 2, 1))
STORAGE = Capability(
    {"linear": (FLOAT, *STORED, INT8), "conv2d": (FLOAT, *STORED), "embedding": (FLOAT, *STORED)},
    functions={"symmetric": (8, 4, 2), "kmeans": (8, 4, 2, 1), "ternary": (2,)},
    granularities=("channel", "tensor", "group"),
    patterns=("2:4",),
    integer_activations=False,
)
