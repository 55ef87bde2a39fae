"""Our integer layers beside torchao's int8 tensors: the same integers in, the same numbers out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.quantization.layers import LayerQuantization, describe
from compressors.stack import apply
from evaluation.targets.torch_device.integers import IntegerLinear
from evaluation.targets.torch_device.rounding import MIDDLE, Product
from tests.evaluation.test_integer_kernels import Given, seeded

torchao = pytest.importorskip("torchao.quantization")

WIDTH = 24
STATIC = Quantize(8, 8)
DYNAMIC = Quantize(8, 8, dynamic=True)
BY_ROW = Quantize(8, 8, dynamic=True, by_row=True)


class Layer(nn.Module):
    """A linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 16)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(x)
        return scores


def theirs(facts: LayerQuantization, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """torchao's layer of the same integers and scales."""
    from torchao.quantization.quant_primitives import MappingType
    from torchao.quantization.quantize_.workflows.int8.int8_tensor import (
        Int8Tensor,
        QuantizeTensorToInt8Kwargs,
    )

    assert facts.weight_integers is not None
    assert facts.weight_scales is not None
    symmetric = MappingType.SYMMETRIC if facts.by_row else MappingType.ASYMMETRIC
    size = torchao.PerRow() if facts.by_row else torchao.PerTensor()
    fixed: dict[str, Tensor] = {}
    if facts.scale is not None and facts.zero_point is not None:
        zero = torch.full((1, 1, 1), facts.zero_point - MIDDLE, dtype=torch.int8)
        scale = torch.full((1, 1, 1), facts.scale)
        fixed = {"act_quant_scale": scale, "act_quant_zero_point": zero}
    weight = Int8Tensor(
        facts.weight_integers,
        facts.weight_scales[:, None],
        [1, WIDTH],
        torch.float32,
        act_quant_kwargs=QuantizeTensorToInt8Kwargs(granularity=size, mapping_type=symmetric),
        **fixed,
    )
    return lambda x: F.linear(x, weight, bias)


@pytest.mark.parametrize("step", [STATIC, DYNAMIC, BY_ROW])
@pytest.mark.parametrize("product", [Product(unsigned=True), Product(), Product(multiple=8)])
def test_a_layer_is_torchaos(step: Quantize, product: Product) -> None:
    """Rows' largest numbers are positive: theirs, times 1 / scale, may round -127.5 to -127."""
    given = Given(seeded(Layer), (3, WIDTH))
    given.inputs[..., 0] = 5.0
    model = apply(given.model(), Policy(layers=(LayerPolicy("fc", quantize=step),)), given)
    layer, facts = given.model().fc, describe(model.module)["fc"]
    expected = theirs(facts, layer.bias.detach())(given.inputs.clone())
    found = IntegerLinear(layer, facts, product)(given.inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, model.module(given.inputs), rtol=1e-5, atol=1e-5)
