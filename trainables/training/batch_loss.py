"""The loss of a batch; in two halves, where a device has no memory for a whole one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel
from trainables.methods.base import LossTerms, Method, Step
from trainables.models.modes import batch_statistics
from trainables.runtime import mixed_precision, release_memory
from trainables.seeding import derive, generator, seeded
from trainables.spec import TrialSpec

_SMALLEST = 4
"""Images below which a batch is not halved: batch norm needs two images in each part."""


def loss_terms(
    method: Method,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    /,
    *half: int,
    spec: TrialSpec,
    place: tuple[int, int],
) -> LossTerms:
    """Return a method's loss on some images; every draw is a function of the spec's seed, the place and the half.

    Args:
        method: What is trained.
        model: In training mode.
        x: Images, (n, c, h, w) in [0, 1].
        y: Labels, (n,) int64.
        half: Which half of a batch this is, 0 or 1; left out for a whole one.
        spec: The trial's.
        place: Epochs already run, and the batch's number within the epoch.
    """
    place_of_draws = (*place, *half)
    step = Step(
        model=model,
        x=x,
        y=y,
        norm=spec.evaluation.norm,
        threat=None if spec.train_epsilon is None else ThreatModel(spec.evaluation.norm, spec.train_epsilon),
        attack_steps=spec.training.attack_steps,
        bn=spec.training.craft_mode.bn,
        dropout=spec.training.craft_mode.dropout,
        generator=generator(spec.seed, "craft", *place_of_draws, device=x.device),
        craft_seed=derive(spec.seed, "craft dropout", *place_of_draws),
    )
    masks = seeded(spec.seed, "dropout", *place_of_draws, device=x.device)
    with masks, mixed_precision(spec.training.precision, x.device):
        return method(step)


class MicroBatches:
    """Runs batches whole until the device runs out of memory once, and in two halves from then on.

    The halves' gradients add up to the gradient of the whole batch's mean loss, so a step has the same effective
    batch; but batch norm normalises over a half, and each half has random starts and dropout masks of its own.

    Args:
        model: The network that is trained.

    Attributes:
        size: Images a pass since memory ran out; None while it has not.
    """

    def __init__(self, model: nn.Module, /) -> None:
        self.size: int | None = None
        self._statistics = batch_statistics(model)

    def run(
        self, compute: Callable[..., LossTerms], x: Tensor, y: Tensor, /, *, clear: Callable[[], None]
    ) -> LossTerms:
        """Compute the loss of a batch and its gradients.

        Args:
            compute: Returns the loss terms of images and labels; a third argument is the half's number, 0 or 1.
            x: (n, ...) images.
            y: (n,) labels.
            clear: Sets the gradients to zero.

        Returns:
            The terms of all n images, those of the first half first where there are two.

        Raises:
            torch.OutOfMemoryError: The halves do not fit either.
        """
        clear()
        if self.size is not None:
            return self._halves(compute, x, y)
        before = [buffer.clone() for buffer in self._statistics]
        try:
            terms = compute(x, y)
            torch.autograd.backward(terms.total.mean())
            return terms
        except torch.OutOfMemoryError:
            if len(y) < _SMALLEST:
                raise
        # Out of the handler: the exception kept every tensor of the failed pass alive.
        clear()
        release_memory()
        for buffer, kept in zip(self._statistics, before, strict=True):
            buffer.copy_(kept)
        self.size = (len(y) + 1) // 2
        return self._halves(compute, x, y)

    def _halves(self, compute: Callable[..., LossTerms], x: Tensor, y: Tensor) -> LossTerms:
        if self.size is not None and len(y) <= max(self.size, _SMALLEST - 1):
            terms = compute(x, y)
            torch.autograd.backward(terms.total.mean())
            return terms
        halves = []
        # Every other image: where a pool's images follow the split's own, each half has as many of either.
        for half in (0, 1):
            terms = compute(x[half::2], y[half::2], half)
            torch.autograd.backward(terms.total.sum() / len(y))
            halves.append(LossTerms({name: part.detach() for name, part in terms.parts.items()}, terms.weights))
        first, second = halves
        return LossTerms(
            {name: torch.cat([part, second.parts[name]]) for name, part in first.parts.items()}, first.weights
        )
