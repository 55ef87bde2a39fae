"""The smallest task: the classic 784-200-10 perceptron, on digits scaled to 28x28."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from evaluation.tasks.digits_classifier import DigitsClassifier


class Perceptron(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 200)
        self.fc2 = nn.Linear(200, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        scores: Tensor = self.fc2(relu(self.fc1(x)))
        return scores


class DigitsMLP(DigitsClassifier):
    """A trained perceptron and its digits."""

    name = "digits_mlp"
    network = Perceptron
    pixels = 28
    flat = True
