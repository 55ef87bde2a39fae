"""A small structure and capability table to build spaces from."""

from __future__ import annotations

from compressors.structures.structure import Block, ChannelGroup, Layer, Structure
from evaluation.target import FLOAT, INT8, Capability


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
