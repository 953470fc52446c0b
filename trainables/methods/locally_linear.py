"""Local linearity regularisation.

Source: Qin et al. 2019, "Adversarial Robustness through Local Linearization" (arXiv 1907.02610), the LLR objective and
its algorithm 1; the variant `as_run` is the computation of the code published with Yang et al. 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from trainables.attacks.base import input_gradient
from trainables.attacks.losses import cross_entropy, cross_entropy_against
from trainables.attacks.pgd import constant_steps
from trainables.attacks.threat import ThreatModel, per_example
from trainables.methods.base import LossTerms, Step
from trainables.models.modes import frozen_statistics
from trainables.seeding import replay
from trainables.settings import setting

START = 0.001
"""Standard deviation of `as_run`'s start, in input units."""

AS_RUN_STEPS = 2
"""Steps of `as_run`, each half the radius long; `training.attack_steps` does not apply."""


@dataclass(frozen=True, kw_only=True)
class LocallyLinear:
    """CE(x) + lambda*gamma + mu*|delta.g|, g the input gradient of CE, delta by ascent on gamma in the ball.

    gamma = |CE(x + delta) - CE(x) - delta.g| is the deviation of CE from linearity at delta. The loss is
    differentiated through g. Natural training at lambda = mu = 0 or radius 0.

    The variant `as_run` is CE(x) + lambda*CE(x + delta), delta by 2 steps of half the radius along the gradient of
    CE over its norm: the paper's code sets g to zero by accident, and with it the linear term and mu.
    """

    attacks: ClassVar[bool] = True
    second_order: ClassVar[bool] = True
    paper: ClassVar[tuple[Mapping[str, float], ...]] = ({"lambda": 4.0, "mu": 3.0}, {"lambda": 3.0, "mu": 6.0})
    lambda_: float = setting(
        4.0, doc="weight of the deviation from linearity", low=0.0, high=1000.0, search=(0.5, 10.0), log=True
    )
    mu: float = setting(
        3.0,
        doc="weight of the linear change; not used by as_run",
        low=0.0,
        high=1000.0,
        search=(0.5, 10.0),
        log=True,
    )
    variant: str = setting(
        "published", doc="the published loss, or the loss in the paper's code", choices=("published", "as_run")
    )

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss in the parts `clean`, `nonlinearity` and `linear_change`; as_run: `clean`, `adversarial`."""
        if self.variant == "as_run":
            return self._as_run(step)
        if (self.lambda_ == 0 and self.mu == 0) or step.threat is None or not step.attacks:
            return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)})
        with step.full_precision():
            delta = step.find(partial(_least_linear, step, step.threat))
            twin = step.twin_pass()
            x = step.x.detach().requires_grad_()
            clean = cross_entropy(step.model(x), step.y)
            (gradient,) = torch.autograd.grad(clean.sum(), x, create_graph=True)
            linear = _dot(delta, gradient)
            parts, weights = {"clean": clean}, {}
            if self.lambda_ > 0:
                with twin():
                    moved = cross_entropy(step.model(step.x + delta), step.y)
                parts["nonlinearity"], weights["nonlinearity"] = (moved - clean - linear).abs(), self.lambda_
            if self.mu > 0:
                parts["linear_change"], weights["linear_change"] = linear.abs(), self.mu
        return LossTerms(parts, weights)

    def _as_run(self, step: Step) -> LossTerms:
        if self.lambda_ == 0 or step.threat is None or not step.attacks:
            return LossTerms({"clean": cross_entropy(step.model(step.x), step.y)})
        x_adv = step.x + step.find(partial(_as_run_delta, step, step.threat))
        clean = cross_entropy(step.model(step.x), step.y)
        with frozen_statistics(step.model):
            adversarial = cross_entropy(step.model(x_adv), step.y)
        return LossTerms({"clean": clean, "adversarial": adversarial}, {"adversarial": self.lambda_})


def _least_linear(step: Step, threat: ThreatModel) -> Tensor:
    """Return the last iterate of projected ascent on gamma from a random start, shaped as `x`."""
    x, objective = step.x, cross_entropy_against(step.y)
    with step.crafting():
        # The same dropout masks in all passes, as gamma compares them.
        replayed = replay(device=x.device)
        with replayed():
            gradient, clean, _ = input_gradient(step.model, x, objective)
        points = threat.random_start(x, generator=step.generator)
        for length in constant_steps(threat, step.attack_steps):
            with replayed():
                slope, moved, _ = input_gradient(step.model, points, objective)
            rising = (moved - clean - _dot(points - x, gradient)).sign()
            ascent = per_example(rising, x) * (slope - gradient)
            points = threat.project(threat.ascend(points, ascent, step=length), x)
    return points - x


def _as_run_delta(step: Step, threat: ThreatModel) -> Tensor:
    x, draws = step.x, step.generator
    delta = START * torch.randn(x.shape, generator=draws, device=x.device, dtype=x.dtype)
    with step.crafting():
        for _ in range(AS_RUN_STEPS):
            gradient, _, _ = input_gradient(step.model, x + delta, cross_entropy_against(step.y))
            length = threat.distance(gradient, torch.zeros_like(gradient))
            # The paper's code replaces a gradient of zero with noise.
            noise = torch.randn(x.shape, generator=draws, device=x.device, dtype=x.dtype)
            direction = torch.where(per_example(length == 0, x), noise, gradient / per_example(length, x))
            delta = (x + delta + threat.epsilon / AS_RUN_STEPS * direction).clamp(0, 1) - x
            size = threat.distance(delta, torch.zeros_like(delta))
            delta = delta * per_example(threat.epsilon / size.clamp_min(threat.epsilon), x)
    return delta


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
