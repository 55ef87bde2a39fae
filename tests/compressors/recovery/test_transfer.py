"""Hidden-feature and attention transfer: the distances, the projections, the choice of hints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]
from torch import nn

from compressors.errors import PolicyError
from compressors.policies.policy import Recovery
from compressors.pruning.depth import remove_blocks
from compressors.recovery.hints import Hint, chosen_hints, default_hints
from compressors.recovery.teacher import Teacher
from compressors.recovery.transfer import (
    RIDGE,
    Transfer,
    attention_distance,
    fitted,
    relative_error,
)
from compressors.structures.inspection import inspect_model
from tests.compressors.recovery.networks import Staged, Tokens, made, recovered, same
from tests.compressors.tiny import Dense, Images, Residual

BOTH = Recovery(epochs=2, learning_rate=1e-2, batch_size=16, features=1.0, attention=1.0)
BLOCKS = ("layer1.0", "layer1.1", "layer2.1")
EXAMPLE = (torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0)),)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 5), st.floats(0.01, 100))
def test_attention_distance_is_the_papers(seed: int, width: int, other: int, scale: float) -> None:
    student, teacher = drawn(seed, 3, width, 4, 2), drawn(seed + 1, 3, other, 4, 2)
    found = float(attention_distance(student, teacher, 1))
    maps = [np.square(x.numpy()).sum(axis=1).reshape(3, -1) for x in (student, teacher)]
    one, two = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps)
    assert found == pytest.approx(float((np.linalg.norm(one - two, axis=1) ** 2).mean()), abs=1e-5)
    assert 0 <= found <= 2
    assert float(attention_distance(student * scale, teacher, 1)) == pytest.approx(found, abs=1e-5)
    assert float(attention_distance(student, student, 1)) == 0


def test_attention_of_tokens_is_the_energy_of_each() -> None:
    student, teacher = drawn(0, 3, 6, 4), drawn(1, 3, 6, 8)
    maps = attention_distance(student.movedim(2, 1)[..., None], teacher.movedim(2, 1)[..., None], 1)
    torch.testing.assert_close(attention_distance(student, teacher, 2), maps)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.floats(0.01, 100))
def test_feature_distance_knows_no_scale(seed: int, scale: float) -> None:
    student, teacher = drawn(seed, 5, 3), drawn(seed + 1, 5, 3)
    found = float(relative_error(student, teacher))
    expected = float((student - teacher).pow(2).sum() / teacher.pow(2).sum())
    assert found == pytest.approx(expected, rel=1e-4)
    assert float(relative_error(student * scale, teacher * scale)) == pytest.approx(found, rel=1e-3)
    assert float(relative_error(student, torch.zeros(5, 3))) == pytest.approx(
        float(student.pow(2).mean()), rel=1e-4
    )


def test_projections_start_as_the_ridge_regression() -> None:
    rows, targets = drawn(0, 50, 4), drawn(1, 50, 6)
    weight, bias = fitted(rows, targets)
    centred = rows - rows.mean(0)
    alpha = RIDGE * float(centred.pow(2).sum()) / 4
    ridge = Ridge(alpha=alpha).fit(rows.numpy(), targets.numpy())
    np.testing.assert_allclose(weight.numpy(), ridge.coef_, atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), ridge.intercept_, atol=1e-5)
    dead, middle = fitted(torch.zeros(5, 4), targets[:5])
    assert torch.equal(dead, torch.zeros(6, 4))
    torch.testing.assert_close(middle, targets[:5].mean(0))


def test_a_teacher_is_at_no_distance_from_itself() -> None:
    data = Images()
    batch = next(iter(data.batches("train")))
    model = made(Residual)
    transfer = Transfer(model, Teacher(made(Residual), data), BOTH, BLOCKS, batch)
    with transfer.watching(model):
        model(batch.inputs)
        assert float(transfer.loss(batch).detach()) == 0
    assert not list(transfer.parameters())


def test_both_distances_shrink_and_projections_are_learned_but_not_kept() -> None:
    data, teacher, student = Images(), made(Staged, 8), made(Staged, 4, seed=5)
    batch = next(iter(data.batches("train", batch_size=64)))

    def apart(model: nn.Module, change: dict[str, float]) -> float:
        transfer = Transfer(model, Teacher(teacher, data), replace(BOTH, **change), (), batch)
        with transfer.watching(model), torch.no_grad():
            model(batch.inputs)
            return float(transfer.loss(batch))

    plain = replace(BOTH, epochs=6, weight=0.0, features=0.0, attention=0.0)
    alone, _ = recovered(student, data, plain, teacher)
    for change in ({"features": 1.0, "attention": 0.0}, {"features": 0.0, "attention": 1.0}):
        heavy = {name: 10 * value for name, value in change.items()}
        taught, _ = recovered(student, data, replace(plain, **heavy), teacher)
        assert apart(taught, change) < 0.8 * apart(alone, change)
        assert taught.state_dict().keys() == student.state_dict().keys()
        assert not taught.layer1._forward_hooks
        assert not teacher.layer1._forward_hooks


def test_projections_learn_with_the_student() -> None:
    data, student = Images(), made(Staged, 4)
    batch = next(iter(data.batches("train")))
    transfer = Transfer(student, Teacher(made(Staged, 8), data), BOTH, (), batch)
    with transfer.watching(student):
        student(batch.inputs)
        transfer.loss(batch).backward()
    assert len(list(transfer.parameters())) == 2 * 3
    for parameter in transfer.parameters():
        assert float(parameter.grad.abs().sum()) > 0
    assert float(student.layer2[0].conv2.weight.grad.abs().sum()) > 0


def test_hints_are_the_blocks_that_both_have() -> None:
    found = default_hints(made(Residual), made(Residual), BLOCKS, EXAMPLE, positions=True)
    assert found == tuple(Hint(name, name, 1) for name in BLOCKS)
    thinner = made(Residual)
    remove_blocks(thinner, ["layer1.1"], inspect_model(thinner, EXAMPLE))
    assert default_hints(thinner, made(Residual), BLOCKS, EXAMPLE) == found


def test_without_common_blocks_hints_are_the_outermost_modules_but_not_the_answer() -> None:
    staged = default_hints(made(Staged), made(Staged, 8), ("somewhere",), EXAMPLE)
    assert staged == tuple(Hint(name, name, 1) for name in ("conv", "layer1", "layer2"))
    tokens = default_hints(made(Tokens), made(Tokens, 16), (), EXAMPLE, positions=True)
    assert tokens == (Hint("embed", "embed", 2), Hint("encoder", "encoder", 2))
    flat = default_hints(made(Dense), made(Dense), (), (EXAMPLE[0].flatten(1),))
    assert [hint.student for hint in flat] == ["0", "2"]


def test_the_answer_of_a_wrapped_model_is_no_hint_either() -> None:
    wrapped = [nn.Sequential(nn.Sequential(made(Staged, width))) for width in (4, 8)]
    found = [hint.student for hint in default_hints(*wrapped, (), EXAMPLE)]
    assert found == ["0.0.conv", "0.0.layer1", "0.0.layer2"]


def test_hints_may_have_different_names() -> None:
    (hint,) = chosen_hints(made(Staged), made(Residual), ["layer2=layer2.1"], EXAMPLE)
    assert hint == Hint("layer2", "layer2.1", 1)


@pytest.mark.parametrize(
    ("hint", "sentence"),
    [
        ("layer9", "names 'layer9', but no module 'layer9' of the model gives a tensor; valid:"),
        ("layer1=layer9", "no module 'layer9' of the teacher gives a tensor; valid: .*layer1"),
        ("=layer1", "no module '' of the model"),
        ("layer1=layer2", r"\(16, 4, 8, 8\) and \(16, 16, 4, 4\) do not agree in all but width"),
        ("fc", r"\(16, 3\) and \(16, 3\) do not agree in all but width and have positions"),
    ],
)
def test_hints_that_match_nothing_are_refused_before_training(hint: str, sentence: str) -> None:
    settings = replace(BOTH, hints=(hint,))
    with pytest.raises(PolicyError, match=sentence):
        recovered(made(Staged), Images(), settings, made(Staged, 8))


def test_models_that_share_no_hint_are_refused() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    with pytest.raises(PolicyError, match=r"none in common .* valid: .* student=teacher of \(conv"):
        recovered(made(Staged), Images(), BOTH, other)


@pytest.mark.parametrize("kind", [Staged, Tokens])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_dtype_learns_by_transfer_and_deterministically(
    kind: type[nn.Module], dtype: torch.dtype
) -> None:
    data = Images(dtype=dtype)
    teacher, student = made(kind, 16).to(dtype), made(kind, 8).to(dtype)
    state = torch.get_rng_state()
    first, record = recovered(student, data, BOTH, teacher)
    second, _ = recovered(student, data, BOTH, teacher)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, second)
    assert record.losses[1] < record.losses[0]
    assert {parameter.dtype for parameter in first.parameters()} == {dtype}
