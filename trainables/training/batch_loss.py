"""The loss of a batch, computed in two halves if the device has too little memory for the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainables.attacks.threat import ThreatModel
from trainables.methods.base import LossTerms, Method, Step, terms_of
from trainables.models.modes import batch_statistics, frozen_statistics
from trainables.models.moved import at_moved_weights, moves_up
from trainables.runtime import mixed_precision, release_memory
from trainables.seeding import derive, generator, seeded
from trainables.spec import TrialSpec
from trainables.training.compiling import Compiled

_SMALLEST = 4
"""Smallest batch that is halved: batch norm needs two images in each half."""


def loss_terms(
    method: Method,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    /,
    *half: int,
    spec: TrialSpec,
    place: tuple[int, int],
    strength: float = 1.0,
    **given: Any,
) -> LossTerms:
    """Return a method's loss on a batch or half; every draw is a function of the spec's seed, the place and the half.

    With `training.awp` it is the loss at weights moved up the loss (see `moves_up`), at the same points and under the
    same dropout masks. Running statistics are updated at the moved weights only, as in the authors' code, and not by
    crafting.

    Args:
        method: The training method.
        model: In training mode.
        x: Images, (n, c, h, w) in [0, 1].
        y: Labels, (n,) int64.
        half: Which half of a batch this is, 0 or 1; omitted for a whole batch.
        spec: The trial's spec.
        place: Number of epochs already run, and the batch's number within the epoch.
        strength: Factor of the training radius and of the weights of the loss's parts, in (0, 1].
        given: `progress` and `helper` of the `Step`.
    """
    path = (*place, *half)
    radius = None if spec.train_epsilon is None else strength * spec.train_epsilon
    step = Step(
        model=model,
        x=x,
        y=y,
        norm=spec.evaluation.norm,
        threat=None if radius is None else ThreatModel(spec.evaluation.norm, radius),
        attack_steps=spec.training.attack_steps,
        bn=spec.training.craft_mode.bn,
        dropout=spec.training.craft_mode.dropout,
        generator=generator(spec.seed, "craft", *path, device=x.device),
        craft_seed=derive(spec.seed, "craft dropout", *path),
        bounds_power=spec.training.bounds_power,
        **given,
    )

    def evaluated(step: Step) -> LossTerms:
        masks = seeded(spec.seed, "dropout", *path, device=x.device)
        with masks, mixed_precision(spec.training.precision, x.device):
            terms = terms_of(spec.method, method, step)
        return LossTerms(terms.parts, {name: strength * weight for name, weight in terms.weights.items()})

    if spec.training.awp == 0 or not step.attacks:
        return evaluated(step)
    with frozen_statistics(model):
        loss = evaluated(step).total.mean()
    plain = model.model if isinstance(model, Compiled) else model
    moves = moves_up(plain, loss, share=strength * spec.training.awp)
    return at_moved_weights(plain, moves, lambda: evaluated(step.repeated(plain)))


class MicroBatches:
    """Runs whole batches until the device runs out of memory, and two halves of each from then on.

    The halves' gradients add up to the gradient of the whole batch's mean loss, so the effective batch of a step is
    the same; but batch norm normalises over a half, and each half has its own random starts and dropout masks.

    Args:
        model: The network that is trained.

    Attributes:
        size: Images per pass since memory ran out; None if it has not.
    """

    def __init__(self, model: nn.Module, /) -> None:
        self.size: int | None = None
        self._statistics = batch_statistics(model)

    def run(
        self, compute: Callable[..., LossTerms], x: Tensor, y: Tensor, /, *, clear: Callable[[], None]
    ) -> LossTerms:
        """Compute the loss of a batch and its gradients.

        Args:
            compute: Returns the loss terms of images and labels; takes the half's number, 0 or 1, as a third argument.
            x: (n, ...) images.
            y: (n,) labels.
            clear: Sets the gradients to zero.

        Returns:
            The terms of all n images; if the batch was halved, the first half's come first.

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
        # Outside the handler, as the exception keeps every tensor of the failed pass alive.
        clear()
        release_memory()
        for buffer, saved in zip(self._statistics, before, strict=True):
            buffer.copy_(saved)
        self.size = (len(y) + 1) // 2
        return self._halves(compute, x, y)

    def _halves(self, compute: Callable[..., LossTerms], x: Tensor, y: Tensor) -> LossTerms:
        if self.size is not None and len(y) <= max(self.size, _SMALLEST - 1):
            terms = compute(x, y)
            torch.autograd.backward(terms.total.mean())
            return terms
        halves = []
        # Every other image, so that each half has as many images of the pool as of the split if there is a pool.
        for half in (0, 1):
            terms = compute(x[half::2], y[half::2], half)
            torch.autograd.backward(terms.total.sum() / len(y))
            halves.append(LossTerms({name: part.detach() for name, part in terms.parts.items()}, terms.weights))
        first, second = halves
        return LossTerms(
            {name: torch.cat([part, second.parts[name]]) for name, part in first.parts.items()}, first.weights
        )
