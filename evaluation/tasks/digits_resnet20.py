"""The default task: ResNet-20 on digits scaled to 32x32."""

from __future__ import annotations

from evaluation.tasks.digits_classifier import DigitsClassifier
from evaluation.tasks.resnet import ResNet20


class DigitsResNet20(DigitsClassifier):
    """A trained ResNet-20 and its digits."""

    name = "digits_resnet20"
    network = ResNet20
    pixels = 32
