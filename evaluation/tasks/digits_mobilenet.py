"""A depthwise network as a task: MobileNet on digits scaled to 16x16."""

from __future__ import annotations

from evaluation.tasks.digits_classifier import DigitsClassifier
from evaluation.tasks.mobilenet import MobileNet


class DigitsMobileNet(DigitsClassifier):
    """A trained MobileNet and its digits."""

    name = "digits_mobilenet"
    network = MobileNet
    pixels = 16
