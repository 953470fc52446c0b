"""Detects a trial that is certain to be useless: its network predicts one class and its loss is that of guessing."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from trainables.attacks.base import BATCH_SIZE
from trainables.models.modes import mode
from trainables.spec import TrainingSpec, drops

BELOW, ABOVE = 0.02, 0.3
"""Nats below the loss of guessing by the classes' shares, and above that of equal chances, that still count as such.

Few images of many classes have other shares than those trained on. A network whose loss is much larger has outputs that
exploded, from which training can come back.
"""

SUCCESSIVE = 3
"""Epochs in a row after which the network must have predicted one class: training can leave a plateau late."""

LEAST = 20
"""Fewest images that can show a collapse: fewer may get one class of a network that learns."""


class CollapseWatch:
    """Counts the epochs in a row, from the end of warm-up and ramp on, after which the network had collapsed.

    Nor do epochs count before the learning rate first drops, which may have been too high until then. A network is
    judged on the same images after every epoch, which must be `LEAST` and of two classes or more.

    Args:
        training: How the trial is trained.
        images: Unperturbed images, (n, c, h, w) in [0, 1].
        labels: (n,) int64.
        classes: Classes of the data set.

    Attributes:
        collapsed: The count; part of the trial's state.
    """

    def __init__(self, training: TrainingSpec, images: Tensor, labels: Tensor, /, *, classes: int) -> None:
        self._training, self._images = training, images
        shares = torch.unique(labels, return_counts=True)[1].double() / len(labels)
        # the least mean cross-entropy of any constant prediction, and that of equal chances
        self._guessing = float(torch.special.entr(shares).sum()), math.log(classes)
        self._first_drop = next(iter(drops(training.schedule, epochs=training.epochs)), 0.0)
        self._judges = training.give_up_after is not None and len(labels) >= LEAST and len(shares) > 1
        self.collapsed = 0

    def reason(self, networks: Collection[nn.Module], /, *, epoch: int, loss: float) -> str | None:
        """Return why the trial ends after this epoch, or None if it goes on.

        Args:
            networks: The network that is measured, and the one that is trained where that is another: an average of
                the weights shows late what the trained network has learned.
            epoch: Epochs already run.
            loss: Mean cross-entropy on the images of the one that is measured.
        """
        training, over = self._training, epoch / self._training.epochs
        if not self._judges or over < max(training.warmup, training.ramp) or over <= self._first_drop:
            return None
        least, equal = self._guessing
        guesses = least - BELOW <= loss <= equal + ABOVE
        has_collapsed = guesses and all(predicts_one_class(network, self._images) for network in networks)
        self.collapsed = self.collapsed + 1 if has_collapsed else 0
        if self.collapsed < SUCCESSIVE or not (training.give_up_after or 0.0) <= over < 1:
            return None
        return f"predicts one class for all {len(self._images)} images after epoch {epoch} of {training.epochs}"


def predicts_one_class(model: nn.Module, images: Tensor, /) -> bool:
    """Return whether a network in eval mode gives all images, (n, c, h, w), one class."""
    with mode(model), torch.no_grad():
        classes = torch.cat([model(batch).argmax(1) for batch in torch.split(images, BATCH_SIZE)])
    return bool((classes == classes[0]).all())
