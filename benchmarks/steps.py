"""Training steps, attack and Lipschitz estimate against plain implementations, and a lower bound on a step's time.

Random 28x28 images, cnn2 (no dropout and no batch norm, so its mode does not matter), linf. The plain implementations
are straightforward: gradients by `backward()`, including those of the parameters, clean passes repeated wherever they
are needed, every image attacked for all steps, contiguous tensors. Both alternate; the ratio is that of the medians.
The lower bound of an adversarial training step is ten gradients of the input and one pass for the parameters alone.

    python benchmarks/steps.py [--rounds 5] [--batch 128] [--threads 2]
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.attacks.base import run_attack
from trainables.attacks.pgd import pgd
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.evaluation.lipschitz import local_lipschitz
from trainables.methods.base import Step, build_method
from trainables.models import build_model
from trainables.models.inputs import memory_format
from trainables.runtime import computing
from trainables.seeding import seeded
from trainables.training.optimizers import build_optimizer

EPSILON, STEPS, LR, MOMENTUM = 0.1, 10, 1e-4, 0.9
ATTACK_EPSILON = 0.005
"""Radius of the evaluation attack: at the training radius every image of an untrained network is fooled at once."""
LIPSCHITZ_STEPS, RESTARTS = 20, 2

Run = Callable[[], object]
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """A network and its images (n, 1, 28, 28) and labels (n,), in one memory layout."""

    model: nn.Module
    x: Tensor
    y: Tensor

    def laid_out(self, layout: torch.memory_format, /) -> Batch:
        """Return a copy in another layout, with its own weights."""
        model = copy.deepcopy(self.model).to(memory_format=layout)  # type: ignore[call-overload]
        return Batch(model, self.x.clone(memory_format=layout), self.y)


def make_batch(size: int) -> Batch:
    """Return cnn2 and random images; half the labels are the network's own predictions, the others random."""
    with seeded(0):
        model = build_model("cnn2", image_shape=(1, 28, 28), num_classes=10, dropout=0.0, mean=[0.5], std=[0.5])
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight)  # the last layer is initially zero
        x, y = torch.rand(size, 1, 28, 28), torch.randint(0, 10, (size,))
    with torch.no_grad():
        y[::2] = model(x).argmax(1)[::2]
    return Batch(model, x, y)


def our_loss(name: str, batch: Batch) -> Callable[[], Tensor]:
    """Return the loss of a registered method with its defaults."""
    method = build_method(name, {})
    step = Step(
        model=batch.model, x=batch.x, y=batch.y, norm="linf", attack_steps=STEPS, bn="eval", dropout="eval",
        threat=ThreatModel("linf", EPSILON) if method.attacks else None,
        generator=torch.Generator().manual_seed(0), craft_seed=0,
    )  # fmt: skip
    return lambda: method(step).total.mean()


def training_step(batch: Batch, loss: Callable[[], Tensor]) -> Run:
    """Return a step of SGD on the loss; both implementations use the same optimiser."""
    optimizer = build_optimizer(batch.model, name="sgd", momentum=MOMENTUM, weight_decay=0.0)

    def run() -> None:
        value = loss()
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step(LR)

    return run


def gradient(value: Tensor, points: Tensor) -> Tensor:
    """Return the gradient of a leaf by `backward()`, which also computes those of all parameters."""
    torch.autograd.backward(value)
    return torch.zeros_like(points) if points.grad is None else points.grad


def climb(net: nn.Module, x: Tensor, objective: Loss, *, epsilon: float = EPSILON, steps: int = STEPS) -> Tensor:
    """Return projected ascent's last iterate for all images, from a random start."""
    points = (x + torch.empty_like(x).uniform_(-epsilon, epsilon)).clamp(0, 1)
    for _ in range(steps):
        points = points.detach().requires_grad_()
        net.zero_grad()
        moved = points.detach() + 2 * epsilon / steps * gradient(objective(points).sum(), points).sign()
        points = torch.min(torch.max(moved, x - epsilon), x + epsilon).clamp(0, 1)
    return points


def plain_pgd(net: nn.Module, x: Tensor, y: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Return points of high cross-entropy."""
    return climb(net, x, lambda points: F.cross_entropy(net(points), y), epsilon=epsilon)


def plain_trades(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return TRADES as its authors' loop computes it: f(x) is recomputed at every step, both sides with a graph."""

    def divergence(points: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(net(points), dim=1), F.softmax(net(x), dim=1), reduction="sum")

    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv.requires_grad_()
        (slope,) = torch.autograd.grad(divergence(x_adv), x_adv)
        x_adv = x_adv.detach() + 2 * EPSILON / STEPS * slope.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPSILON), x + EPSILON).clamp(0, 1)
    return F.cross_entropy(net(x), y) + 6.0 * divergence(x_adv) / len(x)


