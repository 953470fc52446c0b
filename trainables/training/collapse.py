"""Detects a trial that is certain to be useless: its network predicts one class and its loss is that of guessing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainables.attacks.base import BATCH_SIZE
from trainables.models.modes import mode
from trainables.spec import TrainingSpec

MARGIN = 0.02
"""How far below log K, in nats, an epoch's loss still counts as that of guessing one of K classes."""

SUCCESSIVE = 3
"""Epochs in a row after which the network must have predicted one class: training can leave a plateau late."""


class CollapseWatch:
    """Counts the epochs in a row after which the network had collapsed.

    Args:
        training: How the trial is trained.
        num_classes: K.

    Attributes:
        collapsed: The count; part of the trial's state.
    """

    def __init__(self, training: TrainingSpec, /, *, num_classes: int) -> None:
        self._training = training
        self._guessing = math.log(num_classes) - MARGIN
        self.collapsed = 0

    def reason(self, model: nn.Module, images: Tensor, /, *, epoch: int, loss: float) -> str | None:
        """Return why the trial ends after this epoch, or None if it goes on.

        Args:
            model: The network that is measured.
            images: Unperturbed images, (n, c, h, w) in [0, 1], the same ones after every epoch.
            epoch: Epochs already run.
            loss: Mean training loss of the last one.
        """
        training = self._training
        if training.give_up_after is None:
            return None
        has_collapsed = loss >= self._guessing and predicts_one_class(model, images)
        self.collapsed = self.collapsed + 1 if has_collapsed else 0
        is_late = max(training.give_up_after, training.ramp) <= epoch / training.epochs < 1
        if self.collapsed < SUCCESSIVE or not is_late:
            return None
        return f"predicts one class for all {len(images)} images after epoch {epoch} of {training.epochs}"


def predicts_one_class(model: nn.Module, images: Tensor, /) -> bool:
    """Return whether a network in eval mode gives all images, (n, c, h, w), one class."""
    with mode(model), torch.no_grad():
        classes = torch.cat([model(batch).argmax(1) for batch in torch.split(images, BATCH_SIZE)])
    return bool((classes == classes[0]).all())