def plain_gradient_regularization(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the finite-difference penalty: one pass for the direction, then two for the difference."""
    leaf = x.clone().requires_grad_()
    direction = gradient(F.cross_entropy(net(leaf), y, reduction="sum"), leaf).sign()
    clean = F.cross_entropy(net(x), y, reduction="none")
    shifted = F.cross_entropy(net(x + 0.01 * direction), y, reduction="none")
    return (clean + 0.05 * ((shifted - clean) / 0.01).square()).mean()


def plain_locally_linear(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the LLR loss, with the clean pass and its gradient recomputed at every step of the search."""

    def parts(points: Tensor, *, create_graph: bool) -> tuple[Tensor, Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        clean = F.cross_entropy(net(leaf), y, reduction="none")
        (slope,) = torch.autograd.grad(clean.sum(), leaf, create_graph=create_graph, retain_graph=True)
        linear = ((points - x) * slope).flatten(1).sum(1)
        moved = F.cross_entropy(net(points), y, reduction="none")
        return clean, (moved - clean - linear).abs(), linear.abs()

    moved = climb(net, x, lambda points: parts(points, create_graph=False)[1])
    clean, nonlinearity, linear_change = parts(moved, create_graph=True)
    return (clean + 4.0 * nonlinearity + 3.0 * linear_change).mean()


PLAIN: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "natural": lambda net, x, y: F.cross_entropy(net(x), y),
    "gradient_regularization": plain_gradient_regularization,
    "locally_linear": plain_locally_linear,
    "adversarial_training": lambda net, x, y: F.cross_entropy(net(plain_pgd(net, x, y)), y),
    "robust_self_training": lambda net, x, y: (
        F.cross_entropy(net(plain_pgd(net, x, y)), y) + F.cross_entropy(net(x), y)
    ),
    "trades": plain_trades,
}


def plain_attack(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return which images stay correct, (n,) bool; fooled images stay in the batch."""
    robust = net(x).argmax(1) == y
    for _ in range(RESTARTS):
        robust &= net(plain_pgd(net, x, y, ATTACK_EPSILON)).argmax(1) == y
    return robust


def plain_lipschitz(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the best ratios on raw and on centred logits, (n,) each, from separate searches."""
    best = [torch.zeros(len(x)), torch.zeros(len(x))]

    def rise(points: Tensor, *, form: int) -> Tensor:
        difference = net(points) - net(x)
        norm = (difference - form * difference.mean(1, keepdim=True)).abs().sum(1)
        best[form] = torch.max(best[form], norm.detach() / (points - x).detach().flatten(1).abs().amax(1))
        return norm

    for form in [0, 1] * RESTARTS:
        rise(climb(net, x, functools.partial(rise, form=form), steps=LIPSCHITZ_STEPS), form=form)
    return best


def floor_step(batch: Batch) -> Run:
    """Return ten gradients of the input and a pass for the parameters of the network without its normalisation."""
    network = batch.model.get_submodule("network")

    def run() -> None:
        network.requires_grad_(requires_grad=False)
        for _ in range(STEPS):
            x = batch.x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(network(x), batch.y), x)
        network.requires_grad_(requires_grad=True)
        network.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(batch.x), batch.y))

    return run


def medians(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the median seconds of each run; they alternate, in an order that is reversed every round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for number in range(rounds):
        for name in sorted(runs, reverse=number % 2 == 1):
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def comparisons(batch: Batch) -> dict[str, dict[str, Run]]:
    """Return both implementations of everything to time; for adversarial training, the lower bound in both layouts."""
    best, contiguous, pairs = memory_format(batch.model), torch.contiguous_format, {}
    for name in PLAIN:
        ours, plain = batch.laid_out(best), batch.laid_out(contiguous)
        plain_loss = functools.partial(PLAIN[name], plain.model, plain.x, plain.y)
        pairs[name] = {
            "ours": training_step(ours, our_loss(name, ours)),
            "plain": training_step(plain, plain_loss),
        }
    for layout in (contiguous, torch.channels_last):
        pairs["adversarial_training"][f"floor {layout}"] = floor_step(batch.laid_out(layout))
    net, plain_net = ((copied.model, copied.x, copied.y) for copied in map(batch.laid_out, (best, contiguous)))
    small = Ascent(ThreatModel("linf", ATTACK_EPSILON), STEPS, RESTARTS)
    large = Ascent(ThreatModel("linf", EPSILON), LIPSCHITZ_STEPS, RESTARTS)
    pairs["PGD evaluation"] = {
        "ours": lambda: run_attack(pgd, *net, ascent=small, seed=0),
        "plain": lambda: plain_attack(*plain_net),
    }
    pairs["Lipschitz"] = {
        "ours": lambda: local_lipschitz(*net, ascent=large, seed=0),
        "plain": lambda: plain_lipschitz(*plain_net[:2]),
    }
    return pairs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with computing(threads=options.threads):
        batch = make_batch(options.batch)
        print(f"cnn2, {options.batch} images, {options.threads} threads, medians of {options.rounds} rounds")
        print(f"{'':>24} {'ours':>10} {'plain':>10} {'ratio':>6}")
        for name, runs in comparisons(batch).items():
            times = medians(runs, options.rounds)
            print(f"{name:>24} {times['ours']:8.4f} s {times['plain']:8.4f} s {times['plain'] / times['ours']:6.2f}")
            floors = [seconds for kind, seconds in times.items() if kind.startswith("floor")]
            if floors:
                ours, floor = (options.batch / seconds for seconds in (times["ours"], min(floors)))
                print(f"{'':>24} {ours:.0f} images/s, at most {floor:.0f} by the lower bound: {ours / floor:.2f}")


if __name__ == "__main__":
    main()
